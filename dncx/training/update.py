"""The compiled part of training: draw a batch, compute the gradient, update; repeated per call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from dncx.runs.state import TrainState
from dncx.sequence import where
from dncx.tasks.base import Bucketed, Episode, Objective, Task
from dncx.training.batches import batch_key, keys_for, on_drawn_source, part_keys
from dncx.training.devices import Devices
from dncx.training.gradient import DEFAULT, GradientOptions, loss_and_gradient, mean_over

LossAndGradient = tuple[Float[Array, ""], Any]

_USUAL = 0.99  # decay of the running average of the loss


class UpdateConfig(NamedTuple):
    """The update rule of an iteration.

    Attributes:
      graph: the network without its parameters.
      optimizer: converts a gradient to an update.
      batch_size: sequences per iteration.
      gradient: options for computing the gradient.
      num_seeds: networks trained at once.
      max_skipped_updates: non-finite updates in a row that end a call.
      skip_spikes: an update is skipped if the loss exceeds the usual one this many times; 0: never.
      weight_average: decay of the running average of the parameters; 0: none.
    """

    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    batch_size: int
    gradient: GradientOptions = DEFAULT
    num_seeds: int = 1
    max_skipped_updates: int = 10
    skip_spikes: float = 0.0
    weight_average: float = 0.0

    def of_a_part(self, parts: int) -> "UpdateConfig":
        """The configuration for each part of a batch."""
        rest = self.gradient._replace(accumulation=self.gradient.accumulation // parts)
        return self._replace(batch_size=self.batch_size // parts, gradient=rest)


class Attempt(NamedTuple):
    """An update before the decision whether to apply it."""

    loss: Float[Array, ""]
    gradient: Any
    change: Any  # the change of the parameters
    params: Any  # the changed parameters
    opt_state: Any

    def norms(self) -> dict[str, Any]:
        """The loss, and for every parameter the norms of its gradient and of its new value."""
        trees = {"gradient": self.gradient, "updated": self.params}
        return {"loss": self.loss} | jax.tree.map(lambda x: jnp.linalg.norm(x.ravel()), trees)


def batch_gradient(
    params: Any, config: UpdateConfig, task: Task, episode: Episode, key: Array
) -> LossAndGradient:
    """The loss of a batch and its gradient; `key` is the batch's."""
    devices = config.gradient.devices
    episode = devices.spread(episode) if devices else episode
    keys = keys_for(episode, key)
    return loss_and_gradient(config.graph, params, task, episode, keys, config.gradient)


def drawn_gradient(
    params: Any, config: UpdateConfig, task: Objective, data: Any, key: Array
) -> LossAndGradient:
    """The loss and the gradient of the batch that a key draws.

    Args:
      params: the parameters of the network.
      config: the update rule.
      task: the task of the batch.
      data: `data_of` the task.
      key: the key of the batch.
    """
    keys = part_keys(task, key, config.gradient.accumulation)
    config = config.of_a_part(len(keys))

    def gradient(key: Array) -> LossAndGradient:
        def gradient_from(source: Task) -> LossAndGradient:
            episode = source.sample(key, config.batch_size)
            return batch_gradient(params, config, source, episode, key)

        return on_drawn_source(task, data, key, gradient_from)

    return gradient(keys[0]) if len(keys) == 1 else mean_over(gradient, keys)


def attempt(
    state: TrainState, config: UpdateConfig, loss: Float[Array, ""], gradient: Any
) -> Attempt:
    """The update for a gradient."""
    change, opt_state = config.optimizer.update(gradient, state.opt_state, state.params)
    return Attempt(loss, gradient, change, optax.apply_updates(state.params, change), opt_state)


def update(
    state: TrainState, config: UpdateConfig, loss: Float[Array, ""], gradient: Any
) -> TrainState:
    """The state after one iteration with the loss and the gradient of its batch.

    Parameters and optimiser do not change if anything is non-finite or the loss is a spike.
    """
    _, _, _, params, opt_state = attempt(state, config, loss, gradient)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    spike, usual = _spike(state, loss, config.skip_spikes)
    state = state._replace(iteration=state.iteration + 1)
    new = state._replace(
        params=params,
        opt_state=opt_state,
        loss_sum=state.loss_sum + loss,
        grad_norm_max=jnp.maximum(state.grad_norm_max, norm),
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
        usual_loss=usual,
        average=_averaged(state, params, config.weight_average),
    )
    leaping = state._replace(
        spikes=state.spikes + 1,
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
        usual_loss=usual,
    )
    skipping = state._replace(
        skipped=state.skipped + 1, skipped_in_a_row=state.skipped_in_a_row + 1
    )
    if config.skip_spikes:
        new = where(spike, leaping, new)
    return where(finite, new, skipping)


