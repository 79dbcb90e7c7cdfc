"""The settings that training starts from: the defaults of each task, and presets. No JAX here."""

import dataclasses
from pathlib import Path
from typing import Any

from dncx.errors import UsageError, did_you_mean, one_of, quoted
from dncx.settings.training import (
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScaleSettings,
    TrainSettings,
)
from dncx.tasks.acting.settings import (
    AutoencodeSettings,
    ConcentrationSettings,
    CountRecallSettings,
    GymnaxSettings,
    RepeatFirstSettings,
    RepeatPreviousSettings,
    TMazeSettings,
)
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.chomsky.settings import ChomskySettings
from dncx.tasks.graphs.settings import (
    InferenceSettings,
    ShortestPathSettings,
    TraversalSettings,
)
from dncx.tasks.settings import AssociativeRecallSettings, CopySettings, RepeatCopySettings
from dncx.tasks.shrdlu.settings import MiniShrdluSettings


def settings_of(task: Any, **sections: Any) -> TrainSettings[Any]:
    """Settings of a task, with a run directory of its name; sections as in `TrainSettings`."""
    run = {"run_dir": Path("runs") / task.name} | sections.pop("run", {})
    return TrainSettings(task=task, run=RunSettings(**run), **sections)


@dataclasses.dataclass(frozen=True)
class Preset:
    """Named settings."""

    about: str  # their source, score and training time
    settings: TrainSettings[Any]


HELP = "help"  # --preset=help lists the presets


def _acting(task: Any, memory_size: int = 16) -> TrainSettings[Any]:
    """Settings of a task in which the network acts: 16 environments, 5.1 million steps.

    The optimiser is RMSProp, as for all tasks, with the rate, the limit and the epsilon (1e-5
    outside the square root) that are usual for PPO with Adam, and A3C's decay.
    """
    return settings_of(
        task,
        model=ModelSettings(memory_size=memory_size),
        optimizer=OptimizerSettings(learning_rate=3e-4, max_grad_norm=0.5, rmsprop_decay=0.99),
        run=dict(batch_size=16, num_training_iterations=5_000),
    )


_NTM = OptimizerSettings(learning_rate=1e-4, momentum=0.9, max_grad_norm=10.0)
_GRAPHS = ModelSettings(memory_size=64, hidden_size=128, word_size=32)

