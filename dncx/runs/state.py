"""What training carries on from iteration to iteration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dncx.settings.training import OptimizerSettings

# What the one seed of a run is used for; each has a stream of random numbers of its own.
WEIGHTS, DATA, SAMPLES, EVALUATION, GATE = range(5)


def stream(seed: int, purpose: int) -> Array:
    """The random key of a seed for one of the purposes above."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


class TrainState(NamedTuple):
    """All that training carries on: with the seed, it determines the rest of the run.

    Of a population every array has an axis of its seeds in front.
    """

    iteration: Int[Array, "*seeds"]  # batches drawn
    params: Any
    opt_state: Any
    reported: Int[Array, "*seeds"]  # iteration of the last report
    loss_sum: Float[Array, "*seeds"]  # over the updates since then
    grad_norm_max: Float[Array, "*seeds"]  # likewise, before clipping
    skipped: Int[Array, "*seeds"]  # updates since then that were not finite, and not made
    spikes: Int[Array, "*seeds"]  # likewise those not made for their loss
    skipped_in_a_row: Int[Array, "*seeds"]  # up to now, as they were not finite
    usual_loss: Float[Array, "*seeds"]  # a running average; 0: not known
    average: Any = ()  # that of the parameters, where it is the model
    best: Any = ()  # the parameters that were best in validation, where there is any

    @property
    def reached(self) -> int:
        """The iteration, of a population that of all its seeds."""
        return int(np.max(np.asarray(self.iteration)))

    @property
    def model(self) -> Any:
        """The parameters that are measured and saved."""
        return self.average or self.params

    def one(self, seed: int) -> "TrainState":
        """Of a population the state of a network, by its number from 0."""
        return jax.tree.map(lambda x: x[seed], self)

    def reported_now(self) -> "TrainState":
        """The same, with the averages begun anew."""
        return self._replace(
            reported=jnp.copy(self.iteration),
            loss_sum=jnp.zeros_like(self.loss_sum),
            grad_norm_max=jnp.zeros_like(self.grad_norm_max),
            skipped=jnp.zeros_like(self.skipped),
            spikes=jnp.zeros_like(self.spikes),
        )

    def at_new_lesson(self) -> "TrainState":
        """The same, where what was a usual loss says nothing any longer."""
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
    """A tree with arrays of its own: those of a state are given away when it is trained on."""
    return jax.tree.map(jnp.copy, tree)


def make_optimizer(
    settings: OptimizerSettings, iterations: int = 1, decay: float = 0.9
) -> optax.GradientTransformation:
    """TensorFlow 1's RMSProp (mean square from 1, epsilon under the root) on clipped gradients.

    Args:
      settings: its numbers.
      iterations: those in which the learning rate follows its schedule.
      decay: of the mean square.
    """
    return optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.rmsprop(
            learning_rates(settings, iterations),
            decay=decay,
            eps=settings.optimizer_epsilon,
            initial_scale=1.0,
            eps_in_sqrt=True,
            momentum=settings.momentum or None,
        ),
    )


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
