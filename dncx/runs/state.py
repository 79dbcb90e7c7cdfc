"""What training carries from iteration to iteration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dncx.settings.training import OptimizerSettings

# The purposes of a run's seed. Each has its own stream of random numbers.
WEIGHTS, DATA, SAMPLES, EVALUATION, GATE = range(5)


def stream(seed: int, purpose: int) -> Array:
    """The random key of a seed for one of these purposes."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


class TrainState(NamedTuple):
    """Everything that training carries: with the seed, it determines the rest of the run.

    The arrays of a population have a leading axis of seeds.
    """

    iteration: Int[Array, "*seeds"]  # batches drawn so far
    params: Any
    opt_state: Any
    reported: Int[Array, "*seeds"]  # iteration of the last report
    loss_sum: Float[Array, "*seeds"]  # sum over the updates since the last report
    grad_norm_max: Float[Array, "*seeds"]  # the largest since then, before clipping
    skipped: Int[Array, "*seeds"]  # non-finite updates since then, which were skipped
    spikes: Int[Array, "*seeds"]  # updates skipped for their loss since then
    skipped_in_a_row: Int[Array, "*seeds"]  # non-finite updates up to now
    usual_loss: Float[Array, "*seeds"]  # running average; 0: not known yet
    average: Any = ()  # running average of the parameters, if it is the model
    best: Any = ()  # the parameters with the best validation, if any

    @property
    def reached(self) -> int:
        """The iteration; all seeds of a population are at the same one."""
        return int(np.max(np.asarray(self.iteration)))

    @property
    def model(self) -> Any:
        """The parameters to measure and to save."""
        return self.average or self.params

    def one(self, seed: int) -> "TrainState":
        """The state of one network of a population, by its number from 0."""
        return jax.tree.map(lambda x: x[seed], self)

    def reported_now(self) -> "TrainState":
        """The same, with the sums since the last report at 0."""
        return self._replace(
            reported=jnp.copy(self.iteration),
            loss_sum=jnp.zeros_like(self.loss_sum),
            grad_norm_max=jnp.zeros_like(self.grad_norm_max),
            skipped=jnp.zeros_like(self.skipped),
            spikes=jnp.zeros_like(self.spikes),
        )

    def at_new_lesson(self) -> "TrainState":
        """The same, without a usual loss: that of the lesson before says nothing about the next."""
        return self._replace(usual_loss=jnp.zeros_like(self.usual_loss))


def initial_state(
    params: Any, optimizer: optax.GradientTransformation, *, averages: bool = False
) -> TrainState:
    """The state before the first update."""
    dtype = jax.tree.leaves(params)[0].dtype
    none, nothing = jnp.zeros((), jnp.int32), jnp.zeros((), dtype)
    state = TrainState(
        iteration=none,
        params=params,
        opt_state=optimizer.init(params),
        reported=none,
        loss_sum=nothing,
        grad_norm_max=nothing,
        skipped=none,
        spikes=none,
        skipped_in_a_row=none,
        usual_loss=nothing,
        average=params if averages else (),
    )
    return copied(state)


def copied(tree: Any) -> Any:
    """A tree with copies of the arrays: training donates those of its state to the next."""
    return jax.tree.map(jnp.copy, tree)


def make_optimizer(
    settings: OptimizerSettings, iterations: int = 1
) -> optax.GradientTransformation:
    """TensorFlow 1's RMSProp (mean square from 1, epsilon under the root) on clipped gradients.

    Weight decay is decoupled from the gradient, as in AdamW: an update also subtracts learning rate
    x weight_decay x weight, outside of RMSProp and its momentum.

    Args:
      settings: its numbers.
      iterations: over which the learning rate follows its schedule.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101 (weight decay).
    """
    rates, decay = learning_rates(settings, iterations), settings.weight_decay
    rmsprop = optax.rmsprop(
        rates,
        decay=settings.rmsprop_decay,
        eps=settings.optimizer_epsilon,
        initial_scale=1.0,
        eps_in_sqrt=True,
        momentum=settings.momentum or None,
    )
    decaying = optax.add_decayed_weights(lambda count: -decay * rates(count), decayed_weights)
    return optax.chain(_clipping(settings), rmsprop, *([decaying] if decay else []))


def _clipping(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Clips by value and then by norm, in one part of the chain.

    So the state has the same parts with either, and a run may change them.
    """
    by_value, by_norm = optax.identity(), optax.clip_by_global_norm(settings.max_grad_norm)
    if settings.max_grad_value:
        by_value = optax.clip(settings.max_grad_value)

    def clipped(gradient: Any, params: Any) -> Any:
        for clip in (by_value, by_norm):
            gradient, _ = clip.update(gradient, optax.EmptyState(), params)
        return gradient

    return optax.stateless(clipped)


def decayed_weights(params: Any) -> Any:
    """Whether weight decay applies to each parameter: to matrices, except for embeddings.

    A bias or the scale of a layer norm has no product whose size decay could limit. Embeddings are
    left out as in Csordás and Schmidhuber 2019 (arXiv:1904.10278): a row changes only when its word
    occurs, so decay would shrink those of rare words.
    """

    def decays(path: Any, array: Any) -> bool:
        return array.ndim > 1 and not any(key.key == "embedding" for key in path)

    return jax.tree_util.tree_map_with_path(decays, params)


def learning_rates(settings: OptimizerSettings, iterations: int) -> optax.Schedule:
    """The learning rate by the number of updates made."""
    rate, warmup = settings.learning_rate, settings.warmup_iterations
    rest = max(1, iterations - warmup)
    schedules = {
        "constant": optax.constant_schedule(rate),
        "linear": optax.linear_schedule(rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(rate, rest),
    }
    schedule = schedules[settings.learning_rate_schedule]
    if warmup:
        before = optax.linear_schedule(rate / warmup, rate + rate / warmup, warmup)
        schedule = optax.join_schedules([before, schedule], [warmup])
    return lambda count: schedule(jnp.asarray(count, jnp.float32))
