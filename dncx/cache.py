"""The cache folder, whose files can be made again; it makes the next start faster.

Native kernels and compiled programs are kept there. Both are machine code that dncx runs, so a
folder in which another user can write is not used.
"""

import atexit
import functools
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

_LOG = logging.getLogger("dncx")


def cache_folder() -> Path:
    """A folder of this user that exists and can be written.

    `dncx` in XDG_CACHE_HOME, or in ~/.cache; a relative XDG_CACHE_HOME is ignored, as the XDG
    standard demands. If there is no such folder (no home, or a read-only one), it is in the
    temporary directory: `dncx-UID`, or, if another user has taken that name, a folder for this
    process only.
    """
    usual = _usual_folder()
    if usual is not None and (found := _usable(usual)):
        return found
    _note_fallback(usual)
    shared = Path(tempfile.gettempdir()).absolute() / f"dncx-{_user()}"
    return _usable(shared) or private_folder()


@functools.cache
def private_folder() -> Path:
    """A new temporary folder, removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="dncx-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def is_safe(path: Path) -> bool:
    """Whether only this user and root can change a file or folder.

    Args:
      path: a file or a folder; a symbolic link is not safe, since it can be redirected.
    """
    found = path.lstat()
    owned = found.st_uid in (_user(), 0)
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return owned and not others_write and not stat.S_ISLNK(found.st_mode)


def _usual_folder() -> Path | None:
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if asked.is_absolute():
        return asked / "dncx"
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return None
    return home / ".cache" / "dncx" if home.is_absolute() else None


def _usable(folder: Path) -> Path | None:
    """The folder, created if missing; None if it cannot be created, written or trusted."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # `is_safe` looks at the folder that a link leads to: a cache on another disk is common.
        folder = folder.resolve()
        usable = os.access(folder, os.W_OK | os.X_OK) and is_safe(folder)
    except OSError:
        return None
    return folder if usable else None


@functools.cache
def _note_fallback(usual: Path | None) -> None:
    why = "there is no home directory" if usual is None else f"{usual} cannot be used"
    _LOG.info("the cache is kept in the temporary directory: %s", why)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
