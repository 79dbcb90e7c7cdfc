"""Checkpoints: a folder of numbered Orbax checkpoints, each with the configuration it is of.

    <checkpoint_dir>/<iteration>/     state and configuration after that many iterations

This is the only module that knows Orbax.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from dncx.errors import UsageError
from dncx.training.step import TrainState

# Orbax writes this file with every checkpoint; a folder without it is none.
_MARKER = "_CHECKPOINT_METADATA"


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
    iteration = int(state.iteration)
    path = folder / str(iteration)
    ocp.save(str(path), state._asdict(), custom_metadata=config)
    if keep:
        for old in saved_iterations(folder)[:-keep]:
            shutil.rmtree(folder / str(old))
    return path


def load_config(path: Path) -> dict[str, Any]:
    """The configuration that a checkpoint was saved with."""
    try:
        config = ocp.metadata(str(path)).custom_metadata
    except Exception as error:  # Orbax raises whatever lies beneath: OSError, JSON errors, ...
        raise UsageError(f"cannot read the checkpoint {path}: {_first_line(error)}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} is not a checkpoint of dncx: it has no configuration")
    return config


def saved_params(path: Path) -> Any:
    """The parameters in a checkpoint as a tree of their shapes and dtypes."""
    return ocp.metadata(str(path)).metadata["params"]


def load(path: Path, like: TrainState) -> TrainState:
    """The state in a checkpoint, which must be of the same model as `like`."""
    wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like._asdict()
    )
    try:
        return TrainState(**ocp.load(str(path), wanted))
    except Exception as error:  # as above
        raise UsageError(f"cannot read the checkpoint {path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
