"""The update at which a run stopped, with all that it was made from."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from dncx.errors import UsageError
from dncx.networks.build import make_network
from dncx.runs import checkpoints
from dncx.runs.directory import task_of
from dncx.runs.integrity import Checkpoint, NonFinite
from dncx.runs.paths import FAILURE
from dncx.runs.state import DATA, TrainState, stream
from dncx.settings.training import OptimizerSettings
from dncx.tasks.base import Episode, Judge
from dncx.tasks.curriculum import Course
from dncx.training.batches import batch_key, data_of, drawn_bucket, sources
from dncx.training.setup import first_state, restore, update_config
from dncx.training.update import UpdateConfig


class Case(NamedTuple):
    """An update that was not finite, and what there was before it."""

    path: Path
    seed: int
    seen: NonFinite  # when the run stopped
    state: TrainState
    settings: OptimizerSettings
    recipe: UpdateConfig  # as the run had it, but for its devices
    plain: nnx.GraphDef  # the network, computed by the equations as they stand
    source: Any  # the task that the batch is of
    episode: Episode
    key: jax.Array  # of the batch


def load_case(run_dir: Path) -> Case:
    """What a run left when it stopped, and the batch of the update.

    Raises:
      UsageError: there is no such run, or it left nothing to look into.
    """
    checkpoint = _newest(run_dir)
    config, seen = checkpoint.manifest.config, checkpoint.manifest.failure
    assert seen is not None
    task = _task(run_dir, checkpoint)
    update = update_config(config)
    plain = nnx.graphdef(nnx.eval_shape(lambda: make_network(config.network, nnx.Rngs(0), "plain")))
    state = restore(checkpoint, jax.eval_shape(lambda: first_state(config, update)))
    key = batch_key(stream(config.updates.seed, DATA), state.iteration)
    source = sources(task, data_of(task))[int(drawn_bucket(task, key))]
    episode = jax.jit(lambda key: source.sample(key, update.batch_size))(key)
    return Case(
        path=checkpoint.path,
        seed=config.updates.seed,
        seen=seen,
        state=state,
        settings=config.optimizer,
        recipe=update,
        plain=plain,
        source=source,
        episode=episode,
        key=key,
    )


def _task(run_dir: Path, checkpoint: Checkpoint) -> Judge:
    """The task, or the lesson of it, that the batch was of."""
    asked = checkpoint.manifest.config.task
    task = task_of(run_dir, asked.name, asked.settings)
    if isinstance(task, Course):
        return task.at_lesson(checkpoint.manifest.progress.lesson, task.gate.earlier_share)
    return task


def _newest(run_dir: Path) -> Checkpoint:
    """What the run left when it stopped."""
    if not run_dir.is_dir():
        raise UsageError(f"there is no run {run_dir}")
    folder = (run_dir / FAILURE).resolve()  # as the checkpoints need it
    try:
        found, _ = checkpoints.newest_intact(folder)
    except UsageError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith("  ")]
        raise UsageError(
            "\n".join([f"nothing in {folder} is whole, so there is nothing to replay:", *reasons])
        ) from error
    if seeds := sorted(path.parent for path in run_dir.glob(f"seed-*/{FAILURE}")):
        raise UsageError(f"{run_dir} has a network of each seed; name one, such as {seeds[0]}")
    if found is None or found.manifest.failure is None:
        raise UsageError(
            f"{run_dir} has no {FAILURE}/, which training leaves where --max_skipped_updates "
            "updates in a row are not finite; it did not stop for that. To catch one that fails "
            "now and then, train with --max_skipped_updates=1"
        )
    return found
