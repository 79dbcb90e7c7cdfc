"""The standard sizes, and the calls that are timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.kernels.choice import Implementation


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
