"""The settings with which each task is trained: the defaults, and named ones. No JAX here."""

import dataclasses
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.settings import AssociativeRecallSettings, CopySettings, RepeatCopySettings
from dncx.training.settings import ModelSettings, OptimizerSettings, RunSettings, TrainSettings


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
    )
}
ABOUT = {
    "repeat-copy": "Repeat a pattern of bits as often as a number says (google-deepmind/dnc).",
    "copy": "Copy a sequence of bits, or a series of them one after the other (NTM; Nature).",
    "associative-recall": "Give the item that followed the one asked for (NTM).",
    "babi": "Answer questions about short stories, all 20 tasks together (Nature).",
}
PRESETS: dict[str, Preset] = {}


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