DEFAULTS: dict[str, TrainSettings[Any]] = {
    settings.task_name: settings
    for settings in (
        settings_of(RepeatCopySettings()),
        settings_of(
            CopySettings(),
            model=ModelSettings(memory_size=32, hidden_size=100, num_read_heads=1),
            optimizer=_NTM,
        ),
        settings_of(
            AssociativeRecallSettings(),
            model=ModelSettings(memory_size=32, hidden_size=100, word_size=20),
            optimizer=_NTM,
        ),
        settings_of(
            BabiSettings(),
            model=ModelSettings(memory_size=64, hidden_size=128, word_size=32),
            optimizer=_NTM,
        ),
        settings_of(TraversalSettings(), model=_GRAPHS, optimizer=_NTM),
        settings_of(ShortestPathSettings(), model=_GRAPHS, optimizer=_NTM),
        settings_of(InferenceSettings(), model=_GRAPHS, optimizer=_NTM),
        # The batches and iterations of the example in the paper's code, with a smaller network.
        settings_of(
            ChomskySettings(),
            model=ModelSettings(memory_size=64, hidden_size=128, num_read_heads=1),
            optimizer=_NTM,
            run=dict(batch_size=128, num_training_iterations=10_000),
        ),
        _acting(RepeatPreviousSettings()),
        _acting(RepeatFirstSettings()),
        _acting(AutoencodeSettings(), memory_size=64),
        _acting(CountRecallSettings()),
        _acting(ConcentrationSettings(), memory_size=64),
        _acting(TMazeSettings()),
        _acting(GymnaxSettings()),
        settings_of(
            MiniShrdluSettings(),
            model=ModelSettings(memory_size=32, hidden_size=128, word_size=32, num_read_heads=3),
            optimizer=OptimizerSettings(learning_rate=3e-4, momentum=0.9, max_grad_norm=10.0),
            run=dict(batch_size=32),
        ),
    )
}
ABOUT = {
    "repeat-copy": "Repeat a pattern of bits a given number of times (google-deepmind/dnc).",
    "copy": "Copy a sequence of bits, or several in a series (NTM, Nature).",
    "associative-recall": "Recall the item that followed a given one (NTM).",
    "babi": "Answer questions about short stories: the 20 bAbI tasks (Nature).",
    "traversal": "Follow a list of edges through a graph (Nature).",
    "shortest-path": "Find a shortest path between two nodes of a graph (Nature).",
    "inference": "Infer where unnamed relations lead in a graph (Nature).",
    "chomsky": "Answer strings of one of 15 formal languages (Delétang et al.).",
    "repeat-previous": "Act: name the suit of the card shown k - 1 steps before (POPGym).",
    "repeat-first": "Act: name the suit of the first card at every step (POPGym).",
    "autoencode": "Act: watch a deck of cards, then name them in reverse order (POPGym).",
    "count-recall": "Act: state how often a kind of card was shown (POPGym).",
    "concentration": "Act: find pairs among cards that lie face down (POPGym).",
    "t-maze": "Act: remember a sign along a corridor, then turn to its side (Bakker).",
    "gymnax": 'Act: any environment of gymnax with discrete actions (pip install "dncx[rl]").',
    "mini-shrdlu": "Act: hear several goals, then move blocks to reach one (Nature).",
}


def _paper(
    task: Any, model: dict[str, Any], batch_size: int, rate: float, **run: Any
) -> TrainSettings[Any]:
    """Settings of Extended Data Table 2.

    The paper does not state the number of iterations, RMSProp's decay and epsilon, or a limit for
    the gradient norm. Here it is 50, as in the original, in addition to the paper's clipping.
    """
    return settings_of(
        task,
        model=ModelSettings(equations="nature", **model),
        optimizer=OptimizerSettings(learning_rate=rate, momentum=0.9),
        run=dict(batch_size=batch_size, num_training_iterations=1_000_000) | run,
    )


def _turing(task: Any) -> TrainSettings[Any]:
    """Settings of the NTM paper's LSTM controller; it used batches of 1 and clipped elements."""
    return settings_of(
        task,
        model=ModelSettings(
            model="ntm", memory_size=128, word_size=20, num_read_heads=1, hidden_size=100
        ),
        optimizer=_NTM,
        run=dict(num_training_iterations=60_000),
    )


def _masked(**variant: Any) -> TrainSettings[Any]:
    """Settings of Csordás and Schmidhuber on bAbI, for a DNC-MD or one with another option.

    The settings are those of their code, which adds its weight decay to the gradients.
    """
    return settings_of(
        BabiSettings(),
        model=ModelSettings(
            memory_size=256,
            word_size=64,
            num_read_heads=4,
            hidden_size=256,
            embedding_size=128,
            content_mask=True,
            wipe_freed=True,
            **variant,
        ),
        optimizer=OptimizerSettings(
            learning_rate=1e-4,
            momentum=0.9,
            rmsprop_decay=0.99,
            max_grad_norm=10.0,
            weight_decay=1e-5,
        ),
        run=dict(
            batch_size=2,
            num_training_iterations=500_000,
            validation_interval=20_000,
            checkpoint_interval=5_000,
        ),
    )


