"""A run directory: what a training run is and what became of it.

config.json          task, model and training settings, as given
metrics.jsonl        one line a report
checkpoints/         see checkpoints.py
failure/             where updates were not finite: the state before them, as a checkpoint
tensorboard/         with --tensorboard: events
model.safetensors    the trained parameters, by name; with validation the best
lock                 held while a process trains here (lock.py)
seed-0/, ...         of a population: a run directory of each network
earlier-1/, ...      runs that were in the directory before, moved aside
"""

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx, traverse_util

from dncx.errors import UsageError
from dncx.networks.build import Network, make_network
from dncx.runs.config import (
    CONFIG,
    FORMAT,
    MODEL,
    fields_of,
    find_run,
    plain,
    read_config,
    read_finished,
    task_settings,
)
from dncx.runs.files import check_folder, write_whole
from dncx.settings.training import TrainSettings
from dncx.tasks.registry import TASKS, make_task

_TRAINING = ("batch_size", "seed", "num_training_iterations", "skip_spikes")
_SCALE = ("num_seeds", "gradient_accumulation", "truncation")


def describe(settings: TrainSettings[Any], model: dict[str, Any], loss_unit: str) -> dict[str, Any]:
    """What config.json holds: enough to build the network again, and how it was trained."""
    run, scale = fields_of(settings.run), fields_of(settings.scale)
    return {
        "format": FORMAT,
        "task": {"name": settings.task_name, **plain(fields_of(settings.task))},
        "model": model,
        "optimizer": dataclasses.asdict(settings.optimizer),
        "training": {name: run[name] for name in _TRAINING}
        | {name: scale[name] for name in _SCALE},
        "implementation": settings.implementation,
        "loss_unit": loss_unit,
        "id": uuid.uuid4().hex,
        "resumed": [],
    }


def load_run(run_dir: Path | str, **changes: Any) -> tuple[Any, Network, dict[str, Any]]:
    """The task, the trained network and the configuration of a run.

    Args:
      run_dir: a run directory, or the name of a model that ships with dncx.
      **changes: settings of the task, or `memory_size`, other than in training.

    Raises:
      UsageError: there is no trained model, or its files do not fit together.
    """
    run_dir = find_run(Path(run_dir))
    config_path, model_path = run_dir / CONFIG, run_dir / MODEL
    config = read_finished(run_dir)
    kind = known_task(run_dir, config)
    known = {"memory_size", *(field.name for field in dataclasses.fields(kind))}
    if unknown := set(changes) - known:
        raise UsageError(
            f"{', '.join(sorted(unknown))}: the task {kind.name} has no such setting; there are "
            f"{', '.join(sorted(known))}"
        )
    for setting, value in changes.items():
        config["model" if setting == "memory_size" else "task"][setting] = value
    try:
        task = make_task(kind.name, task_settings(config, kind))
        network = nnx.eval_shape(lambda: make_network(config["model"], nnx.Rngs(0)))
    except (KeyError, TypeError, ValueError) as error:
        settings = f"with the settings in {config_path}, and those given"
        raise UsageError(f"{error} ({settings})") from error
    sizes = {"input_size": task.input_size, "output_size": task.output_size}
    for size, needed in sizes.items():
        if needed != config["model"][size]:
            raise UsageError(
                f"{run_dir} was trained with {size} {config['model'][size]}; with these settings "
                f"the task needs {needed}"
            )
    graph, state = nnx.split(network)
    wanted, found = flat_shapes(nnx.to_pure_dict(state)), load_model(model_path)
    differences = compare_shapes(flat_shapes(found), wanted)
    if differences:
        raise UsageError(f"{model_path} does not fit {config_path}:\n  " + "\n  ".join(differences))
    return task, nnx.merge(graph, nested(found)), config


def known_task(run_dir: Path, config: dict[str, Any]) -> Any:
    """The class of a run's task.

    Raises:
      UsageError: it is not in `TASKS`.
    """
    name = config["task"]["name"]
    if name not in TASKS:
        raise UsageError(
            f"{run_dir} is of the task {name}, which dncx does not know: use the command line of "
            f"the task, or in Python first dncx.tasks.registry.TASKS[{name!r}] = ITS_CLASS"
        )
    return TASKS[name]


def save_model(run_dir: Path, params: Any, iteration: int) -> Path:
    """Writes model.safetensors, whole or not at all."""
    path = run_dir / MODEL
    arrays = {name: np.asarray(array) for name, array in flat(params).items()}
    write_whole(path, safetensors.numpy.save(arrays, metadata={"iteration": str(iteration)}))
    return path


_UNREADABLE = OSError, KeyError, ValueError, safetensors.SafetensorError


def load_model(path: Path) -> dict[str, Any]:
    """The parameters that `save_model` wrote, by name."""
    try:
        arrays = safetensors.numpy.load_file(path)
    except (*_UNREADABLE, AttributeError, TypeError) as error:  # the last two: odd dtypes
        raise UsageError(f"cannot read {path}: {error}") from error
    odd = {name: array.dtype for name, array in arrays.items() if array.dtype != np.float32}
    for name, dtype in odd.items():
        raise UsageError(f"cannot read {path}: {name} is {dtype}, and must be float32")
    return arrays


def trained_iterations(run_dir: Path) -> int | None:
    """How far the model in a run directory was trained; None where there is none."""
    if not (run_dir / MODEL).exists():
        return None
    try:
        with safetensors.safe_open(run_dir / MODEL, framework="numpy") as model:
            return int((model.metadata() or {})["iteration"])
    except _UNREADABLE as error:
        raise UsageError(f"cannot read {run_dir / MODEL}: {error}") from error


def check_run_dir(run_dir: Path) -> None:
    """Refuses a run directory that is something else."""
    check_folder(run_dir, "run_dir")
    if (run_dir / CONFIG).exists():
        read_config(run_dir / CONFIG)


def compare_shapes(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Where two flat trees of shapes differ, a line each."""
    return [
        f"{name}: {found.get(name, 'absent')} there, {wanted.get(name, 'absent')} here"
        for name in sorted(found | wanted)
        if found.get(name) != wanted.get(name)
    ]


def flat(params: Any) -> dict[str, Any]:
    """A tree of parameters by name: "controller.gates.kernel" and so on."""
    leaves = traverse_util.flatten_dict(params)
    return {".".join(str(part) for part in path): leaf for path, leaf in leaves.items()}


def flat_shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a tree of parameters, by name."""
    return {name: tuple(leaf.shape) for name, leaf in flat(params).items()}


def nested(arrays: dict[str, Any]) -> Any:
    """The inverse of `flat`; layers of a list are numbered."""
    return traverse_util.unflatten_dict(
        {
            tuple(int(p) if p.isdecimal() else p for p in name.split(".")): jnp.asarray(value)
            for name, value in arrays.items()
        }
    )
