"""The state that training carries from iteration to iteration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

# The purposes of a run's seed. Each has its own stream of random numbers.
WEIGHTS, DATA, SAMPLES, EVALUATION, GATE, FIRST_EPISODES = range(6)


def stream(seed: int, purpose: int) -> Array:
    """The random key of a seed for one of these purposes."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


class TrainState(NamedTuple):
    """The complete state of training: with the seed, it determines the rest of the run.

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
    skipped_in_a_row: Int[Array, "*seeds"]  # consecutive non-finite updates up to now
    usual_loss: Float[Array, "*seeds"]  # running average; 0: not known yet
    average: Any = ()  # running average of the parameters, if it is the model
    best: Any = ()  # the parameters with the best validation, if any
    carried: Any = ()  # what an iteration passes on to the next besides: see `training.method`
    sums: Any = ()  # sums since the last report for the method's own figures

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
        """The state with the sums since the last report set to 0."""
        return self._replace(
            reported=jnp.copy(self.iteration),
            loss_sum=jnp.zeros_like(self.loss_sum),
            grad_norm_max=jnp.zeros_like(self.grad_norm_max),
            skipped=jnp.zeros_like(self.skipped),
            spikes=jnp.zeros_like(self.spikes),
            sums=jax.tree.map(jnp.zeros_like, self.sums),
        )

    def at_new_lesson(self) -> "TrainState":
        """The state without a usual loss: that of one lesson does not apply to the next."""
        return self._replace(usual_loss=jnp.zeros_like(self.usual_loss))


def initial_state(
    params: Any, optimizer: optax.GradientTransformation, *, averages: bool = False
) -> TrainState:
    """The state before the first update."""
    dtype = jax.tree.leaves(params)[0].dtype
    no_iterations, no_loss = jnp.zeros((), jnp.int32), jnp.zeros((), dtype)
    state = TrainState(
        iteration=no_iterations,
        params=params,
        opt_state=optimizer.init(params),
        reported=no_iterations,
        loss_sum=no_loss,
        grad_norm_max=no_loss,
        skipped=no_iterations,
        spikes=no_iterations,
        skipped_in_a_row=no_iterations,
        usual_loss=no_loss,
        average=params if averages else (),
    )
    return copied(state)


def copied(tree: Any) -> Any:
    """A tree with copies of the arrays, since training donates the arrays of its state."""
    return jax.tree.map(jnp.copy, tree)
