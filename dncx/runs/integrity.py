"""Checking that a checkpoint is intact: a manifest has a checksum of each file. No JAX here.

It is written last, after everything else is on the disk, and read first: no other file of a
checkpoint is used unless the manifest is intact and the files match it.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dncx.errors import UsageError
from dncx.runs.codec import parsed, to_json
from dncx.runs.files import on_disk, sha256_of, write_whole

MANIFEST = "manifest"  # the file
LARGEST_MANIFEST = 2**24  # bytes; usual manifests have a few thousand
T = TypeVar("T")


def numbered(folder: Path) -> list[int]:
    """The iterations that name an entry of the folder, intact or not, in order."""
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def newest_intact(folder: Path, read: Callable[[Path], T]) -> tuple[T | None, dict[Path, str]]:
    """The newest intact checkpoint, if any, and why each newer one is not intact.

    Args:
      folder: the folder of the checkpoints.
      read: returns an intact checkpoint, and raises OSError or ValueError for any other.

    Raises:
      UsageError: if there are checkpoints, but none is intact.
    """
    corrupt: dict[Path, str] = {}
    for iteration in reversed(numbered(folder)):
        path = folder / str(iteration)
        try:
            return read(path), corrupt
        except (OSError, ValueError) as error:
            corrupt[path] = str(error)
    if corrupt:
        found = "".join(f"\n  {path.name}: {reason}" for path, reason in corrupt.items())
        raise UsageError(
            f"no checkpoint in {folder} is intact:{found}\n"
            "Replace one of them with a good copy, or train again from the start with --no-resume "
            "(the old files are moved aside, not lost)."
        )
    return None, corrupt


def write_manifest(path: Path, manifest: Any) -> None:
    """Writes the manifest of the folder `path`, after waiting until its files are on the disk.

    Args:
      path: the folder.
      manifest: a dataclass; its field `files` receives the checksums.
    """
    entries = [path, *path.rglob("*")]
    for entry in entries:
        on_disk(entry)
    files = [entry for entry in entries if entry.is_file()]
    checksums = {entry.relative_to(path).as_posix(): sha256_of(entry) for entry in files}
    content = to_json(dataclasses.replace(manifest, files=checksums))
    write_whole(path / MANIFEST, content + hashlib.sha256(content).hexdigest().encode())


def read_manifest(path: Path) -> Any:
    """The plain JSON in the manifest of the folder `path`.

    Raises:
      ValueError, OSError: if it has no intact manifest; the message gives the reason.
    """
    file = path / MANIFEST
    if not file.is_file():
        if (path / "seal").is_file():
            raise UsageError("it was written by another version of dncx; use that version")
        raise ValueError("it has no manifest, so it was not written completely")
    size = file.stat().st_size
    if size > LARGEST_MANIFEST:
        raise ValueError(f"its manifest has {size} bytes, more than {LARGEST_MANIFEST}")
    content, newline, checksum = file.read_bytes().rpartition(b"\n")
    content += newline
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError("its manifest is corrupt (its checksum does not match)")
    return parsed(content, "its manifest")


def verify_files(path: Path, checksums: dict[str, str]) -> None:
    """Refuses a folder whose files differ from the checksums in its manifest.

    Raises:
      ValueError, OSError: for the first such file; the message gives the reason.
    """
    for name, checksum in checksums.items():
        if not (path / name).resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{name} is outside the checkpoint")
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if sha256_of(path / name) != checksum:
            raise ValueError(f"{name} is corrupt (its checksum does not match)")
