"""What the commands of dncx take: the flags, their defaults and their help.

Names and defaults are those of google-deepmind/dnc's train.py. No JAX here, so that parsing
and `--help` are instant.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import tyro

from dncx.errors import UsageError
from dncx.training.files import check_folder

Equations = Literal["deepmind", "nature"]
TaskT = TypeVar("TaskT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Kind and sizes of the network."""

    model: Literal["dnc", "lstm"] = "dnc"
    """lstm: the paper's baseline, a deep LSTM without a memory."""
    controller: Literal["default", "lstm", "deep_lstm", "feedforward"] = "default"
    """By default the one of the equations: lstm, or in the paper deep_lstm."""
    hidden_size: int = 64
    """Size of a controller layer."""
    num_layers: int = 1
    """Layers of the controller; lstm has one."""
    embedding_size: int = 0
    """Numbers that a learned matrix makes of each input vector; 0: inputs as they are."""
    memory_size: int = 16
    """Number of memory slots."""
    word_size: int = 16
    """Width of each memory slot."""
    num_write_heads: int = 1
    """Number of write heads."""
    num_read_heads: int = 4
    """Number of read heads."""
    clip_value: float = 20.0
    """Limit of controller and DNC outputs; 0: none. With equations=nature there is none."""
    equations: Equations = "deepmind"
    """google-deepmind/dnc, or those of the Nature paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """RMSProp, on gradients clipped by their global norm."""

    max_grad_norm: float = 50.0
    """Limit of the norm of the gradients."""
    learning_rate: float = 1e-4
    """Learning rate."""
    optimizer_epsilon: float = 1e-10
    """Epsilon under the square root."""
    momentum: float = 0.0
    """0 in the original, 0.9 in the paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long to train, what to report, and where to keep it."""

    batch_size: int = 16
    """Sequences an iteration."""
    num_training_iterations: int = 100_000
    """Iterations in all, those before a resume included."""
    report_interval: int = 100
    """Iterations between reports of the average loss and a sample."""
    checkpoint_interval: int = -1
    """Iterations between checkpoints; -1: only when Ctrl-C (exit code 130) or SIGTERM (143) stops
    the run. The same command goes on from the newest."""
    checkpoint_dir: Path | None = None
    """Where checkpoints are; by default checkpoints/ in the run directory."""
    validation_interval: int = -1
    """Iterations between validations, for tasks with a validation set; -1: none. The trained model
    is then the best of those validated."""
    patience: int = 0
    """Validations without a better one after which training stops; 0: it goes on."""
    keep_checkpoints: int = 5
    """How many of the newest checkpoints stay; 0: all."""
    max_skipped_updates: int = 10
    """An update that is not finite is skipped; so many in a row end the run. They all begin at the
    same parameters, so ten batches tell that it is not the data."""
    run_dir: Path = Path("runs/run")
    """Where configuration, metrics and the trained model go."""
    resume: Annotated[bool, tyro.conf.arg(help="Go on from the newest checkpoint, if any.")] = True
    seed: int = 0
    """Seed of weights and data."""
    implementation: Literal["fastest", "plain", "xla", "native"] = "fastest"
    """How to compute; the numbers are the same but for rounding (dncx/kernels/README.md)."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""
    preset: str | None = None
    """Settings to start from, which other flags change; the list is above."""

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are, as an absolute path."""
        return (self.checkpoint_dir or self.run_dir / "checkpoints").resolve()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings(Generic[TaskT]):
    """Train a network on a task.

    Options are spelled with _ or with -, and take their value after = or a space.
    """

    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    task: TaskT
    run: RunSettings = RunSettings()

    @property
    def task_name(self) -> str:
        """The task's name at the command line."""
        return self.task.name  # pyright: ignore[reportAttributeAccessIssue]

    def check(self) -> None:
        """Refuses numbers that training cannot use (task and model check their own)."""
        run, floats = self.run, dataclasses.asdict(self.optimizer)
        for name in ("batch_size", "num_training_iterations", "report_interval"):
            _within(1, 2**31 - 1, name, getattr(run, name))
        _within(1, 2**31 - 1, "max_skipped_updates", run.max_skipped_updates)
        for name in ("keep_checkpoints", "patience"):
            _within(0, 2**31 - 1, name, getattr(run, name))
        if run.patience and run.validation_interval == -1:
            raise UsageError(f"patience={run.patience}: it needs a --validation_interval")
        for name in ("checkpoint_interval", "validation_interval"):
            if getattr(run, name) != -1:
                _within(1, 2**31 - 1, f"{name} (-1: off)", getattr(run, name))
        _within(0, 2**32 - 1, "seed", run.seed)
        for name, value in floats.items():
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name}={value}: must be a finite number of at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoTask:
    """Those of the run's task: `dncx eval RUN --help` lists them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalSettings(Generic[TaskT]):
    """Measure a trained model on fresh episodes, also of other lengths and with more memory.

    The defaults of the task's options and of memory_size are those of the run.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """The run, a directory with model.safetensors and config.json; or the name of a model that
    ships with dncx."""
    task: TaskT
    memory_size: int = 16
    """Memory slots."""
    num_episodes: int = 1000
    """Sequences to measure on; of a task with a test set always all of it."""
    batch_size: int = 100
    """Sequences at a time."""
    seed: int = 1
    """Seed of the episodes; training draws from others."""
    sweep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Measure at each of these values: memory_size=16,32 or an option of the task; length=5,10
    sets min_length and max_length both. Given twice, at all pairs."""
    out: Path | None = None
    """Also write the measurements to this JSON file."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""

    def check(self) -> None:
        """Refuses numbers that cannot be measured with."""
        _within(1, 2**31 - 1, "num_episodes", self.num_episodes)
        _within(1, 2**31 - 1, "batch_size", self.batch_size)
        _within(0, 2**32 - 1, "seed", self.seed)
        if self.out:
            check_folder(self.out.parent, "out")
            if self.out.exists() or not self.out.parent.is_dir():
                what = "exists" if self.out.exists() else "is in a folder that does not"
                raise UsageError(f"--out: {self.out} {what}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreSettings(Generic[TaskT]):
    """See the memory at work: a page to explore, figures for papers, and a trace of every number.

    The defaults of the task's options and of memory_size are those of the run.
    """

    run_dir: Annotated[Path, tyro.conf.Positional] = Path("memory-reuse")
    """The run, a directory with model.safetensors and config.json; the name of a model that ships
    with dncx; or a trace.npz."""
    task: TaskT
    memory_size: int = 16
    """Memory slots."""
    num_episodes: int = 2
    """Sequences to show."""
    seed: int = 1
    """Seed of the episodes; training draws from others."""
    compare: Path | None = None
    """Another run, model or trace, to see beside this one; on the same episodes where it has the
    same task."""
    out: Path | None = None
    """Where the files go; by default explore/ in the run directory, or explore/NAME here for a
    model that ships or a trace; if that is there, explore-2/ and so on."""
    force: bool = False
    """Replace what an earlier call has written to the same place."""
    figures: bool = True
    """Also draw figures for papers (pip install "dncx[plots]")."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""

    def check(self) -> None:
        """Refuses numbers that cannot be used."""
        _within(1, 100, "num_episodes", self.num_episodes)
        _within(0, 2**32 - 1, "seed", self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Write a trained model as programs that run without dncx: whole sequences, and a step.

    They are for batches and sequences of any size, on CPU, NVIDIA GPU and TPU (docs/serving.md).
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """The run, a directory with model.safetensors and config.json; or the name of a model that
    ships with dncx."""
    memory_size: int | None = None
    """Memory slots; by default those of the run."""
    out: Path | None = None
    """Where the files go; by default export/ in the run directory, or export/NAME here for a
    model that ships."""
    force: bool = False
    """Replace what an earlier call has written there."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx for the next start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsSettings:
    """List the runs in a folder, those that reported last first.

    A model is slots x word size of a DNC, layers x layer size of an LSTM; the loss is in the unit
    that training says.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Where they are."""
    json: bool = False
    """As JSON, with what the table leaves out."""


def _within(lowest: int, highest: int, name: str, value: int) -> None:
    if not lowest <= value <= highest:
        raise UsageError(f"{name}={value}: must lie in {lowest}..{highest}")
