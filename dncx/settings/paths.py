"""Path fields of settings that are created in Python. No JAX here."""

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args

from dncx.errors import UsageError, quoted


def as_path(word: str | os.PathLike[str]) -> Path:
    """A path; of text, with the home directory in the place of ~ as in a shell.

    Raises:
      UsageError: if the text is empty, or there is no such home.
    """
    if not isinstance(word, str):
        return Path(word)
    if not word:
        raise UsageError("the path is empty")
    path = os.path.expanduser(word)  # pathlib's own would change ./~, too
    if word[0] == "~" == path[0]:
        start = quoted(word.partition("/")[0])
        raise UsageError(
            f"{quoted(word)}: there is no home directory for {start}; "
            f"write the path in full (./{start} is a folder of this name)"
        )
    return Path(path)


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
            object.__setattr__(self, field.name, as_path(value))
