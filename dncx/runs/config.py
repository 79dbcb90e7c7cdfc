"""config.json: the settings of a run."""

import dataclasses
import hashlib
import platform
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import jax

import dncx
from dncx.kernels.choice import Implementation
from dncx.networks.config import NetworkConfig
from dncx.runs.codec import from_plain, to_json, to_plain
from dncx.runs.files import sha256_of, write_whole
from dncx.runs.paths import CONFIG
from dncx.runs.summary import FORMAT, TaskConfig, read_json
from dncx.settings.training import MOST, OptimizerSettings, TrainSettings, within
from dncx.tasks.registry import TASKS

_HASHED = 2**28  # bytes; in larger folders, the contents of the files are not hashed


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdatesConfig:
    """The updates of a run; see `RunSettings` and `ScaleSettings` for the fields."""

    batch_size: int
    num_training_iterations: int
    seed: int
    skip_spikes: float = 0.0
    num_seeds: int = 1
    gradient_accumulation: int = 1
    truncation: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_training_iterations", "num_seeds", "gradient_accumulation"):
            within(1, MOST, name, getattr(self, name))
        within(0, MOST, "truncation", self.truncation)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialModel:
    """The trained model that provided the initial weights of a run.

    Attributes:
      name: the given name of a run, a model that ships with dncx, or a file.
      sha256: hash of its model.safetensors, or of the manifest of its checkpoint.
    """

    name: str
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Versions:
    """The versions of the software that started or resumed a run."""

    dncx: str = dncx.__version__
    jax: str = jax.__version__
    python: str = platform.python_version()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of a run, written only when training starts or resumes.

    `Progress` records how far the run is.

    Attributes:
      format: the format of this record.
      id: the identity of the run; a run that resumes keeps it.
      task: the task to learn.
      network: the network that learns it.
      optimizer: the settings of the optimiser.
      updates: the number and kind of updates.
      implementation: see `DNC`; None: the fastest.
      loss_unit: the unit of the losses in metrics.jsonl.
      initial_model: the source of the initial weights; None: random weights.
      files: SHA-256 of the files and folders that the task's settings name, by setting.
      checkpoint_dir: the folder of the checkpoints; None: in the run directory.
      versions: the versions of the software.
    """

    format: Literal["dncx-run-2"] = FORMAT
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    task: TaskConfig
    network: NetworkConfig
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    updates: UpdatesConfig
    implementation: Implementation | None = None
    loss_unit: str
    initial_model: InitialModel | None = None
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    checkpoint_dir: str | None = None
    versions: Versions = dataclasses.field(default_factory=Versions)

    def of_seed(self, seed: int) -> "RunConfig":
        """The configuration of one network of a population."""
        return dataclasses.replace(
            self, updates=dataclasses.replace(self.updates, seed=seed, num_seeds=1)
        )


def run_config(
    settings: TrainSettings[Any],
    network: NetworkConfig,
    loss_unit: str,
    initial_model: InitialModel | None = None,
) -> RunConfig:
    """The configuration of a new run."""
    run, scale = settings.run, settings.scale
    return RunConfig(
        task=TaskConfig(name=settings.task_name, settings=to_plain(settings.task)),
        network=network,
        optimizer=settings.optimizer,
        updates=UpdatesConfig(
            batch_size=run.batch_size,
            num_training_iterations=run.num_training_iterations,
            seed=run.seed,
            skip_spikes=run.skip_spikes,
            num_seeds=scale.num_seeds,
            gradient_accumulation=scale.gradient_accumulation,
            truncation=scale.truncation,
        ),
        implementation=settings.implementation,
        loss_unit=loss_unit,
        initial_model=initial_model,
        files=content_hashes(settings.task),
        checkpoint_dir=None if run.checkpoint_dir is None else str(run.checkpoints),
    )


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Writes config.json, completely or not at all."""
    write_whole(run_dir / CONFIG, to_json(config))


def read_config(path: Path) -> RunConfig:
    """The configuration in a config.json.

    Raises:
      UsageError: if the file is missing, invalid, or from another version of dncx.
    """
    return from_plain(read_json(path), RunConfig, path)


_VOCABULARY = "task.settings.vocabulary_words"
_FIXED = ("task.name", _VOCABULARY, "updates.num_seeds")
_SOURCE = ("network.source.file", "network.source.sha256")  # a file may move, and be edited


