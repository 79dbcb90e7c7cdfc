"""The update at which a run stopped, with all that it was made from."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.errors import UsageError
from dncx.networks.build import make_network
from dncx.runs import checkpoints
from dncx.runs import directory as runs
from dncx.runs.config import FAILURE, fields_of, task_settings
from dncx.runs.integrity import Checkpoint
from dncx.runs.state import DATA, TrainState, initial_state, make_optimizer, stream
from dncx.settings.training import MOST, OptimizerSettings, within
from dncx.tasks import registry
from dncx.tasks.base import Bucketed, Episode, Judge
from dncx.tasks.curriculum import Course
from dncx.training.gradient import Plan
from dncx.training.update import BUCKET, Recipe


class Case(NamedTuple):
    """An update that was not finite, and what there was before it."""

    path: Path
    seed: int
    seen: dict[str, Any]  # when the run stopped: the loss, and norms by parameter
    state: TrainState
    settings: OptimizerSettings
    recipe: Recipe  # as the run had it, but for its devices
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
    config, training = checkpoint.config, checkpoint.config["training"]
    try:
        task = _task(run_dir, config)
        within(1, MOST, "batch_size", training["batch_size"])
        settings, recipe, params = _recipe(config)
        seed, seen, data = training["seed"], config[FAILURE], stream(training["seed"], DATA)
        plain = nnx.graphdef(make_network(config["model"], nnx.Rngs(0), "plain"))
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"with the settings in {checkpoint.path}: {reason}") from error
    like = initial_state(params, recipe.optimizer, averages=settings.weight_average > 0)
    state = checkpoints.load(
        checkpoint, like._replace(best=params if "validation" in config else ())
    )
    key = jax.random.fold_in(data, state.iteration)
    source = _source(task, key)
    episode = jax.jit(lambda key: source.sample(key, recipe.batch_size))(key)
    return Case(
        path=checkpoint.path,
        seed=seed,
        seen=seen,
        state=state,
        settings=settings,
        recipe=recipe,
        plain=plain,
        source=source,
        episode=episode,
        key=key,
    )


def _recipe(config: dict[str, Any]) -> tuple[OptimizerSettings, Recipe, Any]:
    """How the run trained, and parameters of the shapes that it had."""
    graph, params = nnx.split(make_network(config["model"], nnx.Rngs(0), config["implementation"]))
    known, training = fields_of(OptimizerSettings()), config["training"]
    settings = OptimizerSettings(
        **{name: value for name, value in config["optimizer"].items() if name in known}
    )
    recipe = Recipe(
        graph=graph,
        optimizer=make_optimizer(settings, training["num_training_iterations"]),
        batch_size=training["batch_size"],
        plan=Plan(training["gradient_accumulation"], training["truncation"]),
    )
    return settings, recipe, nnx.to_pure_dict(params)


def _task(run_dir: Path, config: dict[str, Any]) -> Judge:
    """The task, or the lesson of it, that the batch was of."""
    kind = runs.known_task(run_dir, config)
    task = registry.make_task(kind.name, task_settings(config, kind))
    if isinstance(task, Course):
        return task.at_lesson(config["lesson"], task.gate.earlier_share)
    return task


def _newest(run_dir: Path) -> Checkpoint:
    """What the run left when it stopped."""
    if not run_dir.is_dir():
        raise UsageError(f"there is no run {run_dir}")
    folder = (run_dir / FAILURE).resolve()  # as the checkpoints need it
    try:
        found, _ = checkpoints.newest_whole(folder)
    except UsageError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith("  ")]
        raise UsageError(
            "\n".join([f"nothing in {folder} is whole, so there is nothing to replay:", *reasons])
        ) from error
    if seeds := sorted(path.parent for path in run_dir.glob(f"seed-*/{FAILURE}")):
        raise UsageError(f"{run_dir} has a network of each seed; name one, such as {seeds[0]}")
    if found is None or FAILURE not in found.config:
        raise UsageError(
            f"{run_dir} has no {FAILURE}/, which training leaves where --max_skipped_updates "
            "updates in a row are not finite; it did not stop for that. To catch one that fails "
            "now and then, train with --max_skipped_updates=1"
        )
    return found


def _source(task: Any, key: jax.Array) -> Any:
    """What the batch is drawn from, as in training."""
    if not isinstance(task, Bucketed):
        return task
    which, buckets = jax.random.fold_in(key, BUCKET), task.buckets
    return buckets[int(jax.random.choice(which, len(buckets), p=jnp.asarray(task.shares)))]
