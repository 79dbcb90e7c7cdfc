"""Parsing of the command line: the command, its task or run, and its settings.

argparse splits the line into flags, their values and the words without a flag, such as the name of
a task or a run. It knows the flags of all tasks, since the valid ones depend on that word. The
settings then parse the values (dncx/settings/flags.py). No JAX here.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from dncx.cli import help as helping
from dncx.cli.help import Help
from dncx.errors import UsageError, did_you_mean, one_of, quoted
from dncx.runs.codec import from_plain
from dncx.runs.hub import spelled
from dncx.runs.paths import find_run, shipped_models
from dncx.runs.summary import TaskConfig
from dncx.runs.trained import find_trained
from dncx.settings import presets
from dncx.settings.commands import (
    CardSettings,
    DebugSettings,
    EvalSettings,
    ExploreSettings,
    ExportSettings,
    NoTask,
    ProbeSettings,
    PushSettings,
    RunsSettings,
)
from dncx.settings.flags import POSITIONAL, REPEATED, Flag, changed, flags_of
from dncx.settings.training import NO_MEMORY, TrainSettings
from dncx.settings.unused import refuse_unused

Tasks = Mapping[str, TrainSettings[Any]]

COMMANDS: dict[str, Any] = {
    "train": TrainSettings,
    "eval": EvalSettings,
    "explore": ExploreSettings,
    "probe": ProbeSettings,
    "export": ExportSettings,
    "card": CardSettings,
    "push": PushSettings,
    "debug": DebugSettings,
    "runs": RunsSettings,
}
_OF_A_TASK = (EvalSettings, ExploreSettings, ProbeSettings)  # these have flags of the run's task


@dataclasses.dataclass(frozen=True)
class _Line:
    """A command line, split."""

    words: list[str]  # those without a flag
    values: dict[str, list[str] | bool]  # by flag: what was typed, or whether it is on
    unknown: list[str]  # unknown flags, and further words
    help: bool

    @property
    def word(self) -> str | None:
        """The first word without a flag, if any."""
        return self.words[0] if self.words else None

    def read(self, flags: Sequence[Flag]) -> dict[str, Any]:
        """The values by flag.

        Raises:
          UsageError: if a value has the wrong type.
        """
        kinds = {flag.name: flag for flag in flags}
        return {
            name: typed if isinstance(typed, bool) else kinds[name].read(typed)
            for name, typed in self.values.items()
        }

    def last(self, name: str) -> str | None:
        """The word typed for a flag, if it was given."""
        typed = self.values.get(name)
        return typed[-1] if isinstance(typed, list) else None


def parse(tasks: Tasks, arguments: Sequence[str], program: str) -> Any:
    """The settings of a command, or the help, that a command line asks for.

    Args:
      tasks: the settings that training starts from, by the name of the task.
      arguments: the command line.
      program: its name.

    Raises:
      UsageError: if the command line has a mistake, or names a run that does not exist.
    """
    command, *rest = arguments or ["--help"]
    if command == "help":
        command, *rest = *rest, "--help"
    if command in ("-h", "--help"):
        return helping.overview(program, COMMANDS)
    if command not in COMMANDS:
        if command.startswith("-"):
            hint = did_you_mean(command, ["--help", "--version"])
            commands = one_of([*COMMANDS])
            raise UsageError(f"{quoted(command)}: a command comes first: {commands}{hint}")
        raise UsageError(
            f"{quoted(command)} is not a command{did_you_mean(command, COMMANDS)}\n"
            f"The commands are {one_of([*COMMANDS])}; {program} --help describes them."
        )
    if command == "train":
        return _parse_train(tasks, rest, f"{program} train")
    return _parse_about_run(COMMANDS[command], tasks, rest, f"{program} {command}")


def parse_training(
    default: TrainSettings[Any], arguments: Sequence[str], program: str
) -> TrainSettings[Any] | Help:
    """The training settings from a command line that has only flags, or the help.

    Raises:
      UsageError: if the command line has a mistake.
    """
    flags = flags_of(default)
    line = _split(arguments, flags, num_words=0)
    _refuse_unknown(line, flags)
    return _train_settings(default.task_name, default, line, program)


def _parse_train(tasks: Tasks, arguments: Sequence[str], program: str) -> Any:
    if len(tasks) == 1:
        return parse_training(next(iter(tasks.values())), arguments, program)
    every = _flags_of_all(tasks.values())
    line = _split(arguments, every, num_words=1)
    name, default = line.word, tasks.get(line.word or "")
    _refuse_unknown(line, flags_of(default) if default else every)
    if name is None and line.last("preset") == presets.HELP:
        return helping.of_presets(presets.PRESETS)
    if name is None and line.help:
        return helping.of_tasks(program, presets.ABOUT)
    if name is None:
        raise UsageError(f"name a task: {one_of([*tasks])}\n{program} --help describes them.")
    if default is None:
        raise UsageError(
            f"{quoted(name)} is not a task{did_you_mean(name, tasks)}\n"
            f"The tasks are {one_of([*tasks])}; {program} --help describes them."
        )
    _refuse_other_flags(line, flags_of(default), tasks, f"the task {name}")
    return _train_settings(name, default, line, f"{program} {name}")


def _train_settings(
    name: str, default: TrainSettings[Any], line: _Line, program: str
) -> TrainSettings[Any] | Help:
    preset = line.last("preset")
    if preset == presets.HELP:
        return helping.of_presets(presets.of_task(name))
    start = presets.starting_settings(name, preset) if preset else default
    flags = flags_of(start)
    if line.help:
        about = presets.ABOUT.get(name) or _about(type(start.task))
        return helping.of_flags(program, about, flags, presets.of_task(name))
    settings = changed(start, line.read(flags))
    refuse_unused(settings, line.values)
    return settings


def _parse_about_run(kind: Any, tasks: Tasks, arguments: Sequence[str], program: str) -> Any:
    """A command about a run; the flags of its task have the values of the run as defaults."""
    unknown = _about_no_run(kind)
    run_flag, *others = [flag for flag in flags_of(unknown) if flag.mark == POSITIONAL]
    every = _flags_of_all([unknown, *(tasks.values() if kind in _OF_A_TASK else ())])
    own = flags_of(unknown) + [flag for flag in every if flag.section == "task"]
    line = _split(arguments, own, num_words=1 + len(others))
    _refuse_unknown(line, own)
    if line.word is None and line.help:
        return helping.of_flags(program, _about(kind), flags_of(unknown))
    place = run_flag.read([line.word]) if line.word is not None else run_flag.default
    if place == helping.NOT_NAMED:
        shipped = kind not in (DebugSettings, ProbeSettings)
        models = f", or a model: {one_of(shipped_models())}" if shipped else ""
        example = "runs/mini-shrdlu" if kind is ProbeSettings else helping.EXAMPLE_RUN
        raise UsageError(f"name a run, as in {program} {example}{models}")
    given = {run_flag.name: place}
    for flag, word in itertools.zip_longest(others, line.words[1:]):
        if word is not None:
            given[flag.name] = flag.read([word])
        elif not line.help:
            raise UsageError(f"name {flag.name.upper()} after the run: {flag.help}")
    custom = [start.model.network for start in tasks.values() if start.model.network]
    if custom and "network" in vars(unknown) and place.suffix != ".npz":
        given["network"] = custom[0]  # a program with one task has passed its function
    settings, network = dataclasses.replace(unknown, **given), None
    if kind in _OF_A_TASK and place.suffix != ".npz":
        typed = line.last("checkpoint")
        checkpoint = None if typed is None else _flag("checkpoint", own).read([typed])
        summary = find_trained(find_run(place), checkpoint).summary
        network = summary.network.kind
        settings = dataclasses.replace(
            settings,
            task=_task_of_run(summary.task, spelled(place), tasks),
            memory_size=None if network in NO_MEMORY else summary.network.cell.memory_size,
        )
    flags = flags_of(settings)
    _refuse_other_flags(line, flags, tasks, spelled(place))
    if line.help:
        return helping.of_flags(program, _about(kind), flags)
    settings = changed(settings, line.read(flags))
    refuse_unused(settings, line.values, network)
    return settings


def _flag(name: str, flags: Sequence[Flag]) -> Flag:
    return next(flag for flag in flags if flag.name == name)


def _about_no_run(kind: Any) -> Any:
    """The settings of a command while no run is named."""
    required = {
        field.name: str(helping.NOT_NAMED)
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name != "task"
    }
    return kind(**required, **({"task": NoTask()} if kind in _OF_A_TASK else {}))


def _task_of_run(summary: TaskConfig, place: str, tasks: Tasks) -> Any:
    """The settings of the task that a run was trained on."""
    if summary.name not in tasks:
        raise UsageError(
            f"{place} was trained on the task {summary.name}, which this command does not have; "
            "use the command that trained it"
        )
    kind = type(tasks[summary.name].task)
    return from_plain(summary.settings, kind, f"the settings of {place}")


def _flags_of_all(settings: Any) -> list[Flag]:
    """The flags of several settings, each name once."""
    return list({flag.name: flag for one in settings for flag in flags_of(one)}.values())


def _refuse_unknown(line: _Line, flags: Sequence[Flag]) -> None:
    """Refuses unknown flags, and more words than the command takes."""
    for word in line.unknown:
        if not line.help:
            raise UsageError(_unknown(word, flags))


def _refuse_other_flags(line: _Line, flags: Sequence[Flag], tasks: Tasks, what: str) -> None:
    """Refuses a flag that only another task has."""
    names = [flag.name for flag in flags]
    for name in line.values:
        if name not in names:
            having = [task for task in tasks if name in vars(tasks[task].task)]
            whose = f" ({one_of(having)} has it)" if having else ""
            raise UsageError(f"--{name}: {what} has no such option{whose}")


def _about(kind: type) -> str:
    """A docstring, a line for each paragraph."""
    paragraphs = (kind.__doc__ or "").split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


class _Splitter(argparse.ArgumentParser):
    """argparse, with errors that can be caught and without abbreviated flags."""

    def __init__(self):
        super().__init__(add_help=False, allow_abbrev=False, exit_on_error=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class _Several(argparse.Action):
    """Takes the values that it can parse; leaves words after them, as in `--tasks 1 2 RUN`."""

    LEFT = ".left"

    def __init__(self, *, flag: Flag, **options: Any):
        super().__init__(**options)
        self._flag = flag

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        words = [*values]
        while len(words) > 1 and not self._is_readable(words[-1]):
            words.pop()
        setattr(namespace, self.dest, words)
        setattr(namespace, self.LEFT, getattr(namespace, self.LEFT, []) + values[len(words) :])

    def _is_readable(self, word: str) -> bool:
        try:
            self._flag.read([word])
        except UsageError:
            return False
        return True


def _split(arguments: Sequence[str], flags: Sequence[Flag], num_words: int) -> _Line:
    """Splits a command line with up to `num_words` words without a flag.

    Raises:
      UsageError: if a flag lacks its value, or has a value but takes none.
    """
    splitter = _Splitter()
    splitter.add_argument("-h", "--help", action="store_true", dest=".help")
    if num_words:
        splitter.add_argument(".word", nargs="?")
    for flag in flags:
        if flag.mark == POSITIONAL:
            continue
        spelled = _spellings(flag.name)
        if flag.kind is bool:
            splitter.add_argument(*spelled, dest=flag.name, action="store_const", const=True)
            negative = [f"--no{sep}{word[2:]}" for word in spelled for sep in "_-"]
            splitter.add_argument(*negative, dest=flag.name, action="store_const", const=False)
        elif flag.mark == REPEATED:
            splitter.add_argument(*spelled, dest=flag.name, action="append")
        elif flag.takes_several:
            splitter.add_argument(*spelled, dest=flag.name, nargs="+", action=_Several, flag=flag)
        else:
            splitter.add_argument(*spelled, dest=flag.name, nargs=1)
    try:
        found, unknown = splitter.parse_known_args([*arguments])
    except argparse.ArgumentError as error:
        raise UsageError(_complaint(error)) from error
    given = {name: value for name, value in vars(found).items() if value is not None}
    asked, word = given.pop(".help"), given.pop(".word", None)
    words = [one for one in (word, *given.pop(_Several.LEFT, [])) if one is not None]
    while words and len(words) < num_words and (more := [w for w in unknown if w[:1] != "-"]):
        unknown.remove(more[0])
        words.append(more[0])
    return _Line(words[:num_words], given, [*unknown, *words[num_words:]], asked)


def _spellings(name: str) -> list[str]:
    """A flag with _, as in dncx's help, and with -, as in most other programs."""
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def _complaint(error: argparse.ArgumentError) -> str:
    """An error of argparse, with the flag as it is written in dncx's help."""
    name = (error.argument_name or "").partition("/")[0]
    if error.message.startswith("expected"):
        return f"{name}: its value is missing (write = before a value with -, as in {name}=-1)"
    return f"{name}: {error.message.replace('ignored explicit argument', 'takes no value, not')}"


def _unknown(word: str, flags: Sequence[Flag]) -> str:
    """The error for a word that is not a known flag."""
    typed, equals, _ = word.partition("=")
    if not word.startswith("-") and not equals:
        return f"{quoted(word)}: unexpected word"
    names = [flag.name for flag in flags if flag.mark != POSITIONAL]
    names += [f"no_{flag.name}" for flag in flags if flag.kind is bool]
    known = [f"--{name}" for name in names]
    what = "there is no such option" if word.startswith("-") else "options begin with --"
    return f"{quoted(typed)}: {what}{did_you_mean(typed, known)}"
