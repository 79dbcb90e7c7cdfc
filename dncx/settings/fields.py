"""Fields of settings that Python code fills in, checked as the command line checks flags."""

import dataclasses
import os
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dncx.settings.paths import as_path

_NAMES = {int: "a whole number", float: "a number", bool: "True or False", Path: "a path",
          str: "a string", NoneType: "None"}  # fmt: skip


class CheckedFields:
    """A base of frozen settings: a value of another type is refused, a string for a path is one.

    The command line makes paths and numbers itself; RunSettings(run_dir="runs/mine") works like
    --run_dir=runs/mine, and RunSettings(batch_size="16") fails at once.
    """

    def __post_init__(self) -> None:
        settings: Any = self
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(settings):
            value, kind = getattr(self, field.name), hints[field.name]
            if not _fits(value, kind):
                kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
                names = " or ".join(_NAMES.get(k, getattr(k, "__name__", str(k))) for k in kinds)
                raise TypeError(f"{field.name}={value!r}: must be {names}")
            object.__setattr__(self, field.name, _pythons(value, kind))


def _pythons(value: Any, kind: Any) -> Any:
    """A path for a string, where one is wanted, and Python's numbers for NumPy's."""
    if isinstance(value, str | os.PathLike) and Path in (kind, *get_args(kind)):
        return as_path(value)
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; which of a few words it is, the settings check themselves."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, tuple({type(choice) for choice in inner}))
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_fits(part, inner[0]) for part in value)
    if kind is Path:
        return isinstance(value, str | os.PathLike)
    if kind in (int, float):
        numbers = Real if kind is float else Integral
        return isinstance(value, numbers) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)
