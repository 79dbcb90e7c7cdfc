"""Checkpoints: a folder of numbered states, each sealed with checksums of all that it is.

    <checkpoint_dir>/<iteration>/state/      what training carries on, as Orbax writes it
    <checkpoint_dir>/<iteration>/seal        configuration and checksums, and a checksum of these
    <checkpoint_dir>/saving-<iteration>/     one being written, which is none yet
    <checkpoint_dir>/discarded-<iteration>/  one being deleted, which is none any longer
    <checkpoint_dir>/broken-<iteration>/     what was found broken, and moved aside

This is the only module that knows Orbax.
"""

import errno
import hashlib
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from dncx.errors import TrainingError, UsageError
from dncx.runs import processes
from dncx.runs.files import free_path, make_folder, on_disk
from dncx.runs.integrity import SEAL, Checkpoint, Score, score_of, seal, verified
from dncx.runs.state import TrainState

STATE = "state"
_SAVING, _DISCARDED, _BROKEN = "saving-", "discarded-", "broken-"

_OVERHEAD = 2**16  # bytes that a checkpoint has beside its numbers, and a little more


class Kept(NamedTuple):
    """Which checkpoints stay."""

    newest: int  # how many; 0: all
    best: int = 0  # how many beside them: those with the lowest scores of the newest one's kind


ALL = Kept(0)


def numbered(folder: Path) -> list[int]:
    """The iterations by which something in the folder is called, whole or not, in order."""
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def saved_iterations(folder: Path) -> list[int]:
    """The iterations with a checkpoint in the folder that was written to its end, in order."""
    return [number for number in numbered(folder) if (folder / str(number) / SEAL).is_file()]


