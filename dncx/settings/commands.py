"""What the commands about runs take: the flags, their defaults and their help. No JAX here."""

import dataclasses
from pathlib import Path
from typing import Annotated, Generic

import tyro

from dncx.errors import UsageError
from dncx.runs.files import check_folder
from dncx.settings.training import MOST, TaskT, within


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoTask:
    """Those of the run's task: `dncx eval RUN --help` lists them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalSettings(Generic[TaskT]):
    """Measure a trained model on fresh episodes, also of other lengths and with more memory.

    The defaults of the task's options are those of the run.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """A directory with model.safetensors and config.json, or a model that ships with dncx."""
    task: TaskT
    memory_size: int | None = None
    """Memory slots."""
    num_episodes: int = 1000
    """Sequences to measure on; of a task with a test set always all of it."""
    batch_size: int = 100
    """Sequences at a time."""
    seed: int = 1
    """Seed of the episodes; training draws from others."""
    sweep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Measure at each of memory_size=16,32 or length=5,10 (both bounds); twice: at all pairs."""
    out: Path | None = None
    """Also write the measurements to this JSON file."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""

    def check(self) -> None:
        """Refuses numbers that cannot be measured with."""
        within(1, MOST, "num_episodes", self.num_episodes)
        within(1, MOST, "batch_size", self.batch_size)
        within(0, 2**32 - 1, "seed", self.seed)
        if self.out:
            check_folder(self.out.parent, "out")
            try:
                there, folder = self.out.exists(), self.out.parent.is_dir()
            except OSError as error:
                raise UsageError(f"--out: {error.strerror}") from error
            if there or not folder:
                what = "exists" if there else "is in a folder that does not"
                raise UsageError(f"--out: {self.out} {what}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreSettings(Generic[TaskT]):
    """See the memory at work: a page to explore, figures for papers, and a trace of every number.

    The defaults of the task's options are those of the run.
    """

    run_dir: Annotated[Path, tyro.conf.Positional] = Path("traversal")
    """A run directory, a model that ships with dncx, or a trace.npz."""
    task: TaskT
    memory_size: int | None = None
    """Memory slots."""
    num_episodes: int = 2
    """Sequences to show."""
    seed: int = 1
    """Seed of the episodes; training draws from others."""
    compare: Path | None = None
    """Another run, model or trace to compare with; on the same episodes if it has the same task."""
    out: Path | None = None
    """By default explore/ in the run directory, or explore/NAME here for one without."""
    force: bool = False
    """Replace the files that an earlier call has written to the same place."""
    figures: bool = True
    """Also draw figures for papers (pip install "dncx[plots]")."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""

    def check(self) -> None:
        """Refuses numbers that cannot be used."""
        within(1, 100, "num_episodes", self.num_episodes)
        within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Write a trained model as programs that run without dncx: whole sequences, and a step.

    They are for batches and sequences of any size, on CPU, NVIDIA GPU and TPU (docs/serving.md).
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """A directory with model.safetensors and config.json, or a model that ships with dncx."""
    memory_size: int | None = None
    """Memory slots; by default those of the run."""
    out: Path | None = None
    """By default export/ in the run directory, or export/NAME here for one that ships."""
    force: bool = False
    """Replace what an earlier call has written there."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebugSettings:
    """Replay the update at which a run stopped, and name the operation that went wrong first.

    This needs failure/, which a run leaves when --max_skipped_updates stops it.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """The run that stopped."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsSettings:
    """List the runs in a folder, those that reported last first.

    A model is slots x word size of a memory, layers x layer size of an LSTM.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Where they are."""
    json: bool = False
    """As JSON, with what the table leaves out."""
