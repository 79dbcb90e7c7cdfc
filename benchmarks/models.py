"""The standard sizes, and the calls that are timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.kernels.choice import Implementation
from dncx.settings.training import ModelSettings


class Size(NamedTuple):
    """T steps of a batch of B; F inputs, O outputs; N slots of W; R read heads; H hidden."""

    time: int
    batch: int
    inputs: int
    outputs: int
    slots: int
    word: int
    reads: int
    hidden: int


# S: the original's default. L: the paper's network for bAbI.
SIZES = {
    "S": Size(10, 16, 6, 5, 16, 16, 4, 64),
    "M": Size(100, 16, 10, 8, 128, 32, 4, 128),
    "L": Size(100, 16, 160, 160, 256, 64, 4, 256),
}
TINY = {"tiny": Size(4, 2, 3, 2, 5, 3, 2, 6)}
TINY_MODEL = ModelSettings(memory_size=4, word_size=3, num_read_heads=1, hidden_size=4)


def operations(size: Size) -> float:
    """Additions and multiplications that a gradient of the whole batch needs, forward + backward.

    Counted a step of an example: products with weights once forward and twice backward; for
    each of the N x N links 4 to update it, 4 R to read it forwards and backwards, 8 R + 10
    backward, 4 to compute it again; for each of the N x W numbers 2 a comparison with a key
    (R + 1), 2 R to read, 4 to write, each about three and a half times with its gradient.
    """
    reads, slots, word, hidden = size.reads, size.slots, size.word, size.hidden
    interface = reads * word + 3 * word + 5 * reads + 3
    weights = (size.inputs + reads * word + hidden) * 4 * hidden
    weights += hidden * interface + (hidden + reads * word) * size.outputs
    link = slots * slots * (4 + 4 * reads + 8 * reads + 10 + 4)
    memory = slots * word * (2 * (reads + 1) + 2 * reads + 4) * 3.5
    return size.time * size.batch * (6 * weights + link + memory)


def make_cell(size: Size, implementation: Implementation | None = None) -> DNC:
    """A DNC of this size, the same at every call."""
    config = DNCConfig(
        memory_size=size.slots,
        word_size=size.word,
        num_read_heads=size.reads,
        hidden_size=size.hidden,
    )
    return DNC(size.inputs, size.outputs, config, implementation=implementation, rngs=nnx.Rngs(0))


def make_inputs(size: Size) -> jax.Array:
    """Normal noise, [batch, time, inputs]."""
    return jax.random.normal(jax.random.key(1), (size.batch, size.time, size.inputs))


def make_gradient(cell: DNC) -> tuple[Callable[[Any, jax.Array], Any], Any]:
    """A function (params, inputs) -> (sum of squared outputs, its gradient), and the params."""
    graph, state = nnx.split(cell)

    def loss(params: Any, inputs: jax.Array) -> jax.Array:
        return jnp.sum(unroll(nnx.merge(graph, params), inputs)[0] ** 2)

    return jax.jit(jax.value_and_grad(loss)), nnx.to_pure_dict(state)
