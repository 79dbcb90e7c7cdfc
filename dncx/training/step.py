"""The compiled part of training: draw a batch, take the gradient, update; many times a call."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from dncx.errors import UsageError
from dncx.sequence import unroll
from dncx.tasks.base import Bucketed, Episode, Examined, Interactive, Judge, Task
from dncx.training.networks import Network, cell_and_inputs
from dncx.training.settings import OptimizerSettings

# What the one seed of a run is used for; each has a stream of random numbers of its own.
WEIGHTS, DATA, SAMPLES, EVALUATION, GATE = range(5)
# What else than `Task.sample` the key of a batch is used for; a task's own splits of it count
# from 0 on.
_CONVERSE, _BUCKET = 2**31 - 1, 2**31 - 2


def stream(seed: int, purpose: int) -> Array:
    """The random key of a seed for one of the purposes above."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


class TrainState(NamedTuple):
    """All that training carries on: with the seed, it determines the rest of the run."""

    iteration: Int[Array, ""]  # batches drawn
    params: Any
    opt_state: Any
    reported: Int[Array, ""]  # iteration of the last report
    loss_sum: Float[Array, ""]  # over the iterations since then
    grad_norm_max: Float[Array, ""]  # likewise, before clipping
    skipped: Int[Array, ""]  # updates since then that were not finite, and not made
    skipped_in_a_row: Int[Array, ""]  # up to now
    best: Any = ()  # the parameters that were best in validation, where there is any

    def reported_now(self) -> "TrainState":
        """The same, with the averages begun anew."""
        return self._replace(
            reported=jnp.copy(self.iteration),
            loss_sum=jnp.zeros_like(self.loss_sum),
            grad_norm_max=jnp.zeros_like(self.grad_norm_max),
            skipped=jnp.zeros_like(self.skipped),
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
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
    )


def respond(
    network: Network, task: Any, episode: Episode, key: Array, *, training: bool
) -> tuple[Float[Array, "B T O"], Episode]:
    """What the network gives out for a batch, and the batch that this answers.

    They are the batch given, but for an `Interactive` task, whose last part is made on the way.
    """
    cell, inputs = cell_and_inputs(network, episode.inputs)
    if not isinstance(task, Interactive):
        return unroll(cell, inputs)[0], episode

    def step(state: Any, inputs: Array) -> tuple[Any, Array]:
        return cell(state, cell_and_inputs(network, inputs)[1])

    _, state = unroll(cell, inputs, lengths=task.opening_lengths(episode))
    return task.converse(step, state, episode, jax.random.fold_in(key, _CONVERSE), training)


def loss_and_gradient(
    graph: nnx.GraphDef, params: Any, task: Task, episode: Episode, key: Array
) -> tuple[Float[Array, ""], Any]:
    """The task's loss of a batch, and its gradient by the parameters."""

    def loss(params: Any) -> Float[Array, ""]:
        network = nnx.merge(graph, params)
        return task.loss(*respond(network, task, episode, key, training=True))

    return jax.value_and_grad(loss)(params)


def update(
    state: TrainState,
    graph: nnx.GraphDef,
    task: Task,
    episode: Episode,
    key: Array,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """One iteration. Where anything is not finite, parameters and optimiser stay as they were."""
    loss, gradient = loss_and_gradient(graph, state.params, task, episode, key)
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
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
    )
    skipping = state._replace(
        iteration=state.iteration + 1,
        skipped=state.skipped + 1,
        skipped_in_a_row=state.skipped_in_a_row + 1,
    )
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, skipping)


def data_of(task: Judge) -> Any:
    """What the programs below take as their last argument."""
    return task.buckets if isinstance(task, Bucketed) else ()


def _on_batch(task: Judge, batch_size: int, act: Callable[..., Any]) -> Callable[..., Any]:
    """A function (state, data key, `data_of` the task) -> `act`(state, task, episode, key).

    The episode is the batch of the state's iteration, which it and the key alone determine.
    """

    def act_on(source: Task) -> Callable[[TrainState, Array], Any]:
        return lambda state, key: act(state, source, source.sample(key, batch_size), key)

    def step(state: TrainState, key: Array, data: Any) -> Any:
        now = jax.random.fold_in(key, state.iteration)
        if not isinstance(task, Bucketed):
            return act_on(cast(Task, task))(state, now)
        which = jax.random.fold_in(now, _BUCKET)
        bucket = jax.random.choice(which, len(data), p=jnp.asarray(task.shares))
        return jax.lax.switch(bucket, [act_on(bucket) for bucket in data], state, now)

    return step


