"""The manifest of a checkpoint: its description, and a checksum of each of its files.

It is written last, after everything else is on the disk, and read first: no other file of a
checkpoint is used unless the manifest is intact and the files match it.
"""

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import NamedTuple

from dncx.errors import UsageError
from dncx.runs.codec import from_json, to_json
from dncx.runs.config import RunConfig
from dncx.runs.files import on_disk, sha256_of, write_whole
from dncx.runs.progress import Progress

MANIFEST = "manifest"  # the file
LARGEST_MANIFEST = 2**24  # bytes; usual manifests have a few thousand


@dataclasses.dataclass(frozen=True, order=True)
class Score:
    """The score of the model in a checkpoint.

    Attributes:
      of: the quantity measured; scores are compared only if this is equal.
      value: lower is better.
    """

    of: str
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonFinite:
    """The numbers of a non-finite update; "nan" and "inf" represent non-finite numbers.

    Attributes:
      loss: loss of the batch.
      gradient: norm of the gradient of each parameter, by its name.
      updated: norm of each parameter after the update.
    """

    loss: float | str
    gradient: dict[str, float | str]
    updated: dict[str, float | str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of a checkpoint.

    Attributes:
      config: the settings of the run.
      progress: the progress of the run.
      digest: SHA-256 of the numbers in the state.
      score: the score of its model; None if it is not known.
      failure: in the checkpoint before non-finite updates, the numbers of the first such update.
      files: SHA-256 of each file in the checkpoint's folder, by its path there.
    """

    config: RunConfig
    progress: Progress
    digest: str
    score: Score | None = None
    failure: NonFinite | None = None
    files: dict[str, str] = dataclasses.field(default_factory=dict)


class Checkpoint(NamedTuple):
    """An intact checkpoint."""

    path: Path
    manifest: Manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes the manifest of the folder `path`, after waiting until its files are on the disk."""
    entries = [path, *path.rglob("*")]
    for entry in entries:
        on_disk(entry)
    files = [entry for entry in entries if entry.is_file()]
    checksums = {entry.relative_to(path).as_posix(): sha256_of(entry) for entry in files}
    content = to_json(dataclasses.replace(manifest, files=checksums))
    write_whole(path / MANIFEST, content + hashlib.sha256(content).hexdigest().encode())


def verified(path: Path) -> Checkpoint:
    """The checkpoint in a folder, after verifying all its files.

    Raises:
      ValueError, OSError: if it is not an intact checkpoint; the message gives the reason.
    """
    if not path.is_dir():
        raise ValueError("it is not a folder")
    manifest = read_manifest(path)
    for name, checksum in manifest.files.items():
        if not (path / name).resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{name} is outside the checkpoint")
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if sha256_of(path / name) != checksum:
            raise ValueError(f"{name} is corrupt (its checksum does not match)")
    return Checkpoint(path, manifest)


def score_of(path: Path) -> Score | None:
    """The score of the checkpoint in a folder; None if it has none or is not intact."""
    try:
        return read_manifest(path).score
    except (OSError, ValueError):
        return None


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint in a folder; see `verified` for errors."""
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
    manifest = from_json(content, Manifest, "its manifest")
    if manifest.score and not math.isfinite(manifest.score.value):
        raise ValueError("its score is not finite")
    return manifest
