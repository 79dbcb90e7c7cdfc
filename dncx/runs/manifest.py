"""The description of a checkpoint, and its score."""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

from dncx.runs.codec import from_plain
from dncx.runs.config import RunConfig
from dncx.runs.integrity import read_manifest, verify_files
from dncx.runs.progress import Progress


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


def verified(path: Path) -> Checkpoint:
    """The checkpoint in a folder, after verifying all its files.

    Raises:
      ValueError, OSError: if it is not an intact checkpoint; the message gives the reason.
    """
    if not path.is_dir():
        raise ValueError("it is not a folder")
    manifest = manifest_in(path)
    verify_files(path, manifest.files)
    return Checkpoint(path, manifest)


def score_of(path: Path) -> Score | None:
    """The score of the checkpoint in a folder; None if it has none or is not intact."""
    try:
        return manifest_in(path).score
    except (OSError, ValueError):
        return None


def manifest_in(path: Path) -> Manifest:
    """The manifest of the checkpoint in a folder; see `verified` for errors."""
    manifest = from_plain(read_manifest(path), Manifest, "its manifest")
    if manifest.score and not math.isfinite(manifest.score.value):
        raise ValueError("its score is not finite")
    return manifest