_UNTRAINED = "We have not trained it to the end"
_CSORDAS = "Csordás and Schmidhuber 2019, table 1"
_TABLE_2 = "Graves et al. 2016, Extended Data Table 2. Paper"
_SERIES = CopySettings(min_length=5, max_length=5, num_sequences=10)
PRESETS: dict[str, Preset] = {
    "memory-reuse": Preset(
        "10 sequences through 10 slots, feed-forward controller (Graves et al. 2016, Extended Data "
        "Fig. 1; bits, sizes and learning rate are ours). Recalls 94 % of the series without a "
        "mistake after 25 minutes on two cores, the last part at a lower rate (docs/results).",
        settings_of(
            _SERIES,
            model=ModelSettings(
                controller="feedforward", memory_size=10, num_read_heads=1, hidden_size=100
            ),
            optimizer=OptimizerSettings(learning_rate=3e-4, max_grad_norm=10.0),
            run=dict(num_training_iterations=30_000, checkpoint_interval=5_000),
        ),
    ),
    "nature-copy": Preset(
        "1 to 100 vectors of 6 bits, feed-forward controller (Graves et al. 2016, Extended Data "
        "Fig. 4; slots, sizes and learning rate are ours). The paper measures the share of "
        f"sequences with a mistake. {_UNTRAINED}: 4 iterations/s on two cores, 7 hours in total.",
        settings_of(
            CopySettings(num_bits=6, max_length=100),
            model=ModelSettings(
                equations="nature",
                controller="feedforward",
                memory_size=128,
                num_read_heads=1,
                hidden_size=100,
            ),
            optimizer=_NTM,
        ),
    ),
    "ntm-copy": Preset(
        "Task and sizes of Graves et al. 2014, section 4.6. "
        f"{_UNTRAINED}: 14 iterations/s on two cores, 70 minutes in total.",
        _turing(CopySettings()),
    ),
    "ntm-associative-recall": Preset(
        "Task and sizes of Graves et al. 2014, section 4.6. Paper: near 0 bits after 30,000 "
        f"episodes. {_UNTRAINED}: 15 iterations/s on two cores, 67 minutes in total.",
        _turing(AssociativeRecallSettings()),
    ),
    "babi": Preset(
        "All 20 tasks with 64 slots, masks and wiping (DNC-MD), interface norm and dropout (ADNC), "
        "and an auxiliary loss. 16.3 % mean error after 33 minutes on one core (docs/results).",
        settings_of(
            BabiSettings(longest=400, task_sampling="mixed", auxiliary_loss=1.0, num_buckets=12),
            model=ModelSettings(
                memory_size=64,
                word_size=32,
                num_read_heads=4,
                hidden_size=192,
                embedding_size=64,
                content_mask=True,
                wipe_freed=True,
                interface_norm=True,
            ),
            optimizer=OptimizerSettings(
                learning_rate=3e-4,
                learning_rate_schedule="cosine",
                warmup_iterations=1_000,
                momentum=0.9,
                max_grad_norm=10.0,
                weight_average=0.999,
                output_dropout=0.1,
            ),
            scale=ScaleSettings(gradient_accumulation=2),
            run=dict(
                batch_size=8,
                num_training_iterations=25_000,
                report_interval=500,
                validation_interval=5_000,
                checkpoint_interval=2_500,
            ),
        ),
    ),
    "nature-babi": Preset(
        f"{_TABLE_2}: 16.7 % mean error (20 runs, each with 16 workers on CPUs); its LSTM "
        f"(--model=lstm --hidden_size=512): 27.3 %. {_UNTRAINED}: 30 stories/s on two cores, "
        "9 hours in total.",
        _paper(
            BabiSettings(),
            dict(memory_size=256, word_size=64, num_read_heads=4, hidden_size=256),
            batch_size=1,
            rate=1e-4,
            validation_interval=50_000,
        ),
    ),
    "dnc-md": Preset(
        f"{_CSORDAS} (DNC-MD): 9.5 % mean error, with 3 blank steps before each answer, which are "
        f"left out here. {_UNTRAINED}.",
        _masked(),
    ),
    "dnc-mds": Preset(
        f"{_CSORDAS} (DNC-MDS): 11.0 % mean error, with 3 blank steps before each answer, which "
        f"are left out here. {_UNTRAINED}.",
        _masked(sharpen_links=True),
    ),
    "adnc": Preset(
        "Franke, Niehues, Waibel 2018, the ADNC in one direction: 6.3 % mean error in the README "
        "of their code. Sizes and settings are theirs, except for the forget bias (0, here 1). "
        f"{_UNTRAINED}.",
        settings_of(
            BabiSettings(longest=500),
            model=ModelSettings(
                memory_size=192,
                word_size=64,
                num_read_heads=4,
                hidden_size=256,
                linkage="none",
                interface_norm=True,
                controller_norm=True,
            ),
            optimizer=OptimizerSettings(
                learning_rate=3e-5, momentum=0.9, max_grad_value=10.0, output_dropout=0.1
            ),
            run=dict(
                batch_size=32,
                num_training_iterations=86_000,
                validation_interval=5_000,
                checkpoint_interval=1_000,
            ),
        ),
    ),
    "nature-traversal": Preset(
        f"{_TABLE_2}: 98.8 % of random 7-step paths on the Underground, after about 1M episodes. "
        f"{_UNTRAINED}: 10 iterations/s on two cores in lesson 1, fewer in later ones.",
        _paper(
            TraversalSettings(),
            dict(memory_size=256, word_size=50, num_read_heads=5, hidden_size=256, num_layers=3),
            batch_size=2,
            rate=1e-5,
        ),
    ),
    "nature-shortest-path": Preset(
        f"{_TABLE_2}: 55.3 % of 4-step paths on the Underground. "
        f"{_UNTRAINED}: 20 iterations/s on two cores in lesson 1, fewer in later ones.",
        _paper(
            ShortestPathSettings(),
            dict(memory_size=128, word_size=50, num_read_heads=5, hidden_size=256, num_layers=2),
            batch_size=1,
            rate=3e-6,
        ),
    ),
    "nature-inference": Preset(
        f"{_TABLE_2}: 81.8 % of 4-step relations on a family tree. "
        f"{_UNTRAINED}: 2 iterations/s on two cores in lesson 1, fewer in later ones.",
        _paper(
            InferenceSettings(),
            dict(memory_size=128, word_size=50, num_read_heads=5, hidden_size=256, num_layers=3),
            batch_size=32,
            rate=1e-5,
        ),
    ),
    "nature-mini-shrdlu": Preset(
        f"{_TABLE_2}, the DNC of Fig. 4; policy gradient, a second DNC for the values. Paper: only "
        f"the DNC passed all lessons, in 20 runs. {_UNTRAINED}.",
        _paper(
            MiniShrdluSettings(
                method="policy_gradient", separate_value=True, gae_lambda=0.75, entropy_cost=0.5
            ),
            dict(memory_size=32, word_size=100, num_read_heads=3, hidden_size=250, num_layers=2),
            batch_size=32,
            rate=3e-5,
        ),
    ),
}


def of_task(task_name: str) -> dict[str, Preset]:
    """The presets of a task."""
    return {
        name: preset for name, preset in PRESETS.items() if preset.settings.task_name == task_name
    }


def starting_settings(task_name: str, preset: str) -> TrainSettings[Any]:
    """The settings of a preset.

    Raises:
      UsageError: if the task has no preset of this name.
    """
    known = of_task(task_name)
    if preset not in known:
        names = f"choose {one_of([*known])}" if known else "it has no presets"
        other = PRESETS.get(preset)
        hint = f"; it is a preset of {other.settings.task_name}" if other else ""
        raise UsageError(
            f"--preset={quoted(preset)}: {task_name} has no such preset; {names}"
            f"{hint or did_you_mean(preset, known)}"
        )
    settings = known[preset].settings
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, preset=preset))
