"""Checkpoints: a folder of numbered Orbax checkpoints, each with the configuration it is of.

    <checkpoint_dir>/<iteration>/     state and configuration after that many iterations

This is the only module that knows Orbax.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from dncx.errors import UsageError
from dncx.training.configuration import FORMAT
from dncx.training.step import TrainState

# Orbax writes this file with every checkpoint; a folder without it is none.
_MARKER = "_CHECKPOINT_METADATA"
# What a checkpoint is renamed to before it is deleted, so that half of one never looks whole.
_DISCARDED = "discarded-"


def saved_iterations(folder: Path) -> list[int]:
    """The iterations with a checkpoint in the folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if entry.name.isdecimal() and (entry / _MARKER).is_file()
    )


def save(folder: Path, state: TrainState, config: dict[str, Any], keep: int) -> Path:
    """Writes a checkpoint; then removes all but the newest `keep` (0: removes none)."""
    path = folder / str(int(state.iteration))
    content = {"config": config, "sha256": _digest(state)}
    # what may be in the way has no marker: a checkpoint half written or half deleted by a crash
    ocp.save(str(path), state._asdict(), custom_metadata=content, overwrite=True)
    if keep:
        for old in saved_iterations(folder)[:-keep]:
            (folder / str(old)).rename(folder / f"{_DISCARDED}{old}")
        for discarded in folder.glob(f"{_DISCARDED}*"):
            shutil.rmtree(discarded)
    return path


def load_config(path: Path) -> dict[str, Any]:
    """The configuration that a checkpoint was saved with."""
    with _one_message(path):
        config = _metadata(path).custom_metadata["config"]
        if config["format"] != FORMAT:
            raise ValueError(f"it is of the format {config['format']}")
        return config


def saved_params(path: Path) -> Any:
    """The parameters in a checkpoint as a tree of their shapes and dtypes."""
    with _one_message(path):
        return _metadata(path).metadata["params"]


def load(path: Path, like: TrainState) -> TrainState:
    """The state in a checkpoint, which must be of the same model as `like`."""
    wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like._asdict()
    )
    with _one_message(path):
        content: Any = ocp.load(str(path), wanted)
        state = TrainState(**content)
        if _digest(state) != _metadata(path).custom_metadata["sha256"]:
            raise ValueError("its numbers are not those that were saved (checksum)")
        return state


def _metadata(path: Path) -> Any:
    return ocp.metadata(str(path))


def _digest(state: TrainState) -> str:
    """A checksum of every number of the state."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@contextmanager
def _one_message(path: Path) -> Iterator[None]:
    """Turns whatever Orbax and the disk raise, and log, into one message."""
    logger = logging.getLogger("asyncio")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        older = [i for i in saved_iterations(path.parent) if i < int(path.name)]
        advice = f"move it away to go on from iteration {older[-1]}" if older else "move it away"
        raise UsageError(
            f"cannot read the checkpoint {path}: {type(error).__name__}: {lines[0][:200]}; {advice}"
        ) from error
    finally:
        logger.disabled = disabled
