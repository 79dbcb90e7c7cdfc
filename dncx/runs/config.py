"""config.json: what a run is, as plain JSON. No JAX here, as the command line reads it, too."""

import dataclasses
import json
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dncx.errors import UsageError
from dncx.runs.files import write_whole
from dncx.settings.training import OptimizerSettings, RunSettings, ScaleSettings

CONFIG, METRICS, MODEL = "config.json", "metrics.jsonl", "model.safetensors"
FAILURE = "failure"  # the folder of what is kept where updates are not finite
MODELS = Path(__file__).parent.parent / "models"  # trained ones that ship with dncx
FORMAT = "dncx-run-1"
_NAMED = 4  # runs in a message
LARGEST = 2**22  # bytes of a config.json, which has some thousand


def seed_dir(run_dir: Path, seed: int) -> Path:
    """Where a network of a population has its run directory."""
    return run_dir / f"seed-{seed}"


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Writes config.json, whole or not at all."""
    write_whole(run_dir / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def read_config(path: Path) -> dict[str, Any]:
    """config.json, if it is one of ours.

    Raises:
      UsageError: it is not, or `check_config` refuses it.
    """
    try:
        if path.exists() and not (path.is_file() and path.stat().st_size <= LARGEST):
            raise ValueError(f"it is no file of at most {LARGEST} bytes")
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    check_config(config, path)
    return config


def check_config(config: Any, name: Path | str) -> None:
    """Refuses what is not the configuration of a run, by the name of where it is from.

    Raises:
      UsageError: it is none, or a part of it is missing or of another kind.
    """
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(f"{name} is not the configuration of a dncx run")
    missing = {"task", "model", "optimizer", "training", "id", "resumed"} - set(config)
    if missing:
        raise UsageError(f"{name} is broken: it has no {', '.join(sorted(missing))}")
    for part, kind in _PARTS.items():
        section, _, field = part.partition(".")
        if section in _NOT_OF_ALL and section not in config:
            continue
        holder, key = (config[section], field) if field else (config, section)
        value = holder.get(key)
        if key not in holder or not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{name} is broken: its {part} is no {_KINDS[kind]}")
    for section, fields in _FIELDS.items():
        for field, value in config[section].items():
            if field in fields and not _fits(value, fields[field]):
                raise UsageError(
                    f"{name} is broken: its {section}.{field} is not of the kind that it must be"
                )


# What is read of a configuration without a look at its kind; each section before its fields.
_NUMBER = int | float | None
_KINDS = {dict: "object", list: "list", str: "text", int: "whole number", _NUMBER: "number"}
_NOT_OF_ALL = {"lesson", "validation"}
_PARTS = {
    **dict.fromkeys(("task", "model", "optimizer", "training"), dict),
    "resumed": list,
    "task.name": str,
    "model.name": str,
    "model.memory_size": int,
    "training.num_training_iterations": int,
    "lesson": int,
    "validation": dict,
    "validation.error": _NUMBER,
    "validation.iteration": int,
    "validation.worse": int,
}
_FIELDS = {
    "optimizer": get_type_hints(OptimizerSettings),
    "training": get_type_hints(RunSettings) | get_type_hints(ScaleSettings),
}


def find_run(run: Path) -> Path:
    """A run directory; where there is none of this name, the model that ships under it.

    Raises:
      UsageError: the system does not take the name, or refuses to look there.
    """
    shipped = MODELS / run
    try:
        return shipped if not run.exists() and (shipped / CONFIG).exists() else run
    except OSError as error:
        raise UsageError(f"{str(run)[:300]}: {error.strerror}") from error


def shipped_models() -> list[str]:
    """The names of the models that ship with dncx."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{CONFIG}"))


def read_finished(run_dir: Path) -> dict[str, Any]:
    """The configuration of a run that has a trained model; its last lesson is the one reached."""
    if not run_dir.exists():
        raise UsageError(
            f"there is no run {run_dir}, nor a model of this name that ships with dncx: "
            f"{', '.join(shipped_models())}"
        )
    if seeds := sorted(path.parent.name for path in run_dir.glob(f"seed-*/{MODEL}")):
        raise UsageError(
            f"{run_dir} has a network of each seed; name one: "
            + ", ".join(str(run_dir / seed) for seed in seeds[:_NAMED])
            + (", ..." if len(seeds) > _NAMED else "")
        )
    for name in (CONFIG, MODEL):
        if not (run_dir / name).is_file():
            raise UsageError(
                f"{run_dir} is not a finished run: it has no {name} (an interrupted one goes on "
                "with the command that began it, and with a --num_training_iterations that it has "
                "reached already becomes a model as it is)"
            )
    config = read_config(run_dir / CONFIG)
    if "lesson" in config and "last_lesson" in config["task"]:
        config["task"]["last_lesson"] = config["lesson"]
    return config


def compare_configs(saved: dict[str, Any], asked: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs, a line each: what is the same in all of a run, and the rest."""
    model, rest = [], []
    for section in ("model", "task", "optimizer", "training"):
        for name, value in asked[section].items():
            before = saved[section].get(name)
            setting = f"{section}.{name}"
            if before == value or setting == "training.num_training_iterations":
                continue
            fixed = section == "model" or setting in ("task.name", "training.num_seeds")
            fixed |= setting == "training.seed" and asked["training"]["num_seeds"] > 1
            of_memory = setting in ("optimizer.momentum", "optimizer.weight_average")
            fixed |= of_memory and 0 in (before, value)
            line = f"{name}: {before} in the checkpoint, {value} asked for"
            (model if fixed else rest).append(line)
    return model, rest


def fields_of(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as its class takes them."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back; paths are absolute, as a run may be used from anywhere."""
    return json.loads(json.dumps(settings, default=lambda path: str(path.resolve())))


def task_settings(config: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The settings of a run's task that a dataclass has as fields, as it takes them.

    Raises:
      UsageError: a value is not of the kind that the field has.
    """
    hints = get_type_hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in config["task"]:
            value = config["task"][field.name]
            kinds = (hints[field.name], *get_args(hints[field.name]))
            if not _fits(value, hints[field.name]):
                raise UsageError(
                    f"{field.name}={str(value)[:100]}: not of the kind that it must be"
                )
            if isinstance(value, list):
                value = tuple(value)
            elif Path in kinds and value is not None:
                value = Path(value)
            given[field.name] = value
    return given


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is one for a field; of the kinds that settings do not have, any is."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, parts[0]) for one in value)
    kinds = {int: Integral, float: Real, str: str, Path: str | Path, NoneType: NoneType}
    if hint is bool or isinstance(value, bool):
        return isinstance(value, bool) and hint not in kinds
    return isinstance(value, kinds.get(hint, object))
