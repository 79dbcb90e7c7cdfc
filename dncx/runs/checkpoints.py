"""Checkpoints: a folder of numbered states, each with a manifest of its contents.

    <checkpoint_dir>/<iteration>/state/      the state of training, as Orbax writes it
    <checkpoint_dir>/<iteration>/manifest    configuration, progress, checksums (manifest.py)
    <checkpoint_dir>/saving-<iteration>/     a checkpoint that is being written
    <checkpoint_dir>/discarded-<iteration>/  a checkpoint that is being deleted
    <checkpoint_dir>/corrupt-<iteration>/    a corrupt checkpoint that was moved aside

This is the only module that imports Orbax.
"""

import dataclasses
import errno
import hashlib
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from dncx.errors import TrainingError, UsageError
from dncx.runs import integrity, processes
from dncx.runs.config import RunConfig
from dncx.runs.files import free_path, make_folder, on_disk
from dncx.runs.integrity import MANIFEST, numbered, write_manifest
from dncx.runs.manifest import Checkpoint, Manifest, NonFinite, Score, score_of, verified
from dncx.runs.progress import Progress
from dncx.runs.state import TrainState

STATE = "state"
_SAVING, _DISCARDED, _CORRUPT = "saving-", "discarded-", "corrupt-"

_OVERHEAD = 2**16  # bytes of a checkpoint in addition to its numbers, rounded up


class Kept(NamedTuple):
    """The checkpoints that are kept."""

    newest: int  # how many; 0: all
    best: int = 0  # how many more: the lowest scores among those comparable to the newest one's


ALL = Kept(0)


def saved_iterations(folder: Path) -> list[int]:
    """The iterations with a completely written checkpoint in the folder, in order."""
    return [number for number in numbered(folder) if (folder / str(number) / MANIFEST).is_file()]


