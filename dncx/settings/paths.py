"""Path fields of settings that are created in Python. No JAX here."""

import os
from pathlib import Path

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
