"""A run directory: the files of a run, and the trained model in it.

config.json          the settings: task, network, optimiser, updates (config.py)
metrics.jsonl        one line per report
checkpoints/         see checkpoints.py
failure/             the state before non-finite updates, as a checkpoint
tensorboard/         events, with --tensorboard
model.safetensors    the trained parameters by name; with validation the best ones
lock                 locked while a process trains here (lock.py)
seed-0/, ...         the run directory of each network of a population
earlier-1/, ...      earlier runs in this directory, moved aside
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx, traverse_util

from dncx.errors import UsageError
from dncx.networks.build import Network, make_network
from dncx.networks.config import NetworkConfig
from dncx.networks.custom import custom_network
from dncx.networks.outputs import first_outputs, without_auxiliary
from dncx.runs import checkpoints
from dncx.runs.codec import from_plain, to_plain
from dncx.runs.config import RunConfig, TaskConfig, edited_files, read_config
from dncx.runs.files import check_folder, write_whole
from dncx.runs.hub import is_on_hub
from dncx.runs.manifest import Checkpoint, manifest_in
from dncx.runs.paths import CONFIG, MODEL, find_run
from dncx.runs.progress import Progress
from dncx.runs.trained import TrainedModel, find_trained
from dncx.settings.paths import as_path
from dncx.tasks.base import Objective, num_saved_outputs
from dncx.tasks.registry import TASKS

_LOG = logging.getLogger("dncx")


class TrainedRun(NamedTuple):
    """A trained model with its task and configuration.

    `dncx.unroll(run.network, inputs)` computes the outputs of any of these networks.
    """

    task: Any
    network: Network
    config: RunConfig
    progress: Progress  # how far the model is trained


def load_run(
    run_dir: Path | str,
    *,
    checkpoint: int | None = None,
    network: str | Callable[..., Any] | None = None,
    **changes: Any,
) -> TrainedRun:
    """The task, the trained network, the configuration and the progress of a run.

    If the run has not ended, the network is that of its newest checkpoint, and a warning is logged.

    Args:
      run_dir: a run directory, the name of a model that ships with dncx, or `hf://owner/name`, a
        model on the Hugging Face hub (`hf://owner/name@revision`).
      checkpoint: the iteration of the checkpoint to use instead.
      network: for a run with a custom network: its FILE.py:FUNCTION, or the function itself.
      **changes: settings of the task, or `memory_size`, that differ from training.

    Raises:
      UsageError: if there is neither a trained model nor an intact checkpoint, or the files do not
        fit together.

    Example:
      >>> run = load_run("associative-recall")
      >>> run.config.network.memory_size
      16
    """
    given = as_path(run_dir)
    model = find_trained(find_run(given), checkpoint)
    return load_trained(model, network, elsewhere=is_on_hub(given), changes=changes)


def load_trained(
    model: TrainedModel,
    network: str | Callable[..., Any] | None = None,
    *,
    elsewhere: bool = False,
    changes: Mapping[str, Any],
) -> TrainedRun:
    """`load_run` for a model that was found already.

    Args:
      model: the trained model.
      network: as in `load_run`.
      elsewhere: whether it was trained on another machine, whose files its settings name.
      changes: as in `load_run`.
    """
    if model.note:
        _warn_once(model.note)
    run_dir, changes = model.run_dir, dict(changes)
    settings = model.summary.task.settings
    arrays, config = read_model(model)
    memory_size = changes.pop("memory_size", None)
    network_config = with_source(config.network, network, run_dir)
    if memory_size is not None:
        network_config = _resized(network_config, memory_size)
    task = task_of(run_dir, config.task.name, settings, changes)
    _check_sizes(run_dir, network_config, task)
    trained_outputs, outputs = network_config.output_size, num_saved_outputs(task)
    network_config = dataclasses.replace(network_config, output_size=outputs, separate_value=False)
    for name in () if elsewhere else edited_files(config, task):
        _warn_once(f"{name}: the content has changed since {run_dir} was trained")
    shapes = nnx.eval_shape(lambda: make_network(network_config, nnx.Rngs(0)))
    graph, state = nnx.split(shapes)
    arrays = without_auxiliary(arrays, trained_outputs, outputs)
    differences = compare_shapes(flat_shapes(arrays), flat_shapes(nnx.to_pure_dict(state)))
    if differences:
        lines = "\n  ".join(differences)
        raise UsageError(f"{model.file} does not fit {run_dir / CONFIG}:\n  {lines}")
    used = TaskConfig(name=config.task.name, settings=settings | to_plain(changes))
    config = dataclasses.replace(config, task=used, network=network_config)
    return TrainedRun(task, nnx.merge(graph, nested(arrays)), config, model.progress)


def with_source(
    config: NetworkConfig, network: str | Callable[..., Any] | None, run_dir: Path
) -> NetworkConfig:
    """The configuration of a run's network, with the custom function that a person names.

    Raises:
      UsageError: if the network is not custom, or there is no such function.
    """
    if network is None:
        return config
    if config.source is None:
        raise UsageError(f"network: {run_dir} has a {config.kind} network, not a custom one")
    source = custom_network(network)
    if source.sha256 != config.source.sha256:
        _warn_once(f"{source.name}: the content has changed since {run_dir} was trained")
    return dataclasses.replace(config, source=source)


def read_model(model: TrainedModel) -> tuple[dict[str, Any], RunConfig]:
    """The parameters of a trained model by name, and the configuration it was trained with.

    The files of a checkpoint were verified when it was found.

    Raises:
      UsageError: if a file is missing or invalid.
    """
    if model.checkpoint is None:
        return load_model(model.file), read_config(model.run_dir / CONFIG)
    try:
        checkpoint = Checkpoint(model.checkpoint, manifest_in(model.checkpoint))
    except (OSError, ValueError) as error:  # training may have removed it a moment ago
        raise UsageError(f"cannot read the checkpoint {model.checkpoint}: {error}") from error
    params, config = checkpoints.saved_model(checkpoint, model.number), checkpoint.manifest.config
    if model.number is not None:
        config = config.of_seed(config.updates.seed + model.number)
    return flat(params), config


@functools.cache
def _warn_once(message: str) -> None:
    """For a sweep, which loads a run many times."""
    _LOG.warning(message)


def task_of(
    run_dir: Path, name: str, settings: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> Objective:
    """The task of a run.

    Args:
      run_dir: for messages.
      name: the name of the task.
      settings: the settings in config.json.
      changes: settings that differ, as values of their own types.

    Raises:
      UsageError: if the task is unknown, or rejects its settings.
    """
    if name not in TASKS:
        raise UsageError(
            f"{run_dir} was trained on the unknown task {name}: use that task's own command line, "
            f"or in Python first set dncx.tasks.registry.TASKS[{name!r}] = ITS_CLASS"
        )
    kind = TASKS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(changes or {}) - known):
        raise UsageError(
            f"{', '.join(unknown)}: the task {name} has no such setting; it has "
            f"{', '.join(sorted(known | {'memory_size'}))}"
        )
    plain = dict(settings) | to_plain(dict(changes or {}))
    return from_plain(plain, kind, f"the settings of {run_dir}")


def _resized(network: NetworkConfig, memory_size: int) -> NetworkConfig:
    if network.memory_size is None:
        raise UsageError(f"memory_size={memory_size}: {network.kind} networks have no slots")
    try:
        return network.with_memory_size(memory_size)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_sizes(run_dir: Path, network: NetworkConfig, task: Objective) -> None:
    for name in ("input_size", "output_size"):
        trained, needed = getattr(network, name), getattr(task, name)
        if trained != needed:
            raise UsageError(
                f"{run_dir} was trained with {name} {trained}; with these settings the task needs "
                f"{needed}"
            )


def save_model(run_dir: Path, params: Any, progress: Progress, outputs: int | None = None) -> Path:
    """Writes model.safetensors, completely or not at all.

    Args:
      run_dir: the run directory.
      params: the parameters of a network.
      progress: the progress of the run.
      outputs: the number of outputs to save, from the first one on; None: all.
    """
    path = run_dir / MODEL
    arrays = {name: np.asarray(array) for name, array in flat(params).items()}
    # safetensors writes the buffer of a view as if it were contiguous.
    arrays = {n: np.asarray(x, order="C") for n, x in first_outputs(arrays, outputs).items()}
    header = {"progress": msgspec.json.encode(progress).decode()}
    write_whole(path, safetensors.numpy.save(arrays, metadata=header))
    return path


def load_model(path: Path) -> dict[str, Any]:
    """The parameters in a model.safetensors, by name.

    Raises:
      UsageError: if the file is missing or invalid, or its numbers are not float32.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, ValueError, LookupError, safetensors.SafetensorError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    except (AttributeError, TypeError) as error:  # raised by safetensors for unsupported dtypes
        raise UsageError(f"cannot read {path}: {error}") from error
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise UsageError(f"cannot read {path}: {name} must be float32, not {array.dtype}")
    return arrays


def check_run_dir(run_dir: Path) -> None:
    """Refuses a folder that is not a run directory, or is from another version of dncx."""
    check_folder(run_dir, "run_dir")
    if (run_dir / CONFIG).exists():
        read_config(run_dir / CONFIG)


def compare_shapes(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The differences of two flat trees of shapes, one line each."""
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
    """The inverse of `flat`; layers in a list are numbered."""
    return traverse_util.unflatten_dict(
        {
            tuple(int(p) if p.isdecimal() else p for p in name.split(".")): jnp.asarray(value)
            for name, value in arrays.items()
        }
    )
