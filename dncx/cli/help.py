"""The texts of `--help`: the commands, the tasks, the presets, the flags with their defaults."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dncx.errors import one_of
from dncx.settings.flags import POSITIONAL, Flag
from dncx.settings.presets import Preset

EXAMPLE_RUN = "runs/copy"
NOT_NAMED = Path("-")  # the default of a required word
_WIDEST = 100  # columns; longer lines are hard to read
_TITLES = {
    "": "options",
    "task": "task",
    "model": "network",
    "optimizer": "optimiser",
    "run": "run",
    "scale": "scaling: seeds, devices, machines",
}
_VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


@dataclasses.dataclass(frozen=True)
class Help:
    """A text for a terminal of any width."""

    content: RenderableType

    def show(self) -> None:
        """Prints it."""
        console = Console(file=sys.stdout, highlight=False)
        console.width = min(console.width, _WIDEST)
        console.print(self.content)


def overview(program: str, commands: Mapping[str, type]) -> Help:
    """The commands, one line each."""
    rows = [(name, first_sentence(kind)) for name, kind in commands.items()]
    return Help(
        Group(
            Text(f"usage: {program} COMMAND [OPTIONS]\n"),
            _table(rows),
            Text(
                f"\n{program} COMMAND --help describes a command; {program} --version prints the "
                "version."
            ),
        )
    )


def of_tasks(program: str, about: Mapping[str, str]) -> Help:
    """The tasks, one line each."""
    return Help(
        Group(
            Text(f"usage: {program} TASK [OPTIONS]\n"),
            Text("Train a network on a task. The tasks:\n"),
            _table([*about.items()]),
            Text(f"\n{program} TASK --help lists the options of a task."),
            Text(f"{program} --preset=help lists the presets: named settings, most from papers."),
        )
    )


def of_presets(known: Mapping[str, Preset]) -> Help:
    """The presets, each with its description."""
    if not known:
        return Help(Text("This task has no presets."))
    rows = [
        (name, f"({preset.settings.task_name}) {preset.about}") for name, preset in known.items()
    ]
    return Help(_table(rows))


def of_flags(
    program: str, about: str, flags: Sequence[Flag], known: Mapping[str, Preset] | None = None
) -> Help:
    """The flags of a command by section, each with its default.

    Args:
      program: the first words of the command.
      about: a short description of the command.
      flags: all of them.
      known: the presets that --preset takes.
    """
    words = [flag for flag in flags if flag.mark == POSITIONAL]
    names = [_shown_word(flag) for flag in words]
    usage = " ".join([program, *names, "[OPTIONS]"])
    parts: list[RenderableType] = [Text(f"usage: {usage}\n"), Text(about)]
    parts += [Text("Options can be written with _ or -, and with = or a space before the value.")]
    if words:
        parts += [Text(), _table([(flag.name.upper(), _word_described(flag)) for flag in words])]
    width = max(len(_spelled(flag)) for flag in flags)
    for section in dict.fromkeys(flag.section for flag in flags):
        listed = [flag for flag in flags if flag.section == section and flag not in words]
        rows = [(_spelled(flag), _described(flag, known)) for flag in listed]
        title = _TITLES.get(section, section)
        parts += [Text(f"\n{title}", style="bold"), _table(rows, width)] if rows else []
    return Help(Group(*parts))


def first_sentence(kind: type) -> str:
    """The first sentence of a class's docstring, without the full stop."""
    return " ".join((kind.__doc__ or "").split()).partition(". ")[0].removesuffix(".")


def _spelled(flag: Flag) -> str:
    """A flag with its default, as one would type it."""
    if flag.kind is bool:
        return f"--[no_]{flag.name}"
    value = flag.default
    if isinstance(value, tuple | list):
        value = _span(value) or "TEXT"
    if value is None:
        value = _VALUES.get(flag.kind, "NAME")
    return f"--{flag.name}={value}"


def _shown_word(flag: Flag) -> str:
    """The word that a command takes, in brackets if it is optional."""
    return flag.name.upper() if _is_required(flag) else f"[{flag.name.upper()}]"


def _is_required(flag: Flag) -> bool:
    return str(flag.default) == str(NOT_NAMED)


def _word_described(flag: Flag) -> str:
    if _is_required(flag):
        return flag.help
    return f"{flag.help.removesuffix('.')} (default: {flag.default})."


def _span(values: Sequence[Any]) -> str:
    """1,2,...,20 for many consecutive numbers; short lists in full."""
    words = [str(value) for value in values]
    return ",".join(words) if len(words) < 5 else f"{words[0]},{words[1]},...,{words[-1]}"


def _described(flag: Flag, known: Mapping[str, Preset] | None = None) -> str:
    """The help of a flag, with its choices, or with its default if the flag does not show it."""
    if flag.name == "preset" and known is not None:
        names = f"{one_of([*known])} (--preset=help)" if known else "this task has no presets"
        return f"{flag.help} {names}."
    if flag.kind is bool:
        return f"{flag.help.removesuffix('.')} (default: {'on' if flag.default else 'off'})."
    if flag.choices:
        return f"{flag.help.removesuffix('.')}: {one_of(flag.choices)}."
    return flag.help


def _table(rows: Iterable[tuple[str, str]], width: int | None = None) -> RenderableType:
    """Two columns: names, with an optional minimum width, and their descriptions."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return Padding(table, (0, 0, 0, 2))
