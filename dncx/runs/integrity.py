"""The seal of a checkpoint: checksums of all its files, its configuration, and a checksum of these.

It is written last, once everything before it is on the disk, and read first: nothing else of a
checkpoint is looked at unless its seal fits.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from dncx.runs.config import check_config
from dncx.runs.files import on_disk, write_whole

SEAL = "seal"  # the file
LARGEST_SEAL = 2**24  # bytes; that of a run has some thousand


class Score(NamedTuple):
    """How good the model in a checkpoint is."""

    of: str  # what it measures; only scores of the same can be compared
    value: float  # less is better


class Checkpoint(NamedTuple):
    """One that is whole."""

    path: Path
    config: dict[str, Any]  # what config.json held when it was saved
    digest: str  # of the numbers in its state
    score: Score | None


def seal(checkpoint: Checkpoint) -> None:
    """Writes the seal of what is in the checkpoint's folder."""
    path, config, digest, score = checkpoint
    entries = [path, *path.rglob("*")]
    for entry in entries:
        on_disk(entry)
    written = [entry for entry in entries if entry.is_file()]
    files = {entry.relative_to(path).as_posix(): _file_digest(entry) for entry in written}
    content = json.dumps(
        {"config": config, "numbers": digest, "score": score, "files": files}
    ).encode()
    write_whole(path / SEAL, content + b"\n" + hashlib.sha256(content).hexdigest().encode())


def verified(path: Path) -> Checkpoint:
    """A checkpoint all of whose files are as they were written.

    Raises:
      ValueError, and what a disk or JSON raises: it is none, or not whole; the message says why.
    """
    if not path.is_dir():
        raise ValueError("it is not a folder")
    sealed = _read(path)
    check_config(sealed["config"], "the configuration in its seal")
    for name, file_digest in sealed["files"].items():
        if not (path / name).resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{name} is outside of it")
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if _file_digest(path / name) != file_digest:
            raise ValueError(f"{name} is not as it was written (checksum)")
    return Checkpoint(path, sealed["config"], sealed["numbers"], _score_in(sealed))


def score_of(path: Path) -> Score | None:
    """The score in the seal of a checkpoint; None also where the seal is broken."""
    try:
        return _score_in(_read(path))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _read(path: Path) -> dict[str, Any]:
    """What the seal of a checkpoint says."""
    file = path / SEAL
    if not file.is_file():
        raise ValueError("it has no seal, so it was not written to its end, or is none of ours")
    if (size := file.stat().st_size) > LARGEST_SEAL:
        raise ValueError(f"its seal has {size} bytes, more than {LARGEST_SEAL}")
    content, _, digest = file.read_bytes().rpartition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("its seal is not as it was written (checksum)")
    return json.loads(content)


def _score_in(sealed: dict[str, Any]) -> Score | None:
    """The score; None also where what is there cannot be compared with others."""
    match sealed["score"]:
        case [str(of), float() | int() as value] if -math.inf < value < math.inf:
            return Score(of, value)
    return None


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
