"""The flags of training, their defaults and their help.

Names and defaults are those of google-deepmind/dnc's train.py. This module does not import JAX,
so that parsing and `--help` are instant.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from dncx.errors import UsageError, quoted
from dncx.settings.fields import CheckedFields

Equations = Literal["deepmind", "nature"]
TaskT = TypeVar("TaskT")
MOST = 2**31 - 1  # counters are int32
NO_MEMORY = ("lstm", "gru")  # kinds of networks
MEMORY_RNN = ("stack", "tape")  # kinds of networks: an RNN with a memory of cells
CHECKPOINTS = "checkpoints"  # the folder in a run directory, if no other is named
_NEEDS = {"patience": "validation_interval", "keep_best_checkpoints": "checkpoint_interval"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings(CheckedFields):
    """The kind and the sizes of the network."""

    model: Literal["dnc", "lstm", "gru", "ntm", "stack", "tape"] = "dnc"
    """The DNC, or a baseline."""
    network: str | None = None
    """A custom network: FILE.py:FUNCTION."""
    memory_size: int = 16
    """Number of memory slots."""
    word_size: int = 16
    """Width of a memory slot."""
    num_read_heads: int = 4
    """Number of read heads."""
    num_write_heads: int = 1
    """Number of write heads."""
    hidden_size: int = 64
    """Width of a controller layer."""
    num_layers: int = 1
    """Controller layers; controller=lstm has one."""
    controller: Literal["default", "lstm", "deep_lstm", "feedforward"] = "default"
    """Kind of controller; default is lstm, or deep_lstm with equations=nature."""
    equations: Equations = "deepmind"
    """The original's or the Nature paper's."""
    clip_value: float | None = None
    """Limit of controller and DNC outputs; 0: none; by default 20."""
    linkage: Literal["temporal", "none"] = "temporal"
    """Links of slots in the order of writing."""
    embedding_size: int = 0
    """Size of a learned embedding of the inputs; 0: none."""
    bidirectional: bool = False
    """Add an LSTM that reads backwards."""
    controller_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the controller's products."""
    controller_norm: bool = False
    """Layer norm in the controller's LSTM (ADNC)."""
    interface_norm: bool = False
    """Layer norm of the interface vector (ADNC)."""
    content_mask: bool = False
    """Lookups compare a part of each word (DNC-M)."""
    least_mask: float = 0.0
    """Least value of the mask (DNC-M)."""
    wipe_freed: bool = False
    """Wipe slots that are freed (DNC-D)."""
    sharpen_links: bool = False
    """Sharpen forward and backward weights (DNC-S)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings(CheckedFields):
    """RMSProp on clipped gradients, decay of the weights, and dropout."""

    learning_rate: float = 1e-4
    """Learning rate."""
    max_grad_norm: float = 50.0
    """Limit of the global norm of the gradients."""
    max_grad_value: float = 0.0
    """Limit of each gradient element, before max_grad_norm; 0: none."""
    momentum: float = 0.0
    """Momentum; 0.9 in the paper."""
    rmsprop_decay: float = 0.9
    """Decay of RMSProp's mean square."""
    optimizer_epsilon: float = 1e-10
    """Epsilon of RMSProp, under the square root."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate over the iterations."""
    warmup_iterations: int = 0
    """Iterations of linear warm-up of the learning rate."""
    weight_decay: float = 0.0
    """Decay of matrices except embeddings, as in AdamW; 0: none."""
    weight_average: float = 0.0
    """Decay of an average of the weights, used as the model; 0: off."""
    output_dropout: float = 0.0
    """Dropout of the controller's outputs, before the output layer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings(CheckedFields):
    """Length of training, reports, checkpoints, and the folder of the run."""

    run_dir: Path = Path("runs/run")
    """Folder for configuration, metrics and the trained model."""
    num_training_iterations: int = 100_000
    """Iterations in total, including those before a resume."""
    batch_size: int = 16
    """Sequences per iteration."""
    seed: int = 0
    """Seed of weights and data."""
    preset: str | None = None
    """Settings to start from:"""
    initial_model: Path | None = None
    """Initial weights: a run, a model, hf://OWNER/NAME, or a file."""
    report_interval: int = 100
    """Iterations between reports of the average loss."""
    resume: bool = True
    """Resume from the newest checkpoint, if any."""
    checkpoint_interval: int = -1
    """Iterations between checkpoints; -1: only when interrupted."""
    checkpoint_dir: Path | None = None
    """Folder for checkpoints; by default checkpoints/ in run_dir."""
    keep_checkpoints: int = 5
    """Number of newest checkpoints to keep; 0: all."""
    keep_best_checkpoints: int = 0
    """Number of best checkpoints to keep in addition."""
    validation_interval: int = -1
    """Iterations between validations; keeps the best model; -1: off."""
    patience: int = 0
    """Stop after this many validations without improvement; 0: never."""
    max_skipped_updates: int = 10
    """Stop after this many non-finite updates in a row."""
    skip_spikes: float = 0.0
    """Skip updates whose loss is this many times the usual; 0: off."""
    tensorboard: bool = False
    """Write TensorBoard events (docs/watching.md)."""
    implementation: Literal["fastest", "plain", "xla", "native"] = "fastest"
    """See dncx/kernels/README.md."""
    compilation_cache: bool = True
    """Keep compiled programs in ~/.cache/dncx."""

    @property
    def checkpoints(self) -> Path:
        """The folder for checkpoints, as an absolute path."""
        return (self.checkpoint_dir or self.run_dir / CHECKPOINTS).resolve()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleSettings(CheckedFields):
    """Division of training into seeds, parts of a batch, time windows, devices and machines."""

    num_seeds: int = 1
    """Networks to train at once, with seeds counted from --seed."""
    gradient_accumulation: int = 1
    """Parts in which a batch is computed, to save memory."""
    truncation: int = 0
    """Steps after which gradients are cut; 0: never."""
    num_devices: int = 0
    """Devices that share batch or seeds; 0: as many as divide it."""
    memory_devices: int = 1
    """Devices that share the slots of each memory."""
    coordinator_address: str | None = None
    """HOST:PORT of process 0, if there are several (docs/scaling.md)."""
    num_processes: int | None = None
    """Processes that train together; 1: alone, even on a cluster."""
    process_id: int | None = None
    """Number of this process, from 0."""

    def check(self, run: RunSettings) -> None:
        """Refuses values that are out of range or contradict each other.

        Raises:
          UsageError: for the first such value.
        """
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
                    f"coordinator_address={self.coordinator_address}: must be HOST:PORT, as in "
                    "10.0.0.1:1234"
                )
        if self.process_id is not None and self.num_processes is not None:
            within(1, MOST, "num_processes", self.num_processes)
            within(0, self.num_processes - 1, "process_id", self.process_id)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings(CheckedFields, Generic[TaskT]):
    """Train a network on a task."""

    task: TaskT
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings()
    scale: ScaleSettings = ScaleSettings()

    @property
    def task_name(self) -> str:
        """The name of the task on the command line."""
        return self.task.name  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def implementation(self) -> Literal["plain", "xla", "native"] | None:
        """The implementation as `dncx.DNC` takes it; only "xla" can share slots."""
        if self.run.implementation == "fastest":
            return "xla" if self.scale.memory_devices > 1 else None
        return self.run.implementation

    def check(self) -> None:
        """Refuses values that training cannot use; task and model check their own.

        Raises:
          UsageError: for the first such value.
        """
        run, scale, optimizer = self.run, self.scale, self.optimizer
        paths = {"run_dir": run.run_dir, "checkpoint_dir": run.checkpoints}
        if run.initial_model:
            paths["initial_model"] = run.initial_model
        for name, path in paths.items():
            _check_utf8(name, path)
        for name in ("batch_size", "num_training_iterations", "report_interval"):
            within(1, MOST, name, getattr(run, name))
        within(1, MOST, "max_skipped_updates", run.max_skipped_updates)
        for name in ("keep_checkpoints", "keep_best_checkpoints", "patience"):
            within(0, MOST, name, getattr(run, name))
        for name, needed in _NEEDS.items():
            if getattr(run, name) and getattr(run, needed) == -1:
                raise UsageError(f"{name}={getattr(run, name)}: needs --{needed}")
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
        for name in ("momentum", "rmsprop_decay", "weight_average", "output_dropout"):
            if getattr(optimizer, name) >= 1:
                raise UsageError(f"{name}={getattr(optimizer, name)}: must be less than 1")
        scale.check(run)


def fields_of(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as its class takes them."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def _check_utf8(name: str, path: Path) -> None:
    """Refuses a path that is not UTF-8: JSON and the library that writes checkpoints need it."""
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}={quoted(str(path))}: the path must be UTF-8") from error


def within(lowest: int, highest: int, name: str, value: int, more: str = "") -> None:
    """Refuses an integer outside a range.

    Raises:
      UsageError: if `value` is below `lowest` or above `highest`.
    """
    if not lowest <= value <= highest:
        raise UsageError(f"{name}={value}: must lie in {lowest}..{highest}{more}")
