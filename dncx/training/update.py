"""The compiled part of training: draw a batch, take the gradient, update; many times a call."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from dncx.runs.state import TrainState
from dncx.tasks.base import Bucketed, Episode, Judge, Task
from dncx.training.gradient import ALONE, Plan, keys_for, loss_and_gradient

# What else than `Task.sample` the key of a batch is used for; a task's own splits of it count
# from 0 on.
BUCKET = 2**31 - 2
_USUAL = 0.99  # decay of the running average of the loss


class Recipe(NamedTuple):
    """How a run trains."""

    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    batch_size: int
    plan: Plan = ALONE
    num_seeds: int = 1  # networks trained at once
    max_skipped_updates: int = 10  # that end a call
    skip_spikes: float = 0.0  # times the usual loss; 0: no update is skipped for its loss
    weight_average: float = 0.0  # decay; 0: no average


class Attempt(NamedTuple):
    """An update, before it is known whether it is made."""

    loss: Float[Array, ""]
    gradient: Any
    change: Any  # of the parameters
    params: Any  # changed
    opt_state: Any

    def norms(self) -> dict[str, Any]:
        """The loss, and for every parameter the norms of its gradient and of its new value."""
        trees = {"gradient": self.gradient, "updated": self.params}
        return {"loss": self.loss} | jax.tree.map(lambda x: jnp.linalg.norm(x.ravel()), trees)


def attempt(state: TrainState, recipe: Recipe, task: Task, episode: Episode, key: Array) -> Attempt:
    """The update that a batch asks for; `key` is the batch's."""
    devices = recipe.plan.devices
    episode = devices.spread(episode) if devices else episode
    loss, gradient = loss_and_gradient(
        recipe.graph, state.params, task, episode, keys_for(episode, key), recipe.plan
    )
    change, opt_state = recipe.optimizer.update(gradient, state.opt_state, state.params)
    return Attempt(loss, gradient, change, optax.apply_updates(state.params, change), opt_state)


def update(
    state: TrainState, recipe: Recipe, task: Task, episode: Episode, key: Array
) -> TrainState:
    """One iteration.

    Where anything is not finite, or the loss is a spike, parameters and optimiser stay as they
    were.
    """
    loss, gradient, _, params, opt_state = attempt(state, recipe, task, episode, key)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    spike, usual = _spike(state, loss, recipe.skip_spikes)
    state = state._replace(iteration=state.iteration + 1)
    new = state._replace(
        params=params,
        opt_state=opt_state,
        loss_sum=state.loss_sum + loss,
        grad_norm_max=jnp.maximum(state.grad_norm_max, norm),
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
        usual_loss=usual,
        average=_averaged(state, params, recipe.weight_average),
    )
    leaping = state._replace(
        spikes=state.spikes + 1,
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
        usual_loss=usual,
    )
    skipping = state._replace(
        skipped=state.skipped + 1, skipped_in_a_row=state.skipped_in_a_row + 1
    )
    if recipe.skip_spikes:
        new = _where(spike, leaping, new)
    return _where(finite, new, skipping)


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _spike(
    state: TrainState, loss: Float[Array, ""], limit: float
) -> tuple[Array, Float[Array, ""]]:
    """Whether a loss is more than `limit` times the usual one, and what is usual from now on.

    A spike counts as no more than the limit, so that one of them tells little; the usual loss
    grows by a factor of at most 1 + (1 - decay) (limit - 1) an iteration.
    """
    usual = state.usual_loss
    if not limit:
        return jnp.zeros((), bool), usual
    known = usual > 0
    spike = known & (loss > limit * usual)
    counted = jnp.where(known, jnp.minimum(loss, limit * usual), loss)
    return spike, jnp.where(known, _USUAL * usual + (1 - _USUAL) * counted, counted)


def _averaged(state: TrainState, params: Any, decay: float) -> Any:
    """The running average of the parameters, which at first follows them more closely."""
    if not state.average:
        return ()
    dtype = jax.tree.leaves(params)[0].dtype
    count = state.iteration.astype(dtype)
    weight = 1 - jnp.minimum(jnp.asarray(decay, dtype), (1 + count) / (10 + count))
    return optax.incremental_update(params, state.average, weight)


def _of_one_seed(recipe: Recipe) -> Recipe:
    """That of a seed of a population, which has one device to itself."""
    return recipe._replace(num_seeds=1, plan=recipe.plan._replace(devices=None))


def _on_batch(task: Judge, recipe: Recipe, act: Callable[..., Any]) -> Callable[..., Any]:
    """A function (state, data key, `data_of` the task) -> `act`(state, recipe, task, episode, key).

    The episode is the batch of the state's iteration, which it and the key alone determine.
    """

    def act_on(source: Task) -> Callable[[TrainState, Array], Any]:
        def act_now(state: TrainState, key: Array) -> Any:
            return act(state, recipe, source, source.sample(key, recipe.batch_size), key)

        return act_now

    def step(state: TrainState, key: Array, data: Any) -> Any:
        now = jax.random.fold_in(key, state.iteration)
        if not isinstance(task, Bucketed):
            return act_on(cast(Task, task))(state, now)
        which = jax.random.fold_in(now, BUCKET)
        bucket = jax.random.choice(which, len(data), p=jnp.asarray(task.shares))
        return jax.lax.switch(bucket, [act_on(bucket) for bucket in data], state, now)

    return step


def make_train(recipe: Recipe, task: Judge) -> Wrapped:
    """A compiled function (state, data key, last iteration, `data_of` the task) -> state.

    It runs iterations up to the last one, or until so many updates in a row were skipped, all
    within one call on the device. How iterations are shared out over calls changes nothing in the
    result: the batch of an iteration depends on the key and its number alone.

    Of a population states and keys have the seeds in front, and each seed goes on to the last.
    """
    devices = recipe.plan.devices
    step = _on_batch(task, recipe, update)

    def train(state: TrainState, key: Array, last: Int[Array, ""], data: Any) -> TrainState:
        def more(state: TrainState) -> Array:
            fine = state.skipped_in_a_row < recipe.max_skipped_updates
            return (state.iteration < last) & fine

        return jax.lax.while_loop(more, lambda state: step(state, key, data), state)

    if recipe.num_seeds > 1:
        train = _population(recipe, task)
    if not devices:
        return jax.jit(train, donate_argnums=0)
    return jax.jit(train, donate_argnums=0, out_shardings=devices.everywhere)


def _population(recipe: Recipe, task: Judge) -> Callable[..., TrainState]:
    """Training of all seeds at once."""
    devices, step = recipe.plan.devices, _on_batch(task, _of_one_seed(recipe), update)

    def train(states: TrainState, keys: Array, last: Int[Array, ""], data: Any) -> TrainState:
        def all_seeds(states: TrainState) -> TrainState:
            if isinstance(task, Bucketed):  # each seed has a bucket of its own: one after the other
                return jax.lax.map(lambda seed: step(*seed, data), (states, keys))
            return jax.vmap(step, in_axes=(0, 0, None))(states, keys, data)

        return jax.lax.while_loop(lambda s: (s.iteration < last).all(), all_seeds, states)

    return devices.over_seeds(train) if devices else train


def make_diagnosis(recipe: Recipe, task: Judge) -> Wrapped:
    """A compiled function (state, data key, `data_of` the task) -> `Attempt.norms` of the update.

    Of a population it is for one seed.
    """
    alone = _of_one_seed(recipe) if recipe.num_seeds > 1 else recipe
    return jax.jit(_on_batch(task, alone, lambda *given: attempt(*given).norms()))
