"""Paths in settings that Python code fills in. No JAX here."""

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args


class PathFields:
    """A base of frozen settings: text in a field for a path becomes a `Path`.

    The command line makes paths itself; who writes RunSettings(run_dir="runs/mine") should not have
    to.
    """

    def __post_init__(self) -> None:
        settings: Any = self
        for field in dataclasses.fields(settings):
            value = getattr(self, field.name)
            if Path not in (field.type, *get_args(field.type)) or value is None:
                continue
            if not isinstance(value, str | os.PathLike):
                raise TypeError(f"{field.name}={value!r}: must be a path, or its text")
            object.__setattr__(self, field.name, Path(value))
