"""The outputs of a network for a batch, their loss, and its gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dncx.networks.build import Network
from dncx.parts import cell_of
from dncx.sequence import unroll
from dncx.tasks.base import Episode, Interactive, Task
from dncx.training.devices import Devices


class GradientOptions(NamedTuple):
    """Options for computing the gradient of a batch. Truncation and dropout change its value.

    Attributes:
      accumulation: number of parts of the batch, computed one after the other.
      truncation: largest number of steps that the gradient goes back; 0: all.
      output_dropout: rate of dropout of the controller's output on its way to the output layer.
      devices: the devices that share the work; None: one device.
    """

    accumulation: int = 1
    truncation: int = 0
    output_dropout: float = 0.0
    devices: Devices | None = None


DEFAULT = GradientOptions()


def respond(
    network: Network,
    task: Any,
    episode: Episode,
    keys: Array,
    *,
    training: bool,
    options: GradientOptions = DEFAULT,
) -> tuple[Float[Array, "B T O"], Episode]:
    """The network's outputs for a batch, and the batch that they answer.

    This is the given batch, except for an `Interactive` task: the last part of its batch is made
    while the network answers, with the keys.
    """
    inputs = episode.inputs
    if not isinstance(task, Interactive):
        factors = None
        if training and options.output_dropout:
            factors = dropout_factors(cell_of(network), inputs, keys, options.output_dropout)
        return _unroll(network, inputs, options, hidden_factors=factors)[0], episode
    _, state = _unroll(network, inputs, options, task.opening_lengths(episode))
    return task.converse(network, state, episode, keys, training)


def dropout_factors(
    cell: Any, inputs: Float[Array, "B T F"], keys: Array, rate: float
) -> Float[Array, "B T H"]:
    """Random factors for the controller's output: 0 with probability `rate`, else 1 / (1 - rate).

    Args:
      cell: the recurrent cell.
      inputs: its inputs.
      keys: one per sequence, so that a sequence gets the same factors on any device.
      rate: the share of the outputs to drop.
    """
    shape = (inputs.shape[1], cell.controller_output_size)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys)
    return kept.astype(inputs.dtype) / (1 - rate)


def loss_and_gradient(
    graph: nnx.GraphDef,
    params: Any,
    task: Task,
    episode: Episode,
    keys: Array,
    options: GradientOptions = DEFAULT,
) -> tuple[Float[Array, ""], Any]:
    """The task's loss of a batch, and its gradient with respect to the parameters."""

    def gradient(params: Any, episode: Episode, keys: Array) -> tuple[Float[Array, ""], Any]:
        def loss(params: Any) -> Float[Array, ""]:
            network = nnx.merge(graph, params)
            return task.loss(*respond(network, task, episode, keys, training=True, options=options))

        return jax.value_and_grad(loss)(params)

    if options.accumulation > 1:
        gradient = _in_parts(gradient, options.accumulation)
    if options.devices:
        gradient = options.devices.mean_over_batch(gradient)
    return gradient(params, episode, keys)


def _in_parts(gradient: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """The same function of a batch, computed as the mean over parts of it."""

    def mean(params: Any, *batch: Any) -> Any:
        split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
        return mean_over(lambda *part: gradient(params, *part), *split)

    return mean


def mean_over(function: Callable[..., Any], *stacked: Any) -> Any:
    """The mean of a function over the first axis of its arguments, one index after the other."""
    first = jax.tree.map(lambda x: x[0], stacked)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *first))

    def add(total: Any, one: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*one)), None

    total, _ = jax.lax.scan(add, zeros, stacked)
    count = len(jax.tree.leaves(stacked)[0])
    return jax.tree.map(lambda x: x / count, total)


def _unroll(
    cell: Any,
    inputs: Float[Array, "B T F"],
    options: GradientOptions,
    lengths: Array | None = None,
    hidden_factors: Float[Array, "B T H"] | None = None,
) -> tuple[Float[Array, "B T O"], Any]:
    """`unroll` from an empty memory."""
    shape = (inputs.shape[0], inputs.shape[2])
    state = cell.initialize_carry(shape, nnx.Rngs(0))
    if options.devices:
        state = options.devices.share_memory(state)
    if not 0 < options.truncation < inputs.shape[1]:
        return unroll(
            cell, inputs, initial_state=state, lengths=lengths, hidden_factors=hidden_factors
        )
    return unroll_truncated(cell, inputs, options.truncation, state, lengths, hidden_factors)


def unroll_truncated(
    cell: Any,
    inputs: Float[Array, "B T F"],
    window: int,
    initial_state: Any,
    lengths: Array | None = None,
    hidden_factors: Float[Array, "B T H"] | None = None,
) -> tuple[Float[Array, "B T O"], Any]:
    """`dncx.unroll` with the gradient cut every `window` steps; the state is carried over.

    The steps after the last complete window form a shorter window. The backward pass needs memory
    for one window and for one state per window.
    """
    batch, time, _ = inputs.shape
    count = time // window
    split = count * window
    given = (inputs, hidden_factors)

    def in_windows(x: Array) -> Array:
        return jnp.moveaxis(x[:, :split].reshape(batch, count, window, x.shape[-1]), 1, 0)

    if lengths is None:
        lengths = jnp.full(batch, time, jnp.int32)

    @jax.checkpoint
    def run(state: Any, part: tuple[tuple[Array, Array | None], Array]) -> tuple[Any, Array]:
        (inputs, factors), start = part
        outputs, state = unroll(
            cell,
            inputs,
            initial_state=jax.lax.stop_gradient(state),
            lengths=jnp.clip(lengths - start, 0, inputs.shape[1]),
            hidden_factors=factors,
        )
        return state, outputs

    starts = window * jnp.arange(count, dtype=jnp.int32)
    windows = jax.tree.map(in_windows, given)
    state, outputs = jax.lax.scan(run, initial_state, (windows, starts))
    outputs = jnp.moveaxis(outputs, 0, 1).reshape(batch, split, outputs.shape[-1])
    if split < time:
        rest = jax.tree.map(lambda x: x[:, split:], given)
        state, outputs_of_rest = run(state, (rest, jnp.int32(split)))
        outputs = jnp.concatenate([outputs, outputs_of_rest], axis=1)
    return outputs, state