def _spike(
    state: TrainState, loss: Float[Array, ""], limit: float
) -> tuple[Array, Float[Array, ""]]:
    """Whether a loss is more than `limit` times the usual one, and the new usual loss.

    A spike enters the average as the limit, so that a single spike changes it little: the usual
    loss grows by a factor of at most 1 + (1 - decay) (limit - 1) per iteration.
    """
    usual = state.usual_loss
    if not limit:
        return jnp.zeros((), bool), usual
    known = usual > 0
    spike = known & (loss > limit * usual)
    counted = jnp.where(known, jnp.minimum(loss, limit * usual), loss)
    return spike, jnp.where(known, _USUAL * usual + (1 - _USUAL) * counted, counted)


def _averaged(state: TrainState, params: Any, decay: float) -> Any:
    """The running average of the parameters.

    The decay grows from 0.1 to its final value, so the random first weights are soon forgotten.
    """
    if not state.average:
        return ()
    dtype = jax.tree.leaves(params)[0].dtype
    count = state.iteration.astype(dtype)
    weight = 1 - jnp.minimum(jnp.asarray(decay, dtype), (1 + count) / (10 + count))
    return optax.incremental_update(params, state.average, weight)


def of_one_seed(config: UpdateConfig) -> UpdateConfig:
    """The configuration for one seed of a population, which is computed on a single device."""
    return config._replace(num_seeds=1, gradient=config.gradient._replace(devices=None))


def _on_drawn_batch(
    task: Objective, config: UpdateConfig, act: Callable[..., Any]
) -> Callable[..., Any]:
    """A function (state, data key, `data_of` the task) -> `act`(state, config, loss, gradient).

    Loss and gradient belong to the batch of the state's iteration.
    """

    def step(state: TrainState, key: Array, data: Any) -> Any:
        now = batch_key(key, state.iteration)
        return act(state, config, *drawn_gradient(state.params, config, task, data, now))

    return step


def make_train(config: UpdateConfig, task: Objective) -> Wrapped:
    """A compiled function (state, data key, last iteration, `data_of` the task) -> state.

    The division of iterations into calls does not change the result, since the batch of an
    iteration depends only on the key and the iteration.
    """
    # The seeds of a population draw different buckets.
    one_by_one = isinstance(task, Bucketed)
    return repeated(
        lambda config: _on_drawn_batch(task, config, update), config, one_by_one=one_by_one
    )


def repeated(
    make_step: Callable[[UpdateConfig], Callable[..., TrainState]],
    config: UpdateConfig,
    *,
    one_by_one: bool = False,
) -> Wrapped:
    """A compiled function (state, data key, last iteration, data) -> state of many iterations.

    One call runs all iterations up to the last one, or until `max_skipped_updates` in a row were
    skipped. States and keys of a population have a leading axis of seeds; every seed runs to the
    last iteration.

    Args:
      make_step: makes an iteration, a function (state, data key, data) -> state of one network.
      config: the update rule.
      one_by_one: whether the seeds of a population take their iterations one after the other.
    """
    devices = config.gradient.devices
    if config.num_seeds > 1:
        train = _population(make_step(of_one_seed(config)), devices, one_by_one)
    else:
        step = make_step(config)

        def train(state: TrainState, key: Array, last: Int[Array, ""], data: Any) -> TrainState:
            def more(state: TrainState) -> Array:
                fine = state.skipped_in_a_row < config.max_skipped_updates
                return (state.iteration < last) & fine

            return jax.lax.while_loop(more, lambda state: step(state, key, data), state)

    if not devices:
        return jax.jit(train, donate_argnums=0)
    return jax.jit(train, donate_argnums=0, out_shardings=devices.everywhere)


def _population(
    step: Callable[..., TrainState], devices: Devices | None, one_by_one: bool
) -> Callable[..., TrainState]:
    """Training of all seeds at once."""

    def train(states: TrainState, keys: Array, last: Int[Array, ""], data: Any) -> TrainState:
        def all_seeds(states: TrainState) -> TrainState:
            if one_by_one:
                return jax.lax.map(lambda seed: step(*seed, data), (states, keys))
            return jax.vmap(step, in_axes=(0, 0, None))(states, keys, data)

        return jax.lax.while_loop(lambda s: (s.iteration < last).all(), all_seeds, states)

    return devices.over_seeds(train) if devices else train


def make_diagnosis(config: UpdateConfig, task: Objective) -> Wrapped:
    """A compiled function (state, data key, `data_of` the task) -> `Attempt.norms` of the update.

    It takes the state of a single network, even in a population.
    """
    alone = of_one_seed(config) if config.num_seeds > 1 else config
    return jax.jit(_on_drawn_batch(task, alone, lambda *given: attempt(*given).norms()))
