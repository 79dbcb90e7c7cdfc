"""The command line, parsed: `train TASK`, `eval RUN`, `explore RUN` with the options of each task,
and `export RUN`, `debug RUN`, `runs DIR`.

No JAX here.
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from dncx.errors import UsageError
from dncx.runs.codec import from_plain
from dncx.runs.paths import CONFIG, find_run
from dncx.runs.summary import read_finished
from dncx.settings import presets
from dncx.settings.commands import (
    DebugSettings,
    EvalSettings,
    ExploreSettings,
    ExportSettings,
    NoTask,
    RunsSettings,
)
from dncx.settings.training import TrainSettings

_STYLE: dict[str, Any] = {
    "use_underscores": True,
    "config": (
        tyro.conf.OmitArgPrefixes,
        tyro.conf.OmitSubcommandPrefixes,
        tyro.conf.DisallowNone,
        tyro.conf.PositionalMetavarFromFieldName,
    ),
}

_OTHERS = {"export": ExportSettings, "debug": DebugSettings, "runs": RunsSettings}
_TRAIN = """Train a DNC, or a baseline to compare it with, on a task.

Options are spelled with _ or with -, and take their value after = or a space."""


def parse(tasks: Mapping[str, Any], arguments: Sequence[str], program: str) -> Any:
    """What a command line asks for: the settings of one of the commands.

    Args:
      tasks: the settings of each task by its name, from which its flags start.
      arguments: the command line.
      program: its name in the help.

    Raises:
      UsageError: a preset or a run that is not there.
      SystemExit: after `--help`, or words that are not understood.
    """
    preset, start = _value_of("preset", arguments), dict(tasks)
    if preset and arguments[0] == "train":
        asked = [name for name in tasks if len(tasks) == 1 or name == arguments[1]]
        start |= {name: presets.starting_settings(name, preset) for name in asked}
    about_runs = {"eval": EvalSettings, "explore": ExploreSettings}
    commands = [_train_command(start)]
    commands += [_run_command(word, kind, tasks, arguments) for word, kind in about_runs.items()]
    commands += [Annotated[kind, tyro.conf.subcommand(word)] for word, kind in _OTHERS.items()]
    command: Any = tyro.cli(_one_of(commands), args=arguments, prog=program, **_STYLE)
    return getattr(command, "settings", command)


def parse_training(
    settings: TrainSettings[Any], arguments: Sequence[str] | None, program: str
) -> TrainSettings[Any]:
    """The settings with the changes of a command line that has flags only."""
    if preset := _value_of("preset", sys.argv[1:] if arguments is None else arguments):
        settings = presets.starting_settings(settings.task_name, preset)
    kind: Any = TrainSettings[type(settings.task)]
    return tyro.cli(kind, args=arguments, prog=program, default=settings, **_STYLE)


def _one_of(kinds: Sequence[Any]) -> Any:
    """Their union, which types alone cannot spell, as it is made here."""
    return Union[tuple(kinds)]  # noqa: UP007


def _train_command(tasks: Mapping[str, TrainSettings[Any]]) -> Any:
    """`train TASK`, or `train` alone where there is one task."""
    if len(tasks) == 1:
        return _task_command("train", *tasks.values())
    kinds = [_task_command(name, settings) for name, settings in tasks.items()]
    train = dataclasses.make_dataclass("Train", [("settings", _one_of(kinds))])
    train.__doc__ = _TRAIN
    return Annotated[train, tyro.conf.subcommand("train")]


def _task_command(word: str, settings: TrainSettings[Any]) -> Any:
    name = settings.task_name
    about = [presets.ABOUT.get(name) or type(settings.task).__doc__ or ""]
    about += [
        f"--preset {preset}: {known.about}"
        for preset, known in presets.PRESETS.items()
        if known.settings.task_name == name
    ]
    command = tyro.conf.subcommand(word, default=settings, description="\n\n".join(about))
    return Annotated[TrainSettings[type(settings.task)], command]


def _run_command(word: str, kind: Any, tasks: Mapping[str, Any], arguments: Sequence[str]) -> Any:
    """A command about a run, with the settings of the run as defaults of its flags."""
    named = [
        Path(word)
        for before, word in itertools.pairwise(arguments)
        if not word.startswith("-") and before not in ("--compare", "--out")
    ]
    if hasattr(kind, "run_dir"):
        named.append(kind.run_dir)  # where none is named
    if arguments[:1] != [word] or not named or named[0].suffix == ".npz":
        unknown = {"default": kind(run_dir=named[0], task=NoTask())} if named else {}
        return Annotated[kind[NoTask], tyro.conf.subcommand(word, **unknown)]
    place = next((name for name in named if (find_run(name) / CONFIG).exists()), named[0])
    summary = read_finished(find_run(place))
    name = summary.task.name
    if name not in tasks:
        raise UsageError(
            f"{place} is of the task {name}, which this command does not know; use the one that "
            "trained it"
        )
    task = type(tasks[name].task)
    has_memory = summary.network.kind != "lstm"
    default = kind(
        run_dir=place,
        memory_size=summary.network.cell.memory_size if has_memory else None,
        task=from_plain(summary.task.settings, task, f"the settings of {place}"),
    )
    return Annotated[kind[task], tyro.conf.subcommand(word, default=default)]


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """What a command line gives a flag, before it is parsed."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=False):
        if word == f"--{flag}":
            return following
        if word.startswith(f"--{flag}="):
            return word.partition("=")[2]
    return None
