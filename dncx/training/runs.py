"""A run directory: what a training run is and what became of it.

config.json          task, model and training settings, as given
metrics.jsonl        one line a report
checkpoints/         see checkpoints.py
model.safetensors    the trained parameters, by name
earlier-1/, ...      runs that were in the directory before, moved aside
"""

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx, traverse_util

from dncx.config import DNCConfig
from dncx.dnc import DNC
from dncx.errors import UsageError
from dncx.tasks.base import Task
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.files import check_folder, write_whole
from dncx.training.settings import ModelSettings, TrainRepeatCopy

CONFIG, METRICS, MODEL = "config.json", "metrics.jsonl", "model.safetensors"
FORMAT = "dncx-run-1"
TASKS = {"repeat-copy": RepeatCopy}


def task_and_model(settings: TrainRepeatCopy) -> tuple[Task, DNCConfig]:
    """The task and the network that the flags ask for."""
    sizes = dataclasses.asdict(settings.model)
    nature = sizes.pop("equations") == "nature"
    if nature and sizes.pop("clip_value") != ModelSettings.clip_value:
        raise UsageError("clip_value: the paper's equations (equations=nature) do not clip")
    try:
        task = TASKS[settings.task_name](**dataclasses.asdict(settings.task))
        return task, DNCConfig.nature(**sizes) if nature else DNCConfig.deepmind(**sizes)
    except ValueError as error:
        raise UsageError(str(error)) from error


def describe(settings: TrainRepeatCopy, task: Task, config: DNCConfig) -> dict[str, Any]:
    """What config.json holds: enough to build the network again, and how it was trained."""
    run = dataclasses.asdict(settings.run)
    return {
        "format": FORMAT,
        "task": {"name": settings.task_name, **dataclasses.asdict(settings.task)},
        "model": {
            "input_size": task.input_size,
            "output_size": task.output_size,
            **dataclasses.asdict(config),
        },
        "optimizer": dataclasses.asdict(settings.optimizer),
        "training": {name: run[name] for name in ("batch_size", "seed", "num_training_iterations")},
        "id": uuid.uuid4().hex,
        "resumed": [],
    }


def compare_configs(saved: dict[str, Any], asked: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs, a line each: in the model and the optimiser's memory; in anything else."""
    model, rest = [], []
    for section in ("model", "task", "optimizer", "training"):
        for name, value in asked[section].items():
            before = saved[section].get(name)
            if before == value or name == "num_training_iterations":
                continue
            fixed = section == "model" or (name == "momentum" and 0 in (before, value))
            line = f"{name}: {before} in the checkpoint, {value} asked for"
            (model if fixed else rest).append(line)
    return model, rest


def build(config: dict[str, Any], rngs: nnx.Rngs) -> tuple[Task, DNC]:
    """The task and a fresh network of a configuration."""
    task_settings, model = dict(config["task"]), dict(config["model"])
    task = TASKS[task_settings.pop("name")](**task_settings)
    sizes = model.pop("input_size"), model.pop("output_size")
    return task, DNC(*sizes, DNCConfig(**model), rngs=rngs)


def load_run(run_dir: Path | str, **changes: Any) -> tuple[Task, DNC, dict[str, Any]]:
    """The task, the trained network and the configuration of a run.

    Args:
      run_dir: a run directory.
      **changes: settings of the task, or `memory_size`, other than in training.

    Raises:
      UsageError: there is no trained model, or its files do not fit together.
    """
    config_path, model_path = Path(run_dir) / CONFIG, Path(run_dir) / MODEL
    for path in (config_path, model_path):
        if not path.is_file():
            raise UsageError(
                f"{run_dir} is not a finished run: it has no {path.name} (an interrupted one "
                "goes on with the command that began it)"
            )
    config = read_config(config_path)
    for name, value in changes.items():
        config["model" if name in config["model"] else "task"][name] = value
    try:
        task, cell = build(config, nnx.Rngs(0))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"with the settings in {config_path}: {error}") from error
    graph, state = nnx.split(cell)
    wanted = flat_shapes(nnx.to_pure_dict(state))
    try:
        found = safetensors.numpy.load_file(model_path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UsageError(f"cannot read {model_path}: {error}") from error
    differences = compare_shapes(flat_shapes(found), wanted)
    if differences:
        raise UsageError(f"{model_path} does not fit {config_path}:\n  " + "\n  ".join(differences))
    return task, nnx.merge(graph, nested(found)), config


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Writes config.json, whole or not at all."""
    write_whole(run_dir / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def save_model(run_dir: Path, params: Any, iteration: int) -> Path:
    """Writes model.safetensors, whole or not at all."""
    path = run_dir / MODEL
    arrays = {name: np.asarray(array) for name, array in flat(params).items()}
    write_whole(path, safetensors.numpy.save(arrays, metadata={"iteration": str(iteration)}))
    return path


def trained_iterations(run_dir: Path) -> int | None:
    """How far the model in a run directory was trained; None where there is none."""
    if not (run_dir / MODEL).exists():
        return None
    try:
        with safetensors.safe_open(run_dir / MODEL, framework="numpy") as model:
            return int((model.metadata() or {})["iteration"])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise UsageError(f"cannot read {run_dir / MODEL}: {error}") from error


def read_config(path: Path) -> dict[str, Any]:
    """config.json, if it is one of ours."""
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(f"{path} is not the configuration of a dncx run")
    missing = {"task", "model", "optimizer", "training", "id", "resumed"} - set(config)
    if missing:
        raise UsageError(f"{path} is broken: it has no {', '.join(sorted(missing))}")
    return config


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