def newest_intact(folder: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest intact checkpoint, if any; see `integrity.newest_intact`."""
    return integrity.newest_intact(folder, verified)


def move_aside(corrupt: Iterable[Path]) -> list[Path]:
    """Renames corrupt checkpoints, so that their iterations can be saved again.

    Returns the new paths.
    """
    return [path.rename(free_path(path.with_name(_CORRUPT + path.name))) for path in corrupt]


def save(
    folder: Path,
    state: TrainState,
    config: RunConfig,
    progress: Progress,
    kept: Kept,
    *,
    score: Score | None = None,
    failure: NonFinite | None = None,
) -> Path:
    """Writes a checkpoint and reads it back; then removes checkpoints that need not be kept.

    Args:
      folder: the folder of the checkpoints.
      state: the state to save; if there are several processes, all of them must call this.
      config: the configuration of the run.
      progress: the progress of the run; its iteration is taken from the state.
      kept: the checkpoints to keep.
      score: the score of the model; None: not known.
      failure: see `Manifest`.

    Raises:
      TrainingError: if it could not be written; earlier checkpoints are unchanged.
      JaxRuntimeError, ValueError: see `processes.of_a_loss`.
    """
    path = folder / str(state.reached)
    draft = path.with_name(_SAVING + path.name)
    progress = dataclasses.replace(progress, iteration=state.reached)
    try:
        processes.on_primary(lambda: _begin(draft, state))
        with _quiet():
            ocp.save(str(draft / STATE), state._asdict())
            digest = _digest(state)
            if _digest(_read(draft, state)) != digest:
                raise TrainingError("the data read back differ from the data written")
        manifest = Manifest(
            config=config, progress=progress, digest=digest, score=score, failure=failure
        )
        processes.on_primary(lambda: _finish(Checkpoint(draft, manifest), path, kept))
    except Exception as error:  # Orbax and the disk raise many kinds
        if processes.is_primary():
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
    """Writes the manifest, gives the checkpoint its name, and removes unneeded checkpoints."""
    draft, manifest = checkpoint
    write_manifest(draft, manifest)
    draft.rename(path)
    on_disk(path.parent)
    _remove_old(path.parent, kept, manifest.score)


def _remove_old(folder: Path, kept: Kept, newest: Score | None) -> None:
    """Removes all checkpoints except the newest, and the best of those comparable to the newest."""
    old = saved_iterations(folder)[: -kept.newest] if kept.newest else []
    stay: set[int] = set()
    if kept.best and newest:
        scores = [(score_of(folder / str(iteration)), iteration) for iteration in old]
        comparable = [(s.value, i) for s, i in scores if s and s.of == newest.of]
        stay = {iteration for _, iteration in sorted(comparable)[: kept.best]}
    for iteration in set(old) - stay:
        # Renamed first: a crash must not leave half a checkpoint under a checkpoint's name.
        (folder / str(iteration)).rename(folder / f"{_DISCARDED}{iteration}")
    _remove(folder.glob(f"{_DISCARDED}*"))


def last_saved(folder: Path) -> str:
    """A description of the last checkpoint, for messages when training stops."""
    if saved := saved_iterations(folder):
        return f"the last good checkpoint is {folder / str(saved[-1])}"
    return "there is no checkpoint yet (--checkpoint_interval sets how often to save one)"


def saved_params(checkpoint: Checkpoint) -> Any:
    """The parameters in a checkpoint as a tree of their shapes and dtypes."""
    with _one_message(checkpoint.path):
        return _headers(checkpoint)["params"]


def load(checkpoint: Checkpoint, like: TrainState) -> TrainState:
    """The state in a checkpoint, which must be of the same model as `like`.

    `training.setup` makes `like`: the shapes and dtypes of the first state.
    """
    with _one_message(checkpoint.path):
        _check_pieces(_headers(checkpoint))
        state = _read(checkpoint.path, like)
        if _digest(state) != checkpoint.manifest.digest:
            raise ValueError("its numbers are corrupt (their checksum does not match)")
        return state


def saved_model(checkpoint: Checkpoint, number: int | None = None) -> Any:
    """The parameters of the model in a checkpoint: the best ones so far, if there is validation.

    Args:
      checkpoint: an intact checkpoint.
      number: the number from 0 of the network, in a checkpoint of a population.
    """
    with _one_message(checkpoint.path):
        headers = _headers(checkpoint)
        _check_pieces(headers)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), headers
        )
        content: Any = ocp.load(str(checkpoint.path / STATE), wanted)
    params = content["best"] or content["average"] or content["params"]
    return params if number is None else jax.tree.map(lambda x: x[number], params)


def _headers(checkpoint: Checkpoint) -> Any:
    """The shapes of a state's arrays and of their pieces, before any is read."""
    metadata: Any = ocp.metadata(str(checkpoint.path / STATE))
    return metadata.metadata


def _check_pieces(headers: Any) -> None:
    """Refuses arrays with pieces larger than the array: a piece is unpacked at once.

    Orbax itself checks the size of the arrays.
    """
    for path, array in jax.tree.leaves_with_path(headers):
        pieces = array.storage_metadata
        for piece in (pieces.chunk_shape, pieces.write_shape) if pieces else ():
            if math.prod(piece or ()) > max(1, math.prod(array.shape)):
                name = jax.tree_util.keystr(path, simple=True, separator=".")
                raise ValueError(f"{name} {[*array.shape]} is in pieces of {[*piece]}")


def _try_disk(draft: Path, state: TrainState) -> None:
    """Fails at once on a full or read-only disk: Orbax's threads take long, and log a lot."""
    make_folder(draft.parent)
    draft.mkdir()
    with (draft / "room").open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _size(state))
    (draft / "room").unlink()


def _size(state: TrainState) -> int:
    """The approximate size of a checkpoint in bytes."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD


def _reason(error: Exception, folder: Path, state: TrainState) -> str:
    """The reason why a checkpoint could not be saved; Orbax does not report that a disk is full.

    Call it after the draft was deleted: the free space is then what was free for the draft.
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
    """Keeps stack traces of the errors that Orbax raises off the terminal.

    Each of its threads logs them. After the first error, Orbax also closes its event loop while
    other writes are still running. TensorStore reports the end of each write to the closed loop, an
    error that Python prints from any thread, even long after this context has ended. The hook that
    mutes these errors therefore stays in place after an error.
    """
    before, hook = logging.root.manager.disable, sys.unraisablehook
    logging.disable()
    if not isinstance(hook, _UnlessLoopClosed):
        sys.unraisablehook = _UnlessLoopClosed(hook)
    try:
        yield
    finally:
        logging.disable(before)
    sys.unraisablehook = hook


class _UnlessLoopClosed(NamedTuple):
    """A `sys.unraisablehook` that drops one error and passes the others to another hook."""

    hook: Callable[[Any], Any]

    def __call__(self, error: Any) -> None:
        if not (error.object is None and str(error.exc_value) == "Event loop is closed"):
            self.hook(error)


@contextmanager
def _one_message(path: Path) -> Iterator[None]:
    """Turns all errors of Orbax and the disk into one message."""
    try:
        with _quiet():
            yield
    except Exception as error:
        older = [i for i in saved_iterations(path.parent) if i < int(path.name)]
        advice = f"move it away to resume from iteration {older[-1]}" if older else "move it away"
        raise UsageError(
            f"cannot read the checkpoint {path}: {_first_line(error)}; {advice}"
        ) from error
