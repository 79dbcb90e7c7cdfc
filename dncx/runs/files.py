"""Writing files safely: no file is ever lost or left incomplete."""

import contextlib
import errno
import hashlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from dncx.errors import UsageError


def check_folder(folder: Path, flag: str) -> None:
    """Refuses a folder that cannot be created, read or written. Creates nothing."""
    existing = folder
    try:
        while not os.path.lexists(existing):
            existing = existing.parent
        folder.exists()  # raises if the system refuses the name or the access
    except OSError as error:
        raise UsageError(f"--{flag}: {folder}: {error.strerror}") from error
    if not existing.is_dir():
        raise UsageError(f"--{flag}: {existing} is not a directory")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(existing).f_flag & os.ST_RDONLY:
            raise UsageError(f"--{flag}: {existing} is on a read-only file system")
        raise UsageError(f"--{flag}: no permission to read and write in {existing}")


def check_new_file(path: Path, flag: str) -> None:
    """Refuses a file that exists or cannot be created, before anything is computed for it."""
    check_folder(path.parent, flag)
    try:
        exists, folder = path.exists(), path.parent.is_dir()
    except OSError as error:
        raise UsageError(f"--{flag}: {error.strerror}") from error
    if exists or not folder:
        problem = "exists already" if exists else "is in a folder that does not exist"
        raise UsageError(f"--{flag}: {path} {problem}")


def set_aside(folder: Path, names: Iterable[str]) -> Path | None:
    """Moves the files and folders called `names` to a new subfolder earlier-1, earlier-2, ...

    Returns the new folder; None if none of them exists.
    """
    present = [folder / name for name in names if (folder / name).exists()]
    if not present:
        return None
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    aside = folder / f"earlier-{number}"
    aside.mkdir()
    for path in present:
        path.rename(aside / path.name)
    return aside


def free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], others) if not os.path.lexists(one))


def write_new(path: Path, content: bytes, force: bool) -> Path:
    """`write_whole`, which replaces an existing file only with `force`.

    Raises:
      UsageError: if the file exists and `force` is not set.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} exists; force=True replaces it")
    write_whole(path, content)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that at any moment either the old or the new one exists and is complete."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        on_disk(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def make_folder(path: Path) -> None:
    """Creates a folder and its parents if missing, so that they survive a power failure."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        on_disk(path.parent)


def on_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a power failure."""
    try:
        file = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # a folder that can be written to but not listed
            return
        raise
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # disks that cannot sync folders
            raise
    finally:
        os.close(file)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
