"""Flags from a settings dataclass: each field is a flag, or a dataclass with further flags.

The string below a field is its help. No JAX here.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dncx.errors import UsageError, did_you_mean, one_of, quoted
from dncx.settings.paths import as_path

# Marks of a field, given by `Annotated`.
POSITIONAL = "positional"  # the value is given without a flag
REPEATED = "repeated"  # the flag may be given several times, each time with one value
HIDDEN = "hidden"  # the field has no flag; dncx itself sets it

SettingsT = TypeVar("SettingsT")


@dataclasses.dataclass(frozen=True)
class Flag:
    """An option of a command line."""

    name: str
    kind: Any  # the type of its value, without None
    default: Any
    help: str
    section: str  # the field that contains it; "" for flags of the command itself
    mark: str  # POSITIONAL, REPEATED or ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values of a `Literal` or an `Enum`."""
        if get_origin(self.kind) is Literal:
            return tuple(map(str, get_args(self.kind)))
        if isinstance(self.kind, type) and issubclass(self.kind, Enum):
            return tuple(member.name for member in self.kind)
        return ()

    @property
    def takes_several(self) -> bool:
        """Whether any number of values can follow the flag."""
        return get_origin(self.kind) in (tuple, list) and self.mark != REPEATED

    def read(self, words: Sequence[str]) -> Any:
        """Parses the value.

        Args:
          words: the words as typed; one, unless the flag takes several.

        Raises:
          UsageError: if a word does not have the type of the flag.
        """
        if get_origin(self.kind) not in (tuple, list):
            return self._read_one(words[-1], self.kind)
        parts = words if self.mark == REPEATED else [p for word in words for p in word.split(",")]
        kinds = [kind for kind in get_args(self.kind) if kind is not ...]
        if ... not in get_args(self.kind) and get_origin(self.kind) is tuple:
            if len(parts) != len(kinds):
                raise UsageError(f"--{self.name}: takes {len(kinds)} values, got {len(parts)}")
        else:
            kinds = kinds * len(parts)
        values = map(self._read_one, parts, kinds)
        return get_origin(self.kind)(values)

    def _read_one(self, word: str, kind: Any) -> Any:
        if kind is Path:
            return self._path(word)
        if choices := self.choices:
            if word not in choices:
                raise UsageError(
                    f"--{self.name}={quoted(word)}: must be {one_of(choices)}"
                    + did_you_mean(word, choices)
                )
            return word if get_origin(kind) is Literal else kind[word]
        try:
            return kind(word)
        except (TypeError, ValueError, ArithmeticError) as error:
            needed = {int: "a whole number", float: "a number"}.get(kind, str(error))
            raise UsageError(f"--{self.name}={quoted(word)}: must be {needed}") from error

    def _path(self, word: str) -> Path:
        try:
            return as_path(word)
        except UsageError as error:
            raise UsageError(f"--{self.name}: {error}") from error


def flags_of(settings: Any, section: str = "") -> list[Flag]:
    """The flags of a settings dataclass, with its values as their defaults.

    Fields whose type cannot be parsed from a word have no flag.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    texts, flags = _texts_below(type(settings)), []
    for field in dataclasses.fields(settings):
        value, hint, mark = getattr(settings, field.name), hints[field.name], ""
        if dataclasses.is_dataclass(value):
            flags += flags_of(value, field.name)
            continue
        if get_origin(hint) is Annotated:
            hint, mark, *_ = get_args(hint)
        kind = _without_none(hint)
        if field.init and mark != HIDDEN and _is_readable(kind):
            text = texts.get(field.name, "")
            flags.append(Flag(field.name, kind, value, text, section, mark))
    return flags


def changed(settings: SettingsT, values: Mapping[str, Any]) -> SettingsT:
    """A copy of settings with new values, given by the names of their flags."""
    changes = {}
    for field in dataclasses.fields(settings):  # pyright: ignore[reportArgumentType]
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = changed(value, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return dataclasses.replace(settings, **changes)  # pyright: ignore[reportArgumentType]


def _without_none(hint: Any) -> Any:
    """X of `X | None`; other hints are returned unchanged."""
    if get_origin(hint) in (Union, UnionType):
        parts = [part for part in get_args(hint) if part is not NoneType]
        return parts[0] if len(parts) == 1 else hint
    return hint


def _is_readable(kind: Any) -> bool:
    if get_origin(kind) in (tuple, list):
        parts = [part for part in get_args(kind) if part is not ...]
        return all(_is_readable(part) and part is not bool for part in parts)
    if get_origin(kind) is Literal:
        return all(isinstance(choice, str) for choice in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, bool | int | float | str | Path | Enum)


@functools.cache
def _texts_below(kind: type) -> dict[str, str]:
    """The string below each field of a class and of those that it inherits from."""
    texts = {}
    for one in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError, SyntaxError):  # it has no source file, or is built in
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts
