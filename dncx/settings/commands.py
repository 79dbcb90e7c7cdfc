"""What the commands about runs take: the flags, their defaults and their help. No JAX here."""

import dataclasses
from pathlib import Path
from typing import Annotated, Generic

from dncx.settings.flags import POSITIONAL, REPEATED
from dncx.settings.paths import PathFields
from dncx.settings.training import MOST, TaskT, within


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoTask:
    """The task of a run that is not named; `dncx eval RUN --help` lists the flags of a task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalSettings(PathFields, Generic[TaskT]):
    """Measure a trained model on fresh episodes, also longer ones or with more memory.

    The run gives the defaults. With a run, --help lists the options of its task, too.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory, or the name of a model that ships with dncx."""
    num_episodes: int = 1000
    """Sequences to measure on; a test set is always used completely."""
    memory_size: int | None = None
    """Number of memory slots."""
    sweep: Annotated[tuple[str, ...], REPEATED] = ()
    """NAME=VALUE,VALUE,... measures at each value; twice: at each pair."""
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
        """Refuses values that cannot be measured with.

        Raises:
          UsageError: if a number is out of range, or `out` cannot be written.
        """
        within(1, MOST, "num_episodes", self.num_episodes)
        within(1, MOST, "batch_size", self.batch_size)
        within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreSettings(PathFields, Generic[TaskT]):
    """Show the memory at work: a page to explore, figures, and a trace of every number.

    The run gives the defaults. With a run, --help lists the options of its task, too.
    """

    run_dir: Annotated[Path, POSITIONAL] = Path("traversal")
    """A run directory, the name of a model that ships with dncx, or a trace.npz."""
    num_episodes: int = 2
    """Sequences to show."""
    memory_size: int | None = None
    """Number of memory slots."""
    seed: int = 1
    """Seed of the episodes; training uses other random numbers."""
    compare: Path | None = None
    """Another run, model or trace to compare with."""
    out: Path | None = None
    """Output folder; by default explore/ in the run, else explore/NAME."""
    force: bool = False
    """Replace the files of an earlier call."""
    figures: bool = True
    """Also draw figures for papers (pip install "dncx[plots]")."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""
    task: TaskT

    def check(self) -> None:
        """Refuses numbers that cannot be used.

        Raises:
          UsageError: if a number is out of range.
        """
        within(1, 100, "num_episodes", self.num_episodes)
        within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(PathFields):
    """Write a trained model as programs that run without dncx (docs/serving.md).

    There is a program for sequences and one for a single step, for batches and sequences of any
    size, on CPU, NVIDIA GPU and TPU.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """A run directory, or the name of a model that ships with dncx."""
    memory_size: int | None = None
    """Number of memory slots; by default that of the run."""
    out: Path | None = None
    """Output folder; by default export/ in the run, else export/NAME."""
    force: bool = False
    """Replace the files of an earlier call."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebugSettings(PathFields):
    """Repeat the update at which a run stopped, and name the operation that failed first.

    A run that --max_skipped_updates stops leaves what this needs in its folder failure/.
    """

    run_dir: Annotated[Path, POSITIONAL]
    """The run that stopped."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsSettings(PathFields):
    """List the runs in a folder, the latest report first.

    Sizes of a network are slots x word size of its memory, or layers x layer size of an LSTM.
    """

    folder: Annotated[Path, POSITIONAL] = Path("runs")
    """The folder with the runs."""
    json: bool = False
    """Print JSON, which has more than the table."""
