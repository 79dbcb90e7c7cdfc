"""config.json: what a run is, as plain JSON. No JAX here, as the command line reads it, too."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

from dncx.errors import UsageError
from dncx.training.files import write_whole

CONFIG, METRICS, MODEL = "config.json", "metrics.jsonl", "model.safetensors"
MODELS = Path(__file__).parent.parent / "models"  # trained ones that ship with dncx
FORMAT = "dncx-run-1"


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Writes config.json, whole or not at all."""
    write_whole(run_dir / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


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


def find_run(run: Path) -> Path:
    """A run directory; where there is none of this name, the model that ships under it."""
    shipped = MODELS / run
    return shipped if not run.exists() and (shipped / CONFIG).exists() else run


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
    for name in (CONFIG, MODEL):
        if not (run_dir / name).is_file():
            raise UsageError(
                f"{run_dir} is not a finished run: it has no {name} (an interrupted one "
                "goes on with the command that began it)"
            )
    config = read_config(run_dir / CONFIG)
    if "lesson" in config and "last_lesson" in config["task"]:
        config["task"]["last_lesson"] = config["lesson"]
    return config


def compare_configs(saved: dict[str, Any], asked: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What differs, a line each: in the model and the optimiser's memory; in anything else."""
    model, rest = [], []
    for section in ("model", "task", "optimizer", "training"):
        for name, value in asked[section].items():
            before = saved[section].get(name)
            if before == value or name == "num_training_iterations":
                continue
            fixed = section == "model" or (section == "task" and name == "name")
            fixed |= name == "momentum" and 0 in (before, value)
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
    """The settings of a run's task that a dataclass has as fields, as it takes them."""
    hints = get_type_hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in config["task"]:
            value = config["task"][field.name]
            kinds = (hints[field.name], *get_args(hints[field.name]))
            if isinstance(value, list):
                value = tuple(value)
            elif Path in kinds and value is not None:
                value = Path(value)
            given[field.name] = value
    return given
