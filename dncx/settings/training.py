"""What the commands of dncx take: the flags, their defaults and their help.

Names and defaults are those of google-deepmind/dnc's train.py. No JAX here, so that parsing
and `--help` are instant.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from dncx.errors import UsageError

Equations = Literal["deepmind", "nature"]
TaskT = TypeVar("TaskT")
MOST = 2**31 - 1  # of what is counted
_NEEDS = {"patience": "validation_interval", "keep_best_checkpoints": "checkpoint_interval"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Kind and sizes of the network."""

    model: Literal["dnc", "lstm", "ntm"] = "dnc"
    """lstm, ntm: the paper's baselines, a deep LSTM without a memory, a Neural Turing Machine."""
    controller: Literal["default", "lstm", "deep_lstm", "feedforward"] = "default"
    """By default the one of the equations: lstm, or in the paper deep_lstm."""
    controller_dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: what the controller multiplies is rounded to it; all else stays float32."""
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
    clip_value: float | None = None
    """Limit of controller and DNC outputs; 0: none. By default 20, or with nature none."""
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
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """constant, or down to 0 over num_training_iterations."""
    warmup_iterations: int = 0
    """Iterations over which the learning rate first grows in equal steps."""
    weight_average: float = 0.0
    """Decay of a running average of the weights, which is then the model; 0: none."""


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
    """Iterations between checkpoints; -1: only when a signal, such as Ctrl-C, stops the run."""
    checkpoint_dir: Path | None = None
    """Where checkpoints are; by default checkpoints/ in the run directory."""
    validation_interval: int = -1
    """Iterations between validations, of which the best model is kept; -1: none."""
    patience: int = 0
    """Validations without a better one after which training stops; 0: it goes on."""
    keep_checkpoints: int = 5
    """How many of the newest checkpoints stay; 0: all."""
    keep_best_checkpoints: int = 0
    """How many stay beside these, by least validation error, or else by least loss."""
    max_skipped_updates: int = 10
    """An update that is not finite is skipped; so many in a row end the run."""
    skip_spikes: float = 0.0
    """Skip updates of batches with more than so many times the usual loss; 0: none."""
    tensorboard: bool = False
    """Also write for TensorBoard, to tensorboard/ in the run directory (docs/watching.md)."""
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
    """Settings to start from, which other flags change; listed above if there are any."""

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are, as an absolute path."""
        return (self.checkpoint_dir or self.run_dir / "checkpoints").resolve()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """How training is shared out: over seeds, parts of a batch, time, devices and machines."""

    num_seeds: int = 1
    """Networks trained at once, from --seed on; each has a run directory in run_dir."""
    gradient_accumulation: int = 1
    """Parts of a batch, one after the other: the same update in less memory."""
    truncation: int = 0
    """Steps through which a gradient goes back at most; the state goes on. 0: all."""
    num_devices: int = 0
    """Devices that share the batch, or the seeds; 0: as many as divide it."""
    memory_devices: int = 1
    """Devices that share the slots of each memory, for one too large for a single device."""
    coordinator_address: str | None = None
    """HOST:PORT of the first of several processes; for clusters see docs/scaling.md."""
    num_processes: int | None = None
    """How many processes train together; 1: this one alone, whatever a cluster says."""
    process_id: int | None = None
    """Which of them this is, from 0."""

    def check(self, run: RunSettings) -> None:
        """Refuses numbers that do not go together."""
        for name in ("num_seeds", "gradient_accumulation", "memory_devices"):
            within(1, MOST, name, getattr(self, name))
        for name in ("truncation", "num_devices"):
            within(0, MOST, name, getattr(self, name))
        if run.batch_size % self.gradient_accumulation:
            raise UsageError(
                f"gradient_accumulation={self.gradient_accumulation}: must divide batch_size, "
                f"which is {run.batch_size}"
            )
        by_hand = (self.coordinator_address, self.num_processes, self.process_id)
        if by_hand not in ((None, None, None), (None, 1, None)) and None in by_hand:
            raise UsageError(
                "coordinator_address, num_processes and process_id: give all three, or none"
            )
        if self.coordinator_address is not None:
            host, _, port = self.coordinator_address.rpartition(":")
            if not (host and port.isdecimal() and 0 < int(port) < 2**16):
                raise UsageError(
                    f"coordinator_address={self.coordinator_address}: must be HOST:PORT, such as "
                    "10.0.0.1:1234"
                )
        if self.process_id is not None and self.num_processes is not None:
            within(1, MOST, "num_processes", self.num_processes)
            within(0, self.num_processes - 1, "process_id", self.process_id)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings(Generic[TaskT]):
    """Train a network on a task.

    Options are spelled with _ or with -, and take their value after = or a space.
    """

    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    task: TaskT
    run: RunSettings = RunSettings()
    scale: ScaleSettings = ScaleSettings()

    @property
    def task_name(self) -> str:
        """The task's name at the command line."""
        return self.task.name  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def implementation(self) -> Literal["plain", "xla", "native"] | None:
        """How to compute, as `dncx.DNC` takes it; slots are shared in XLA's form only."""
        if self.run.implementation == "fastest":
            return "xla" if self.scale.memory_devices > 1 else None
        return self.run.implementation

    def check(self) -> None:
        """Refuses numbers that training cannot use (task and model check their own)."""
        run, scale, optimizer = self.run, self.scale, self.optimizer
        for name in ("batch_size", "num_training_iterations", "report_interval"):
            within(1, MOST, name, getattr(run, name))
        within(1, MOST, "max_skipped_updates", run.max_skipped_updates)
        for name in ("keep_checkpoints", "keep_best_checkpoints", "patience"):
            within(0, MOST, name, getattr(run, name))
        for name, needed in _NEEDS.items():
            if getattr(run, name) and getattr(run, needed) == -1:
                raise UsageError(f"{name}={getattr(run, name)}: it needs a --{needed}")
        for name in ("checkpoint_interval", "validation_interval"):
            if getattr(run, name) != -1:
                within(1, MOST, name, getattr(run, name), "; -1 is off")
        if not (run.skip_spikes == 0 or 1 < run.skip_spikes < math.inf):
            raise UsageError(f"skip_spikes={run.skip_spikes}: must be more than 1, or 0")
        within(0, 2**32 - scale.num_seeds, "seed", run.seed)
        for name, value in dataclasses.asdict(optimizer).items():
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name}={value}: must be a finite number of at least 0")
        if not 0 <= optimizer.warmup_iterations <= run.num_training_iterations:
            raise UsageError(
                f"warmup_iterations={optimizer.warmup_iterations}: must lie between 0 and "
                f"num_training_iterations, which is {run.num_training_iterations}"
            )
        if optimizer.weight_average >= 1:
            raise UsageError(f"weight_average={optimizer.weight_average}: must be less than 1")
        scale.check(run)


def fields_of(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as its class takes them."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def within(lowest: int, highest: int, name: str, value: int, more: str = "") -> None:
    """Refuses a whole number outside of a range."""
    if not lowest <= value <= highest:
        raise UsageError(f"{name}={value}: must lie in {lowest}..{highest}{more}")