class Changes:
    """The differences between the configuration in a checkpoint and the requested one.

    Attributes:
      fixed: differences that are not allowed within a run, one line per field.
      free: differences that are allowed, one line per field.
    """

    def __init__(self, saved: RunConfig, asked: RunConfig):
        self.fixed: list[str] = []
        self.free: list[str] = []
        before, now = _compared(saved), _compared(asked)
        several_seeds = asked.updates.num_seeds > 1
        for name in dict.fromkeys([*before, *now]):
            old, new = before.get(name), now.get(name)
            if old == new:
                continue
            section, _, field = name.partition(".")
            fixed = (section == "network" and name not in _SOURCE) or name in _FIXED
            fixed |= name == "updates.seed" and several_seeds
            # These are arrays of the optimiser's state.
            arrays = ("momentum", "weight_average", "weight_decay")
            fixed |= section == "optimizer" and field in arrays and 0 in (old, new)
            lines = self.fixed if fixed else self.free
            if section == "files":
                lines.append(f"{field}: the content has changed since the checkpoint")
            elif name == "network.source.sha256":
                lines.append("network: its file has changed since the checkpoint")
            elif name == _VOCABULARY:
                lines.append(_other_words(old or [], new or []))
            else:
                field = field.removeprefix("settings.").removeprefix("cell.")
                lines.append(f"{field}: {old} in the checkpoint, {new} asked for")
        if asked.initial_model and not _same_weights(saved.initial_model, asked.initial_model):
            before = saved.initial_model.name if saved.initial_model else "random weights"
            self.fixed.append(
                f"initial_model: the run began from {before}, {asked.initial_model.name} asked for"
            )


def _same_weights(saved: InitialModel | None, asked: InitialModel) -> bool:
    return saved is not None and saved.sha256 == asked.sha256


def _other_words(before: list[str], now: list[str]) -> str:
    """The difference of two vocabularies, with up to five words of each."""
    gone = [word for word in before if word not in now][:5]
    new = [word for word in now if word not in before][:5]
    return (
        f"vocabulary: {len(before)} words in the checkpoint, {len(now)} in the data; only the "
        f"checkpoint has {', '.join(gone) or 'none'}, only the data have {', '.join(new) or 'none'}"
    )


def with_defaults(task: TaskConfig) -> TaskConfig:
    """The task, with the defaults of settings that dncx did not have when they were written."""
    kind = TASKS.get(task.name)
    if kind is None:
        return task
    defaults = {
        field.name: to_plain(field.default)
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    return dataclasses.replace(task, settings=defaults | task.settings)


def _compared(config: RunConfig) -> dict[str, Any]:
    """The fields that are compared, by their path."""
    plain = to_plain(dataclasses.replace(config, task=with_defaults(config.task)))
    sections = {name: plain[name] for name in ("network", "task", "optimizer", "updates", "files")}
    flat = _flat(sections)
    del flat["updates.num_training_iterations"]  # a run can be extended at any time
    return flat


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return found


def content_hashes(task: Any, names: Collection[str] | None = None) -> dict[str, str]:
    """SHA-256 of each file or folder that a task's settings name, by setting.

    Args:
      task: the task.
      names: the settings to look at; None: all.
    """
    fields = [f.name for f in dataclasses.fields(task) if names is None or f.name in names]
    values = {name: getattr(task, name) for name in fields}
    paths = {name: value for name, value in values.items() if isinstance(value, Path)}
    return {name: _content_hash(path) for name, path in paths.items() if path.exists()}


def edited_files(config: RunConfig, task: Any) -> list[str]:
    """The settings of a task that name the file of a run, with another content than then."""
    before, settings = config.task.settings, to_plain(task)
    same = [name for name in config.files if settings.get(name) == before.get(name)]
    now = content_hashes(task, same)
    return [name for name in same if now.get(name, config.files[name]) != config.files[name]]


def _content_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, or of the names and contents of a folder's files."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    sizes = [file.stat().st_size for file in files]
    # Larger folders would take too long at every start, so only names and sizes count.
    read = sum(sizes) <= _HASHED
    parts = [_content_hash(file) if read else size for file, size in zip(files, sizes, strict=True)]
    lines = [f"{file.relative_to(path)} {part}" for file, part in zip(files, parts, strict=True)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