def make_train(
    graph: nnx.GraphDef,
    task: Judge,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    max_skipped_updates: int = 10,
) -> Wrapped:
    """A compiled function (state, data key, last iteration, `data_of` the task) -> state.

    It runs iterations up to the last one, or until so many updates in a row were skipped, all
    within one call on the device. How iterations are shared out over calls changes nothing in the
    result: the batch of an iteration depends on the key and its number alone.
    """
    step = _on_batch(
        task,
        batch_size,
        lambda state, task, episode, key: update(state, graph, task, episode, key, optimizer),
    )

    def train(state: TrainState, key: Array, last: Int[Array, ""], data: Any) -> TrainState:
        def more(state: TrainState) -> Array:
            return (state.iteration < last) & (state.skipped_in_a_row < max_skipped_updates)

        return jax.lax.while_loop(more, lambda state: step(state, key, data), state)

    return jax.jit(train, donate_argnums=0)


def make_diagnosis(
    graph: nnx.GraphDef, task: Judge, optimizer: optax.GradientTransformation, batch_size: int
) -> Wrapped:
    """A compiled function (state, data key, `data_of` the task) -> what the next update is made of.

    That is the loss, and for every parameter the norms of its gradient and of its value after the
    update.
    """

    def diagnose(state: TrainState, task: Task, episode: Episode, key: Array) -> dict[str, Any]:
        loss, gradient = loss_and_gradient(graph, state.params, task, episode, key)
        updates, _ = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norms = {"gradient": gradient, "updated": params}
        return {"loss": loss, **jax.tree.map(lambda x: jnp.linalg.norm(x.ravel()), norms)}

    return jax.jit(_on_batch(task, batch_size, diagnose))


def make_answer(graph: nnx.GraphDef, task: Judge, batch_size: int) -> Wrapped:
    """A compiled function (params, key, number, data) -> outputs for a fresh batch, and the batch.

    Of a task in buckets the first one, which has the shortest sequences.
    """

    def answer(params: Any, key: Array, number: Int[Array, ""], data: Any) -> tuple[Array, Episode]:
        now, source = jax.random.fold_in(key, number), sources(task, data)[0]
        return _fresh_answer(nnx.merge(graph, params), source, now, batch_size)

    return jax.jit(answer)


def make_measure(graph: nnx.GraphDef, task: Judge, batch_size: int) -> Wrapped:
    """A compiled function (params, key, number, data) -> loss and scores of a fresh batch.

    Of a task in buckets the means of a batch from each, in their shares.
    """
    shares = task.shares if isinstance(task, Bucketed) else (1.0,)

    def measure(params: Any, key: Array, number: Int[Array, ""], data: Any) -> dict[str, Array]:
        network, now = nnx.merge(graph, params), jax.random.fold_in(key, number)
        measured = []
        for source, share in zip(sources(task, data), shares, strict=True):
            outputs, episode = _fresh_answer(network, source, now, batch_size)
            found = {"loss": task.loss(outputs, episode), **task.score(outputs, episode)}
            measured.append(jax.tree.map(lambda x, share=share: x * share, found))
        return jax.tree.map(lambda *parts: sum(parts), *measured)

    return jax.jit(measure)


def sources(task: Judge, data: Any) -> tuple[Task, ...]:
    """What episodes are drawn from."""
    return data if isinstance(task, Bucketed) else (cast(Task, task),)


def _fresh_answer(
    network: Network, source: Task, key: Array, batch_size: int
) -> tuple[Array, Episode]:
    return respond(network, source, source.sample(key, batch_size), key, training=False)


def make_examination(
    graph: nnx.GraphDef, task: Examined, batch_size: int
) -> Callable[[Any, Literal["validation", "test"]], dict[str, Any]]:
    """A function (params, split) -> the results of all of a split's sequences."""

    @jax.jit
    def count(params: Any, episode: Episode) -> Any:
        network, key = nnx.merge(graph, params), jax.random.key(0)
        return task.tally(*respond(network, task, episode, key, training=False))

    def examine(params: Any, split: Literal["validation", "test"]) -> dict[str, Any]:
        counts = [count(params, episode) for episode in task.episodes(split, batch_size)]
        if not counts:
            raise UsageError(f"the task has no sequences for {split}")
        return task.results(jax.tree.map(lambda *parts: sum(parts), *counts))

    return examine
