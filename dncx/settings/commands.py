"""The flags of the commands about runs, their defaults and their help. No JAX here."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Generic

from dncx.errors import UsageError, quoted
from dncx.settings.fields import CheckedFields
from dncx.settings.flags import POSITIONAL, REPEATED
from dncx.settings.training import MOST, TaskT, within
from dncx.tasks.shrdlu.settings import MiniShrdluSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoTask:
    """The task while no run is named; `dncx eval RUN --help` lists the flags of its task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalSettings(CheckedFields, Generic[TaskT]):
    """Measure a trained model on fresh episodes, optionally longer ones or with more memory.

    Defaults come from the run. If you name a run, --help also lists the options of its task.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory, the name of a model that ships with dncx, or hf://OWNER/NAME."""
    checkpoint: int | None = None
    """Use the checkpoint of this iteration, not the trained model."""
    network: str | None = None
    """Custom network of the run, FILE.py:FUNCTION; this runs the file."""
    num_episodes: int = 1000
    """Number of sequences; a test set is always used completely."""
    memory_size: int | None = None
    """Number of memory slots."""
    sweep: Annotated[tuple[str, ...], REPEATED] = ()
    """NAME=VALUE,VALUE,... measures each value; given twice, each pair."""
    show_errors: int = 0
    """Number of wrong answers to print, if the task lists them."""
    out: Path | None = None
    """Also write the measurements to this JSON file."""
    batch_size: int = 100
    """Sequences per batch."""
    seed: int = 1
    """Seed of the episodes; training uses other random numbers."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""
    task: TaskT

    def check(self) -> None:
        """Refuses numbers that are out of range.

        Raises:
          UsageError: if a number is out of range.
        """
        within(1, MOST, "num_episodes", self.num_episodes)
        within(1, MOST, "batch_size", self.batch_size)
        within(0, MOST, "show_errors", self.show_errors)
        if self.show_errors and self.sweep:
            raise UsageError("show_errors: cannot be used with sweep, which prints a table")
        within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreSettings(CheckedFields, Generic[TaskT]):
    """Show the memory at work: an interactive page, figures, and a trace of all numbers.

    Defaults come from the run. If you name a run, --help also lists the options of its task.
    """

    run_dir: Annotated[Path, POSITIONAL] = Path("traversal")
    """A run directory, the name of a model that ships with dncx, hf://OWNER/NAME, or trace.npz."""
    checkpoint: int | None = None
    """Use the checkpoint of this iteration, not the trained model."""
    network: str | None = None
    """Custom network of the run, FILE.py:FUNCTION; this runs the file."""
    num_episodes: int = 2
    """Sequences to show."""
    memory_size: int | None = None
    """Number of memory slots."""
    seed: int = 1
    """Seed of the episodes; training uses other random numbers."""
    compare: Path | None = None
    """Another run, model or trace to compare with."""
    out: Path | None = None
    """Output folder; by default explore/ in the run, or explore/NAME."""
    force: bool = False
    """Replace the files of an earlier call."""
    figures: bool = True
    """Also draw figures for papers (pip install "dncx[plots]")."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""
    task: TaskT

    def check(self) -> None:
        """Refuses numbers that are out of range.

        Raises:
          UsageError: if a number is out of range.
        """
        within(1, 100, "num_episodes", self.num_episodes)
        within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeSettings(CheckedFields, Generic[TaskT]):
    """Measure whether a mini-shrdlu agent has its first move in memory before the go cue.

    A linear classifier predicts the move from what was written when the goal was told
    (docs/acting.md). Defaults come from the run. If you name a run, --help also lists the options
    of its task.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory of the task mini-shrdlu, or hf://OWNER/NAME."""
    checkpoint: int | None = None
    """Use the checkpoint of this iteration, not the trained model."""
    network: str | None = None
    """Custom network of the run, FILE.py:FUNCTION; this runs the file."""
    num_episodes: int = 800
    """Number of episodes; 800 in the paper."""
    memory_size: int | None = None
    """Number of memory slots."""
    seed: int = 1
    """Seed of the episodes; training uses other random numbers."""
    out: Path | None = None
    """Also write the measurements to this JSON file."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""
    task: TaskT

    def check(self) -> None:
        """Refuses other tasks, and numbers that are out of range.

        Raises:
          UsageError: if the task is not mini-shrdlu, or a number is out of range.
        """
        if not isinstance(self.task, MiniShrdluSettings):
            raise UsageError(f"{self.run_dir}: dncx probe needs a run of the task mini-shrdlu")
        if self.task.num_goals == 1:
            raise UsageError("num_goals=1: must be 2 or more, because goals are compared")
        within(100, MOST, "num_episodes", self.num_episodes)
        within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(CheckedFields):
    """Write a trained model as programs that run without dncx (docs/serving.md).

    One program computes sequences, another a single step. Both accept batches and sequences of
    any size and run on CPU, NVIDIA GPU and TPU.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory, the name of a model that ships with dncx, or hf://OWNER/NAME."""
    checkpoint: int | None = None
    """Use the checkpoint of this iteration, not the trained model."""
    network: str | None = None
    """Custom network of the run, FILE.py:FUNCTION; this runs the file."""
    memory_size: int | None = None
    """Number of memory slots; by default that of the run."""
    out: Path | None = None
    """Output folder; by default export/ in the run, or export/NAME."""
    force: bool = False
    """Replace the files of an earlier call."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardSettings(CheckedFields):
    """Write the model card of a run: task, sizes, training, scores, and how to load it.

    It contains only data recorded by the run and by `dncx eval` (docs/sharing.md).
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory, the name of a model that ships with dncx, or hf://OWNER/NAME."""
    scores: Annotated[tuple[Path, ...], REPEATED] = ()
    """A file written by `dncx eval RUN --out=FILE` to quote; may be repeated."""
    license: str | None = None
    """The hub's identifier for the licence: mit, apache-2.0, cc-by-4.0, ..."""
    out: Path | None = None
    """Output file; by default README.md in the run, or card/NAME/README.md."""
    force: bool = False
    """Replace the file if it exists."""

    def check(self) -> None:
        """Refuses a licence that cannot be an identifier of the hub.

        Raises:
          UsageError: if it has other characters than identifiers have.
        """
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise UsageError(
                f"license={quoted(self.license)}: must be an identifier of "
                "https://hf.co/docs/hub/repositories-licenses, such as mit or apache-2.0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushSettings(CheckedFields):
    """Upload a trained model to the Hugging Face hub, with its settings and its model card.

    The card is README.md in the run directory, as `dncx card` writes it; without one, a new card is
    uploaded. Log in once with `hf auth login`. Others load hf://OWNER/NAME (docs/sharing.md).
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory, or the name of a model that ships with dncx."""
    repo: Annotated[str, POSITIONAL]
    """OWNER/NAME on the hub; created if it does not exist."""
    private: bool = False
    """Make the repository private if this command creates it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebugSettings(CheckedFields):
    """Repeat the update at which a run stopped, and name the operation that failed first.

    It reads the folder failure/, which a run writes when --max_skipped_updates stops it.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """The run that stopped."""
    network: str | None = None
    """Custom network of the run, FILE.py:FUNCTION; this runs the file."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsSettings(CheckedFields):
    """List the runs in a folder, the latest report first.

    The size of a network is slots x word size of its memory, or layers x width of an LSTM.
    """

    folder: Annotated[Path, POSITIONAL] = Path("runs")
    """The folder that contains the runs."""
    json: bool = False
    """Print JSON, with more details than the table."""
