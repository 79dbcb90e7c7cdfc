"""Path fields of settings that are created in Python. No JAX here."""

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args


class PathFields:
    """A base class of frozen settings that converts strings in path fields to `Path`.

    The command line already passes paths. In Python, RunSettings(run_dir="runs/mine") works, too.
    """

    def __post_init__(self) -> None:
        settings: Any = self
        for field in dataclasses.fields(settings):
            value = getattr(self, field.name)
            if Path not in (field.type, *get_args(field.type)) or value is None:
                continue
            if not isinstance(value, str | os.PathLike):
                raise TypeError(f"{field.name}={value!r}: must be a path or a string")
            object.__setattr__(self, field.name, Path(value))
