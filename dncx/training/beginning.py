"""What a run is before its first iteration."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dncx.errors import UsageError
from dncx.tasks.base import Examined, Judge
from dncx.training import runs
from dncx.training.networks import Network, make_network
from dncx.training.resume import NEVER_VALIDATED
from dncx.training.settings import RunSettings, TrainSettings
from dncx.training.step import WEIGHTS, TrainState, initial_state, make_optimizer, stream


def begin(
    settings: TrainSettings[Any], model: dict[str, Any]
) -> tuple[nnx.GraphDef, optax.GradientTransformation, TrainState, dict[str, Any]]:
    """The network, the optimiser, their state, and what config.json says of the run."""
    run = settings.run
    graph, params = nnx.split(_network(model, run, nnx.Rngs(params=stream(run.seed, WEIGHTS))))
    optimizer = make_optimizer(settings.optimizer)
    state = initial_state(nnx.to_pure_dict(params), optimizer)
    description = runs.describe(settings, model)
    if run.validation_interval > 0:
        description["validation"] = NEVER_VALIDATED
        state = state._replace(best=jax.tree.map(jnp.copy, state.params))
    return graph, optimizer, state, description


def check_validation(settings: TrainSettings[Any], task: Judge) -> None:
    """Refuses to validate a task that has no validation set."""
    examined = isinstance(task, Examined) and any(True for _ in task.episodes("validation", 1))
    if settings.run.validation_interval > 0 and not examined:
        raise UsageError(f"validation_interval: {settings.task_name} has no validation set")


def _network(model: dict[str, Any], run: RunSettings, weights: nnx.Rngs) -> Network:
    implementation = None if run.implementation == "fastest" else run.implementation
    try:
        return make_network(model, weights, implementation)
    except ValueError as error:  # it cannot be computed so
        raise UsageError(str(error)) from error
