"""The standard sizes, and the functions that are timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.kernels.choice import Implementation
from dncx.settings.training import ModelSettings


class Size(NamedTuple):
    """Steps, batch size, features, slots, word size, read heads and hidden units."""

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
    """Additions and multiplications in the forward and backward pass of a batch.

    Each step of an example needs

    * for each weight: 2 in the forward and 4 in the backward pass;
    * for each of the N x N links: 4 to update it, 4 R to read it in both directions, 8 R + 10 in
      the backward pass, and 4 to recompute it;
    * for each of the N x W numbers in the memory: 2 for each of R + 1 comparisons with a key, 2 R
      to read, 4 to write; the gradient makes this about 3.5 times as much.
    """
    reads, slots, word, hidden = size.reads, size.slots, size.word, size.hidden
    interface = reads * word + 3 * word + 5 * reads + 3
    weights = (size.inputs + reads * word + hidden) * 4 * hidden
    weights += hidden * interface + (hidden + reads * word) * size.outputs
    link = slots * slots * (4 + 4 * reads + 8 * reads + 10 + 4)
    memory = slots * word * (2 * (reads + 1) + 2 * reads + 4) * 3.5
    return size.time * size.batch * (6 * weights + link + memory)


def make_cell(size: Size, implementation: Implementation | None = None, **options: Any) -> DNC:
    """A DNC of this size and with these options, with the same weights at every call."""
    config = DNCConfig(
        memory_size=size.slots,
        word_size=size.word,
        num_read_heads=size.reads,
        hidden_size=size.hidden,
        **options,
    )
    return DNC(size.inputs, size.outputs, config, implementation=implementation, rngs=nnx.Rngs(0))


def make_inputs(size: Size) -> jax.Array:
    """Normal noise, [batch, time, inputs]."""
    return jax.random.normal(jax.random.key(1), (size.batch, size.time, size.inputs))


def make_gradient(cell: DNC) -> tuple[Callable[[Any, jax.Array], Any], Any]:
    """Returns a compiled function (params, inputs) -> (loss, gradient), and the params.

    The loss is the sum of the squared outputs.
    """
    graph, state = nnx.split(cell)

    def loss(params: Any, inputs: jax.Array) -> jax.Array:
        return jnp.sum(unroll(nnx.merge(graph, params), inputs)[0] ** 2)

    return jax.jit(jax.value_and_grad(loss)), nnx.to_pure_dict(state)
