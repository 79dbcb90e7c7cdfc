"""A summary of a run for the command line, readable before JAX is loaded."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from dncx.errors import UsageError
from dncx.runs.codec import from_plain, parsed
from dncx.runs.paths import CONFIG

FORMAT: Literal["dncx-run-2"] = "dncx-run-2"
_LARGEST_CONFIG = 2**22  # bytes; usual files have a few thousand


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
    seed: int
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
    checkpoint_dir: str | None = None


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
