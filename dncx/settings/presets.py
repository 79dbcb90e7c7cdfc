"""The settings with which each task is trained: the defaults, and named ones. No JAX here."""

import dataclasses
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.settings.training import ModelSettings, OptimizerSettings, RunSettings, TrainSettings
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.graphs.settings import (
    InferenceSettings,
    ShortestPathSettings,
    TraversalSettings,
)
from dncx.tasks.settings import AssociativeRecallSettings, CopySettings, RepeatCopySettings


def settings_of(task: Any, **sections: Any) -> TrainSettings[Any]:
    """Settings of a task, its run directory by its name; sections as in `TrainSettings`."""
    run = {"run_dir": Path("runs") / task.name} | sections.pop("run", {})
    return TrainSettings(task=task, run=RunSettings(**run), **sections)


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings by name, and what is known of them."""

    about: str  # source, hardware, minutes and expected score
    settings: TrainSettings[Any]


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
    )
}
ABOUT = {
    "repeat-copy": "Repeat a pattern of bits as often as a number says (google-deepmind/dnc).",
    "copy": "Copy a sequence of bits, or a series of them one after the other (NTM; Nature).",
    "associative-recall": "Give the item that followed the one asked for (NTM).",
    "babi": "Answer questions about short stories, all 20 tasks together (Nature).",
    "traversal": "Follow a list of edges through a graph (Nature).",
    "shortest-path": "Walk from one node of a graph to another in the fewest steps (Nature).",
    "inference": "Say where relations lead in a graph that are never defined (Nature).",
}


def _paper(
    task: Any, model: dict[str, Any], batch_size: int, rate: float, **run: Any
) -> TrainSettings[Any]:
    """Of Extended Data Table 2.

    Not stated in the paper: the number of iterations; of RMSProp decay and epsilon; a limit of the
    gradient's norm (here the original's, 50, beside the paper's own clipping).
    """
    return settings_of(
        task,
        model=ModelSettings(equations="nature", **model),
        optimizer=OptimizerSettings(learning_rate=rate, momentum=0.9),
        run=dict(batch_size=batch_size, num_training_iterations=1_000_000) | run,
    )


def _turing(task: Any) -> TrainSettings[Any]:
    """Of the NTM paper with an LSTM controller, which had batches of 1 and clipped element-wise."""
    return settings_of(
        task,
        model=ModelSettings(
            model="ntm", memory_size=128, word_size=20, num_read_heads=1, hidden_size=100
        ),
        optimizer=_NTM,
        run=dict(num_training_iterations=60_000),
    )


_TABLE_2 = "Graves et al. 2016, Extended Data Table 2. The paper's score: "
_TURING = "Graves et al. 2014, section 4.6. "
_UNTRAINED = "Not trained here to the end: on two cores "
_SERIES = CopySettings(min_length=5, max_length=5, num_sequences=10)
PRESETS: dict[str, Preset] = {
    "memory-reuse": Preset(
        "a series of 10 sequences through 10 slots, without a recurrent controller (Graves et al. "
        "2016, Extended Data Fig. 1; bits, sizes and rate are ours). 25 minutes on two cores, with "
        "a second part at a smaller rate (docs/results): 94 % of the series are without a mistake",
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
        "1 to 100 vectors of 6 bits, without a recurrent controller (Graves et al. 2016, Extended "
        "Data Fig. 4; slots, sizes and rate are ours). The paper's measure: sequences with any "
        "mistake. " + _UNTRAINED + "4 iterations/s, 7 hours in all",
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
        _TURING + "Its task and sizes. " + _UNTRAINED + "14 iterations/s, 70 minutes in all",
        _turing(CopySettings()),
    ),
    "ntm-associative-recall": Preset(
        _TURING
        + "The paper's score: near 0 bits after 30,000 episodes. "
        + _UNTRAINED
        + "15 iterations/s, 67 minutes in all",
        _turing(AssociativeRecallSettings()),
    ),
    "nature-babi": Preset(
        _TABLE_2 + "16.7 % mean error (20 runs, each with 16 workers on CPUs); its "
        "LSTM: --model=lstm --hidden_size=512, 27.3 %. "
        + _UNTRAINED
        + "30 stories/s, 9 hours in all",
        _paper(
            BabiSettings(),
            dict(memory_size=256, word_size=64, num_read_heads=4, hidden_size=256),
            batch_size=1,
            rate=1e-4,
            validation_interval=50_000,
        ),
    ),
    "nature-traversal": Preset(
        _TABLE_2
        + "98.8 % of random 7-step paths on the Underground, after about 1M episodes. "
        + _UNTRAINED
        + "10 iterations/s in lesson 1, and fewer in later ones",
        _paper(
            TraversalSettings(),
            dict(memory_size=256, word_size=50, num_read_heads=5, hidden_size=256, num_layers=3),
            batch_size=2,
            rate=1e-5,
        ),
    ),
    "nature-shortest-path": Preset(
        _TABLE_2
        + "55.3 % of 4-step paths on the Underground. "
        + _UNTRAINED
        + "20 iterations/s in lesson 1, and fewer in later ones",
        _paper(
            ShortestPathSettings(),
            dict(memory_size=128, word_size=50, num_read_heads=5, hidden_size=256, num_layers=2),
            batch_size=1,
            rate=3e-6,
        ),
    ),
    "nature-inference": Preset(
        _TABLE_2
        + "81.8 % of 4-step relations on a family tree. "
        + _UNTRAINED
        + "2 iterations/s in lesson 1, and fewer in later ones",
        _paper(
            InferenceSettings(),
            dict(memory_size=128, word_size=50, num_read_heads=5, hidden_size=256, num_layers=3),
            batch_size=32,
            rate=1e-5,
        ),
    ),
}


def starting_settings(task_name: str, preset: str | None) -> TrainSettings[Any]:
    """The settings that flags make changes to.

    Raises:
      UsageError: there is no such preset of this task.
    """
    if preset is None:
        return DEFAULTS[task_name]
    names = [name for name in PRESETS if PRESETS[name].settings.task_name == task_name]
    if preset not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise UsageError(f"--preset {preset}: {task_name} has no such preset; {known}")
    settings = PRESETS[preset].settings
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, preset=preset))
