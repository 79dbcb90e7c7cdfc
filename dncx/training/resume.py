"""Resuming from a checkpoint, and moving aside files that a run would overwrite."""

import dataclasses
import enum
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dncx.errors import UsageError
from dncx.runs import checkpoints, directory
from dncx.runs.config import Changes, RunConfig, with_defaults
from dncx.runs.files import set_aside
from dncx.runs.integrity import numbered
from dncx.runs.manifest import Checkpoint
from dncx.runs.paths import CONFIG, FAILURE, METRICS, MODEL
from dncx.runs.progress import Progress, Resumption
from dncx.runs.summary import read_summary
from dncx.runs.trained import trained_progress
from dncx.settings.training import RunSettings


class Resumed(NamedTuple):
    """A run that continues."""

    config: RunConfig
    progress: Progress
    changed: list[str]  # changed settings, one line each


def resumed(checkpoint: Checkpoint, asked: RunConfig, params: Any) -> Resumed:
    """The configuration and the progress of a run that continues from a checkpoint.

    Args:
      checkpoint: the checkpoint.
      asked: the configuration from the flags.
      params: the shapes of the parameters that the configuration needs.

    Raises:
      UsageError: if the flags change settings that cannot change within a run.
    """
    saved, progress = checkpoint.manifest.config, checkpoint.manifest.progress
    changes = Changes(saved, asked)
    if changes.fixed:
        there = directory.flat_shapes(checkpoints.saved_params(checkpoint))
        shapes = directory.compare_shapes(there, directory.flat_shapes(params))
        lines = "\n  ".join(changes.fixed + shapes)
        raise UsageError(
            f"the checkpoint {checkpoint.path} differs in settings that cannot change within a "
            f"run:\n  {lines}\nUse the run's own settings, another --run_dir or --checkpoint_dir, "
            "or --no-resume to start over (the old files are moved aside, not lost)."
        )
    if changes.free:
        resumption = Resumption(iteration=progress.iteration, changed=tuple(changes.free))
        progress = dataclasses.replace(progress, resumed=(*progress.resumed, resumption))
    config = dataclasses.replace(asked, id=saved.id, initial_model=saved.initial_model)
    return Resumed(config, progress, changes.free)


def keeps_validation(checkpoint: Checkpoint, asked: RunConfig) -> bool:
    """Whether the best model so far still counts as the best: it was validated on this task."""
    saved = checkpoint.manifest
    same_task = with_defaults(saved.config.task) == with_defaults(asked.task)
    return saved.progress.validation is not None and same_task


class NextAction(enum.Enum):
    """The work that remains for a run."""

    TRAIN = enum.auto()
    WRITE_MODEL = enum.auto()
    NOTHING = enum.auto()


def next_action(
    run: RunSettings, progress: Progress, trained: int | None, changed: list[str]
) -> NextAction:
    """Whether to train, to write the model only, or to do nothing.

    Args:
      run: the settings.
      progress: the progress of the checkpoint to resume from, or of a new run.
      trained: the iteration up to which the models of the run are trained; None if there are none.
      changed: changed settings.

    Raises:
      UsageError: if the settings ask for fewer iterations than are complete, or change a run that
        has ended.
    """
    reached, total = progress.iteration, run.num_training_iterations
    if reached > total and trained is None:
        raise UsageError(
            f"{run.run_dir} is at iteration {reached}: --num_training_iterations={reached} writes "
            "its current model, a larger number trains further"
        )
    ended = reached >= total or trained == total or progress.out_of_patience(run.patience)
    if not ended:
        return NextAction.TRAIN
    if trained is None:
        return NextAction.WRITE_MODEL
    if changed:
        lines = "\n  ".join(changed)
        raise UsageError(
            f"{run.run_dir} is already trained to iteration {max(reached, trained)} with other "
            f"settings:\n  {lines}\nUse another --run_dir, --no-resume to start over (the old "
            "files are moved aside, not lost), or a larger --num_training_iterations to train "
            "further."
        )
    return NextAction.NOTHING


def own_folders(run: RunSettings) -> list[Path]:
    """The folders that no other run may use: the run directory and the checkpoint folder.

    If the checkpoints are in another run's directory, that directory counts.
    """
    run_dir, folder = run.run_dir.resolve(), run.checkpoints
    in_a_run = folder.parent == run_dir or (folder.parent / CONFIG).exists()
    return [run_dir, folder.parent if in_a_run else folder]


def make_room(
    run: RunSettings,
    folders: Iterable[Path],
    run_id: str | None,
    iteration: int,
    report: Callable[[str], object],
) -> None:
    """Moves aside the files that a run would overwrite: another run, or later models of this one.

    Args:
      run: the settings of the run.
      folders: the folders of its models.
      run_id: the identity of a run that continues; None for a new run.
      iteration: the iteration from which it continues.
      report: is called with a line of text on the moved files.
    """
    if run_id and _id_at(run.run_dir) == run_id:
        for folder in folders:
            _move_later_model(folder, iteration, report)
        return
    own = [CONFIG, METRICS, MODEL, FAILURE]
    for views in ("explore*", "export*", "seed-*", "tensorboard"):  # made from the model
        own += [path.name for path in run.run_dir.glob(views)]
    moves = [(run.run_dir, own)]
    if run_id is None and run.checkpoint_dir is None:
        own.append(run.checkpoints.name)
    elif run_id is None:
        saved = [str(number) for number in numbered(run.checkpoints)]
        moves.append((run.checkpoints, saved))
    for folder, names in moves:
        if aside := set_aside(folder, names):
            report(f"moved the earlier run in {folder} to {aside}")


def _id_at(run_dir: Path) -> str | None:
    return read_summary(run_dir).id if (run_dir / CONFIG).exists() else None


def _move_later_model(folder: Path, iteration: int, report: Callable[[str], object]) -> None:
    """Moves aside a model that is trained beyond the iteration from which the run continues."""
    progress = trained_progress(folder)
    if progress is None or progress.iteration <= iteration:
        return
    if aside := set_aside(folder, [MODEL]):
        for name in (CONFIG, METRICS):  # copied, as the run that continues needs them
            if (folder / name).exists():
                shutil.copy2(folder / name, aside)
        report(f"moved the later model in {folder} to {aside}")
