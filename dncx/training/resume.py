"""Going on from a checkpoint, and what becomes of what is in the way of a run."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.reporting.console import Reporter
from dncx.runs import checkpoints
from dncx.runs import directory as runs
from dncx.runs.config import (
    CONFIG,
    FAILURE,
    METRICS,
    MODEL,
    compare_configs,
    read_config,
)
from dncx.runs.files import set_aside
from dncx.runs.integrity import Checkpoint
from dncx.runs.state import TrainState, copied
from dncx.settings.training import RunSettings

NEVER_VALIDATED = {"error": None, "iteration": 0, "worse": 0}


def resume(
    checkpoint: Checkpoint, fresh: TrainState, description: dict[str, Any]
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """The state in a checkpoint, what the run is now, and what is no longer as it was."""
    saved = checkpoint.config
    fixed, changed = compare_configs(saved, description)
    if fixed:
        there, here = checkpoints.saved_params(checkpoint), fresh.params
        shapes = runs.compare_shapes(runs.flat_shapes(there), runs.flat_shapes(here))
        raise UsageError(
            f"the checkpoint {checkpoint.path} has what cannot change in a run that goes on:\n  "
            + "\n  ".join(fixed + shapes)
            + "\nGive the run's own settings, another --run_dir or --checkpoint_dir, or "
            "--no-resume to start anew (what is there is moved aside, not lost)."
        )
    state = checkpoints.load(
        checkpoint, fresh._replace(best=fresh.params if "validation" in saved else ())
    )
    history = saved["resumed"]
    if changed:
        history = [*history, {"iteration": state.reached, "changed": changed}]
    kept = {name: saved[name] for name in ("id", "lesson") if name in saved}
    if "validation" not in description:
        state = state._replace(best=())
    elif "validation" in saved and saved["task"] == description["task"]:
        kept["validation"] = saved["validation"]
    else:
        state = state._replace(best=copied(state.params))
    return state, description | kept | {"resumed": history}, changed


def own_folders(run: RunSettings) -> list[Path]:
    """What a run must have for itself: its directory, and that of its checkpoints elsewhere.

    Where these are in another run's directory, it is that directory.
    """
    run_dir, folder = run.run_dir.resolve(), run.checkpoints
    of_a_run = folder.parent == run_dir or (folder.parent / CONFIG).exists()
    return [run_dir, folder.parent if of_a_run else folder]


def out_of_patience(run: RunSettings, description: dict[str, Any]) -> bool:
    """Whether validation has not become better for as long as was asked for."""
    return 0 < run.patience <= description.get("validation", NEVER_VALIDATED)["worse"]


def is_done(
    run: RunSettings, trained: int | None, iteration: int, changed: list[str], stopped: bool
) -> bool:
    """Whether there is nothing left to train and to write.

    Args:
      run: the settings.
      trained: how far the run's models there are trained, if there are any.
      iteration: that of the checkpoint.
      changed: settings that are not as they were.
      stopped: whether validation ends the training.
    """
    if iteration > run.num_training_iterations and trained is None:
        raise UsageError(
            f"{run.run_dir} is at iteration {iteration}: --num_training_iterations={iteration} "
            "makes a model of it as it is, a larger one goes on"
        )
    reached = max(iteration, trained or 0)
    whole = iteration >= run.num_training_iterations or trained == run.num_training_iterations
    done = trained is not None and (whole or stopped)
    if done and changed:
        raise UsageError(
            f"{run.run_dir} is trained to iteration {reached} already, with other settings:\n  "
            + "\n  ".join(changed)
            + "\nGive another --run_dir, --no-resume to start anew (what is there is moved aside, "
            "not lost), or a larger --num_training_iterations to go on."
        )
    return done


def make_room(
    run: RunSettings,
    folders: Iterable[Path],
    run_id: str | None,
    iteration: int,
    reporter: Reporter,
) -> None:
    """Moves aside what would be overwritten: all of another run, or later models.

    Args:
      run: where to write.
      folders: those of its models.
      run_id: of the run that goes on; None for a new one.
      iteration: from where it goes on.
      reporter: is told.
    """
    own = [CONFIG, METRICS, MODEL, FAILURE]
    for views in ("explore*", "export*", "seed-*", "tensorboard"):  # of the model
        own += [path.name for path in run.run_dir.glob(views)]
    config = run.run_dir / CONFIG
    if run_id and config.exists() and read_config(config)["id"] == run_id:
        for folder in folders:
            further = (runs.trained_iterations(folder) or 0) > iteration
            if further and (aside := set_aside(folder, [MODEL])):
                for name in (CONFIG, METRICS):  # which stay, as this run goes on with them
                    if (folder / name).exists():
                        shutil.copy2(folder / name, aside)
                reporter.say(f"{folder} held a later model; it is in {aside} now")
        return
    moves = [(run.run_dir, own)]
    if run_id is None and run.checkpoint_dir is None:
        own.append(run.checkpoints.name)
    elif run_id is None:
        saved = [str(iteration) for iteration in checkpoints.numbered(run.checkpoints)]
        moves.append((run.checkpoints, saved))
    for folder, names in moves:
        if aside := set_aside(folder, names):
            reporter.say(f"{folder} held an earlier run; it is in {aside} now")
