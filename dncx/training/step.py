"""The compiled part of training: draw a batch, take the gradient, update; many times a call."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Bool, Float, Int

from dncx.sequence import unroll
from dncx.tasks.base import Episode, Task
from dncx.training.settings import OptimizerSettings

# What the one seed of a run is used for; each has a stream of random numbers of its own.
WEIGHTS, DATA, SAMPLES, EVALUATION = range(4)


def stream(seed: int, purpose: int) -> Array:
    """The random key of a seed for one of the purposes above."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


class TrainState(NamedTuple):
    """All that training carries on: with the seed, it determines the rest of the run."""

    iteration: Int[Array, ""]  # updates done
    params: Any
    opt_state: Any
    reported: Int[Array, ""]  # iteration of the last report
    loss_sum: Float[Array, ""]  # over the iterations since then
    grad_norm_max: Float[Array, ""]  # likewise, before clipping
    finite: Bool[Array, ""]  # whether the last loss, gradient and update were

    def reported_now(self) -> "TrainState":
        """The same, with the averages begun anew."""
        zero = jnp.zeros_like(self.loss_sum)
        return self._replace(
            reported=jnp.copy(self.iteration), loss_sum=zero, grad_norm_max=jnp.copy(zero)
        )


def make_optimizer(settings: OptimizerSettings, decay: float = 0.9) -> optax.GradientTransformation:
    """TensorFlow 1's RMSProp (mean square from 1, epsilon under the root) on clipped gradients."""
    return optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.rmsprop(
            settings.learning_rate,
            decay=decay,
            eps=settings.optimizer_epsilon,
            initial_scale=1.0,
            eps_in_sqrt=True,
            momentum=settings.momentum or None,
        ),
    )


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update."""
    dtype = jax.tree.leaves(params)[0].dtype
    return TrainState(
        iteration=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        reported=jnp.zeros((), jnp.int32),
        loss_sum=jnp.zeros((), dtype),
        grad_norm_max=jnp.zeros((), dtype),
        finite=jnp.array(True),
    )


def loss_and_gradient(
    graph: nnx.GraphDef, params: Any, task: Task, episode: Episode
) -> tuple[Float[Array, ""], Any]:
    """The task's loss of a batch, and its gradient by the parameters."""

    def loss(params: Any) -> Float[Array, ""]:
        outputs, _ = unroll(nnx.merge(graph, params), episode.inputs)
        return task.loss(outputs, episode)

    return jax.value_and_grad(loss)(params)


def update(
    state: TrainState,
    graph: nnx.GraphDef,
    task: Task,
    episode: Episode,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """One iteration. Where anything is not finite, all but `finite` stays as it was."""
    loss, gradient = loss_and_gradient(graph, state.params, task, episode)
    norm = optax.tree.norm(gradient)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    new = state._replace(
        iteration=state.iteration + 1,
        params=params,
        opt_state=opt_state,
        loss_sum=state.loss_sum + loss,
        grad_norm_max=jnp.maximum(state.grad_norm_max, norm),
        finite=finite,
    )
    old = state._replace(finite=finite)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


def make_train(
    graph: nnx.GraphDef, task: Task, optimizer: optax.GradientTransformation, batch_size: int
) -> Wrapped:
    """A compiled function (state, data key, last iteration) -> state.

    It runs iterations up to the last one, or to the first that is not finite, all within one
    call on the device. How iterations are shared out over calls changes nothing in the result:
    the batch of an iteration depends on the key and its number alone.
    """

    def train(state: TrainState, key: Array, last: Int[Array, ""]) -> TrainState:
        def more(state: TrainState) -> Array:
            return (state.iteration < last) & state.finite

        def step(state: TrainState) -> TrainState:
            episode = task.sample(jax.random.fold_in(key, state.iteration), batch_size)
            return update(state, graph, task, episode, optimizer)

        return jax.lax.while_loop(more, step, state)

    return jax.jit(train, donate_argnums=0)


def make_answer(graph: nnx.GraphDef, task: Task, batch_size: int) -> Wrapped:
    """A compiled function (params, key, number) -> the outputs for a fresh batch, and the batch."""

    def answer(params: Any, key: Array, number: Int[Array, ""]) -> tuple[Array, Episode]:
        episode = task.sample(jax.random.fold_in(key, number), batch_size)
        outputs, _ = unroll(nnx.merge(graph, params), episode.inputs)
        return outputs, episode

    return jax.jit(answer)
