"""The trained model of a run, and how far it is trained, readable before JAX is loaded.

The model of a run that has not ended is in its newest checkpoint.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dncx.errors import UsageError, did_you_mean
from dncx.runs import integrity
from dncx.runs.codec import from_json, from_plain, parsed
from dncx.runs.integrity import MANIFEST
from dncx.runs.lock import is_locked
from dncx.runs.paths import CONFIG, MODEL, shipped_models
from dncx.runs.progress import Progress
from dncx.runs.summary import RunSummary, read_summary
from dncx.settings.training import CHECKPOINTS

_LARGEST_HEADER = 2**24  # bytes of the header of a model.safetensors
_NAMED_RUNS = 4  # in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSummary:
    """The part of a `manifest.Manifest` that needs no JAX."""

    config: RunSummary
    progress: Progress
    files: dict[str, str]


class TrainedModel(NamedTuple):
    """A trained model, in a file or in a checkpoint.

    Attributes:
      run_dir: the run directory.
      summary: its configuration; the last lesson of the task is the one that the model has reached.
      progress: how far the model is trained.
      checkpoint: the folder of the checkpoint; None: the model is in model.safetensors.
      number: the number from 0 of the network in the checkpoint of a population.
    """

    run_dir: Path
    summary: RunSummary
    progress: Progress
    checkpoint: Path | None = None
    number: int | None = None

    @property
    def file(self) -> Path:
        """The file that identifies the model: the weights, or the checksums of a checkpoint."""
        return self.run_dir / MODEL if self.checkpoint is None else self.checkpoint / MANIFEST

    @property
    def note(self) -> str:
        """The state of a run whose checkpoint is used; "" for a model of a finished run."""
        if self.checkpoint is None:
            return ""
        total = self.summary.updates.num_training_iterations
        at = f"iteration {self.progress.iteration:,} of {total:,}"
        if is_locked(self.run_dir if self.number is None else self.run_dir.parent):
            return f"{self.run_dir} is still training: {at}"
        ended = trained_progress(self.run_dir)
        if ended is not None and ended.iteration >= self.progress.iteration:
            return f"{self.run_dir}: the checkpoint of {at}"
        return f"{self.run_dir} is unfinished: {at}"


def find_trained(run_dir: Path, iteration: int | None = None) -> TrainedModel:
    """The trained model of a run, or that of its newest checkpoint if that is trained further.

    Args:
      run_dir: the run directory.
      iteration: the iteration of the checkpoint to use instead.

    Raises:
      UsageError: if there is no run, it has no model and no intact checkpoint, or it is a
        population, of which one network must be named.
    """
    check_exists(run_dir)
    if not (run_dir / CONFIG).is_file():
        raise UsageError(why_no_run(run_dir))
    summary = read_summary(run_dir)
    if summary.updates.num_seeds > 1:
        seeds = _named(path.parent for path in run_dir.glob(f"seed-*/{CONFIG}"))
        raise UsageError(f"{run_dir} has one network per seed; name one of them: {seeds}")
    progress = trained_progress(run_dir) if iteration is None else None
    folder = _checkpoints_of(run_dir, summary)
    if progress is None or max(integrity.numbered(folder), default=0) > progress.iteration:
        model = _in_checkpoint(run_dir, folder, summary.updates.seed, iteration)
    else:
        model = TrainedModel(run_dir, summary, progress)
    lesson, settings = model.progress.lesson, model.summary.task.settings
    if lesson and "last_lesson" in settings:
        task = dataclasses.replace(model.summary.task, settings=settings | {"last_lesson": lesson})
        model = model._replace(summary=dataclasses.replace(model.summary, task=task))
    return model


def _checkpoints_of(run_dir: Path, summary: RunSummary) -> Path:
    """The folder of the checkpoints of a run, or of the population that the run belongs to."""
    if summary.checkpoint_dir is not None:
        folder = Path(summary.checkpoint_dir)
        if _id_of_checkpoints(folder) in (summary.id, None):
            return folder
    folder = run_dir.resolve() / CHECKPOINTS
    if not folder.is_dir() and _is_of_population(run_dir):
        folder = run_dir.resolve().parent / CHECKPOINTS
    return folder


def _id_of_checkpoints(folder: Path) -> str | None:
    """The identity of the run that uses a folder now; None if its newest checkpoint is corrupt."""
    try:
        newest = integrity.numbered(folder)[-1]
        return integrity.read_manifest(folder / str(newest))["config"]["id"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _in_checkpoint(run_dir: Path, folder: Path, seed: int, iteration: int | None) -> TrainedModel:
    """The model in a checkpoint, by default in the newest intact one."""
    if iteration is None:
        found, _ = integrity.newest_intact(folder, _summary_of)
        if found is None:
            raise UsageError(_without_model(run_dir, folder))
        summary = found
    else:
        saved = integrity.numbered(folder)
        if iteration not in saved:
            known = ", ".join(map(str, saved)) or "none"
            raise UsageError(
                f"--checkpoint={iteration}: there is no such checkpoint; checkpoints in {folder}: "
                f"{known}"
            )
        try:
            summary = _summary_of(folder / str(iteration))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--checkpoint={iteration}: {folder / str(iteration)}: {error}"
            ) from error
    config, progress = summary.config, summary.progress
    number = seed - config.updates.seed if config.updates.num_seeds > 1 else None
    return TrainedModel(run_dir, config, progress, folder / str(progress.iteration), number)


def _summary_of(checkpoint: Path) -> CheckpointSummary:
    """The summary of an intact checkpoint; for errors see `integrity.newest_intact`."""
    plain = integrity.read_manifest(checkpoint)
    summary = from_plain(plain, CheckpointSummary, "its manifest", partial=True)
    integrity.verify_files(checkpoint, summary.files)
    return summary


def _is_of_population(run_dir: Path) -> bool:
    whole = run_dir.resolve().parent
    return (whole / CONFIG).is_file() and read_summary(whole).updates.num_seeds > 1


def _without_model(run_dir: Path, folder: Path) -> str:
    """The reason why a run has no model yet, and how to get one."""
    if is_locked(run_dir):
        return f"{run_dir} is still training and has no checkpoint yet; see `dncx runs`"
    return (
        f"{run_dir} has no model yet, and there is no checkpoint in {folder}; to resume or restart "
        "it, repeat its command"
    )


def check_exists(run_dir: Path) -> None:
    """Refuses a path at which there is nothing.

    Raises:
      UsageError: the message has the models that ship, and similar names.
    """
    if not run_dir.exists():
        models, siblings = shipped_models(), map(str, run_dir.parent.glob("*"))
        raise UsageError(
            f"there is no run {run_dir}, and no model of this name ships with dncx (there are "
            f"{', '.join(models)}){did_you_mean(str(run_dir), [*models, *siblings])}"
        )


def why_no_run(path: Path) -> str:
    """The reason why a path is not a run directory."""
    if not path.is_dir():
        return f"{path} is not a run directory: it is a file"
    if runs := _named(config.parent for config in path.glob(f"*/{CONFIG}")):
        return f"{path} is a folder of runs; name one: {runs}"
    return f"{path} is not a run directory: it has no {CONFIG}"


def _named(runs: Iterable[Path]) -> str:
    """The first of some runs, for a message."""
    names = sorted(map(str, runs))
    more = [] if len(names) <= _NAMED_RUNS else ["..."]
    return ", ".join([*names[:_NAMED_RUNS], *more])


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
