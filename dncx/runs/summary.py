"""A summary of a run for the command line, readable before JAX is loaded."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from dncx.errors import UsageError, did_you_mean
from dncx.runs.codec import from_json, from_plain, parsed
from dncx.runs.lock import is_locked
from dncx.runs.paths import CONFIG, MODEL, shipped_models
from dncx.runs.progress import Progress

FORMAT: Literal["dncx-run-2"] = "dncx-run-2"
_LARGEST_CONFIG = 2**22  # bytes; usual files have a few thousand
_LARGEST_HEADER = 2**24  # bytes of the header of a model.safetensors
_NAMED_SEEDS = 4  # or runs, in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task by name, and its settings: the fields of its class in `tasks.registry.TASKS`."""

    name: str
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSummary:
    """The sizes in a `DNCConfig`."""

    memory_size: int
    word_size: int
    hidden_size: int
    num_layers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSummary:
    """See `networks.config.NetworkConfig`."""

    kind: str
    cell: CellSummary


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdatesSummary:
    """See `config.UpdatesConfig`."""

    num_training_iterations: int
    num_seeds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The part of a `config.RunConfig` that needs no JAX."""

    format: str
    id: str
    task: TaskConfig
    network: NetworkSummary
    updates: UpdatesSummary
    loss_unit: str


def read_json(path: Path) -> Any:
    """The plain JSON in a config.json of this version of dncx.

    Raises:
      UsageError: if it is missing, invalid, or from another version.
    """
    try:
        if path.exists() and not (path.is_file() and path.stat().st_size <= _LARGEST_CONFIG):
            raise ValueError(f"not a file of at most {_LARGEST_CONFIG} bytes")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    plain = parsed(content, path)
    found = plain.get("format") if isinstance(plain, dict) else None
    if found == FORMAT:
        return plain
    if isinstance(found, str) and found.startswith("dncx-run-"):
        raise UsageError(
            f"{path} was written by another version of dncx (format {found[:40]}, this version "
            f"reads {FORMAT}); use that version, or train again in another --run_dir"
        )
    raise UsageError(f"{path} is not the configuration of a dncx run")


def read_summary(run_dir: Path) -> RunSummary:
    """The summary of a run's config.json; for errors see `read_json`."""
    path = run_dir / CONFIG
    return from_plain(read_json(path), RunSummary, path, partial=True)


def check_exists(run_dir: Path) -> None:
    """Refuses a path at which there is nothing.

    Raises:
      UsageError: the message has the models that ship, and names that are alike.
    """
    if not run_dir.exists():
        models, siblings = shipped_models(), map(str, run_dir.parent.glob("*"))
        raise UsageError(
            f"there is no run {run_dir}, and no model of this name ships with dncx (there are "
            f"{', '.join(models)}){did_you_mean(str(run_dir), [*models, *siblings])}"
        )


def read_finished(run_dir: Path) -> RunSummary:
    """The summary of a run that has a trained model; its last lesson is the one it has reached.

    Raises:
      UsageError: if there is no run, it has no model yet, or it is a population.
    """
    check_exists(run_dir)
    seeds = sorted(path.parent.name for path in run_dir.glob(f"seed-*/{MODEL}"))
    if seeds:
        more = ", ..." if len(seeds) > _NAMED_SEEDS else ""
        named = ", ".join(str(run_dir / seed) for seed in seeds[:_NAMED_SEEDS])
        raise UsageError(f"{run_dir} has one network per seed; name one of them: {named}{more}")
    if not (run_dir / CONFIG).is_file():
        raise UsageError(why_no_run(run_dir))
    summary = read_summary(run_dir)
    progress = trained_progress(run_dir)
    if progress is None:
        raise UsageError(unfinished(run_dir, summary))
    if progress.lesson and "last_lesson" in summary.task.settings:
        settings = summary.task.settings | {"last_lesson": progress.lesson}
        task = dataclasses.replace(summary.task, settings=settings)
        summary = dataclasses.replace(summary, task=task)
    return summary


def why_no_run(path: Path) -> str:
    """The reason why a path is not a run directory."""
    if not path.is_dir():
        return f"{path} is not a run directory: it is a file"
    if runs := sorted(str(config.parent) for config in path.glob(f"*/{CONFIG}")):
        more = ", ..." if len(runs) > _NAMED_SEEDS else ""
        return f"{path} is a folder of runs; name one: {', '.join(runs[:_NAMED_SEEDS])}{more}"
    return f"{path} is not a run directory: it has no {CONFIG}"


def unfinished(run_dir: Path, summary: RunSummary) -> str:
    """The progress of a run without a model, and how to get a model."""
    if is_locked(run_dir):
        return f"{run_dir} is still training, so there is no model yet; see `dncx runs`"
    saved = [int(path.name) for path in run_dir.glob("checkpoints/*") if path.name.isdecimal()]
    total = summary.updates.num_training_iterations
    if not saved:
        return (
            f"{run_dir} stopped before its first checkpoint, so there is no model; to start it "
            "again, repeat its command"
        )
    return (
        f"{run_dir} stopped at iteration {max(saved):,} of {total:,}, so there is no model yet. "
        "To resume it, repeat its command; to only write the model of that checkpoint, add "
        f"--num_training_iterations={max(saved)}"
    )


def trained_progress(run_dir: Path) -> Progress | None:
    """The progress of the trained model in a run directory; None if there is no model.

    The header is parsed here, because safetensors would load NumPy.

    Raises:
      UsageError: if the file is not a model of this version of dncx.
    """
    path = run_dir / MODEL
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _LARGEST_HEADER:
                raise ValueError(f"its header has {size} bytes, more than {_LARGEST_HEADER}")
            header = parsed(file.read(size), f"the header of {path}")
        progress = header["__metadata__"]["progress"].encode()
    except UsageError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    return from_json(progress, Progress, path)