def newest_whole(folder: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest checkpoint that is whole, if any, and why each newer one is not.

    Raises:
      UsageError: there are checkpoints, and none is whole.
    """
    broken: dict[Path, str] = {}
    for iteration in reversed(numbered(folder)):
        path = folder / str(iteration)
        try:
            return verified(path), broken
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            broken[path] = str(error)
    if broken:
        found = "".join(f"\n  {path.name}: {reason}" for path, reason in broken.items())
        raise UsageError(
            f"no checkpoint in {folder} is whole:{found}\n"
            "Put a good copy in the place of one of them, or give --no-resume to start anew (what "
            "is there is moved aside, not lost)."
        )
    return None, broken


def move_aside(broken: Iterable[Path]) -> list[Path]:
    """Renames what was found broken, so that its iteration can be saved again; returns where to."""
    return [path.rename(free_path(path.with_name(_BROKEN + path.name))) for path in broken]


def save(
    folder: Path,
    state: TrainState,
    config: dict[str, Any],
    kept: Kept,
    score: Score | None = None,
) -> Path:
    """Writes a checkpoint and reads it back; then removes those that need not stay.

    Args:
      folder: of the checkpoints.
      state: what to save; of several processes all have it, and all call this.
      config: of the run.
      kept: which are kept.
      score: by which the best are kept; None: not known.

    Raises:
      TrainingError: it could not be written; those before it are as they were.
      JaxRuntimeError, ValueError: of `processes.of_a_loss`.
    """
    path = folder / str(state.reached)
    draft = path.with_name(_SAVING + path.name)
    try:
        processes.in_first(lambda: _begin(draft, state))
        with _quiet():
            ocp.save(str(draft / STATE), state._asdict())
            digest = _digest(state)
            if _digest(_read(draft, state)) != digest:
                raise TrainingError("what was read back is not what was written")
        checkpoint = Checkpoint(draft, config, digest, score)
        processes.in_first(lambda: _finish(checkpoint, path, kept))
    except Exception as error:  # whatever Orbax and the disk raise
        if processes.is_first():
            shutil.rmtree(draft, ignore_errors=True)
        if processes.of_a_loss(error):
            raise
        reason, left = _reason(error, folder, state), last_saved(folder)
        raise TrainingError(f"cannot save the checkpoint {path}: {reason}; {left}") from error
    return path


def _begin(draft: Path, state: TrainState) -> None:
    """Makes room for a new checkpoint."""
    _remove(draft.parent.glob(f"{_SAVING}*"))
    _try_disk(draft, state)


def _finish(checkpoint: Checkpoint, path: Path, kept: Kept) -> None:
    """Seals a new checkpoint, gives it its name, and removes those that need not stay."""
    seal(checkpoint)
    checkpoint.path.rename(path)
    on_disk(path.parent)
    folder, old = path.parent, saved_iterations(path.parent)[: -kept.newest] if kept.newest else []
    kind = checkpoint.score.of if checkpoint.score else None
    scores = [(score_of(folder / str(i)), i) for i in old] if kept.best else []
    best = sorted((score, i) for score, i in scores if score and score.of == kind)[: kept.best]
    for iteration in set(old) - {i for _, i in best}:
        (folder / str(iteration)).rename(folder / f"{_DISCARDED}{iteration}")
    _remove(folder.glob(f"{_DISCARDED}*"))


def last_saved(folder: Path) -> str:
    """In words, for those whose training stops."""
    if saved := saved_iterations(folder):
        return f"the last good checkpoint is {folder / str(saved[-1])}"
    return "there is no checkpoint yet (--checkpoint_interval sets how often one is written)"


def saved_params(checkpoint: Checkpoint) -> Any:
    """The parameters in a checkpoint as a tree of their shapes and dtypes."""
    with _one_message(checkpoint.path):
        return _headers(checkpoint)["params"]


def load(checkpoint: Checkpoint, like: TrainState) -> TrainState:
    """The state in a checkpoint, which must be of the same model as `like`."""
    with _one_message(checkpoint.path):
        _check_pieces(_headers(checkpoint))
        state = _read(checkpoint.path, like)
        if _digest(state) != checkpoint.digest:
            raise ValueError("its numbers are not those that were saved (checksum)")
        return state


def _headers(checkpoint: Checkpoint) -> Any:
    """What the arrays of a state say of themselves, before any is read."""
    metadata: Any = ocp.metadata(str(checkpoint.path / STATE))
    return metadata.metadata


def _check_pieces(headers: Any) -> None:
    """Refuses arrays in pieces that are larger than they are, as a piece is unpacked as a whole.

    That the arrays are no larger than they should be is seen to by Orbax.
    """
    for path, array in jax.tree.leaves_with_path(headers):
        pieces = array.storage_metadata
        for piece in (pieces.chunk_shape, pieces.write_shape) if pieces else ():
            if math.prod(piece or ()) > max(1, math.prod(array.shape)):
                name = jax.tree_util.keystr(path, simple=True, separator=".")
                raise ValueError(f"{name} {[*array.shape]} is in pieces of {[*piece]}")


def _try_disk(draft: Path, state: TrainState) -> None:
    """Finds out that a disk is full or read-only: Orbax's threads are slow to, and noisy."""
    make_folder(draft.parent)
    draft.mkdir()
    with (draft / "room").open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _size(state))
    (draft / "room").unlink()


def _size(state: TrainState) -> int:
    """Bytes of a checkpoint, about."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD


def _reason(error: Exception, folder: Path, state: TrainState) -> str:
    """Why a checkpoint could not be saved; Orbax does not say that a disk is full.

    Called once the draft is gone, so that what is free was free for it.
    """
    said = _first_line(error)
    if isinstance(error, OSError | TrainingError):
        return said
    with suppress(OSError):
        if shutil.disk_usage(folder).free < _size(state):
            return f"{os.strerror(errno.ENOSPC)} ({said})"
    return said


def _read(path: Path, like: TrainState) -> TrainState:
    wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like._asdict()
    )
    content: Any = ocp.load(str(path / STATE), wanted)
    return TrainState(**content)


def _digest(state: TrainState) -> str:
    """A checksum of every number of the state."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _remove(folders: Iterable[Path]) -> None:
    for folder in [*folders]:
        shutil.rmtree(folder)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs the stack traces of the errors that it raises, from each of its threads."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _one_message(path: Path) -> Iterator[None]:
    """Turns whatever Orbax and the disk raise into one message."""
    try:
        with _quiet():
            yield
    except Exception as error:
        older = [i for i in saved_iterations(path.parent) if i < int(path.name)]
        advice = f"move it away to go on from iteration {older[-1]}" if older else "move it away"
        raise UsageError(
            f"cannot read the checkpoint {path}: {_first_line(error)}; {advice}"
        ) from error
