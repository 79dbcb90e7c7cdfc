# pyright: strict, reportUnknownMemberType=false
# (That is for jnp.zeros and its like: JAX's own types leave one of their arguments open.)
"""A cell with custom parts, as a user writes it; test_types.py checks it with strict types."""

from typing import NamedTuple, assert_type

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

import dncx


class DecayingUse(nnx.Module):
    """A freeness: what was written to becomes free again after a while."""

    def __init__(self, memory_size: int):
        self.memory_size = memory_size

    def initial_state(self, dtype: DTypeLike) -> jax.Array:
        return jnp.zeros(self.memory_size, dtype)

    def __call__(
        self,
        usage: jax.Array,
        write_weights: jax.Array,
        free_gate: jax.Array,
        read_weights: jax.Array,
    ) -> jax.Array:
        return jnp.maximum(0.9 * usage, write_weights.max(axis=0))

    def write_allocation_weights(self, usage: jax.Array, write_gates: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jax.nn.softmax(-usage), (write_gates.size, usage.size))


class Nearest(nnx.Module):
    """A content addressing by distance, in which the controller weighs the numbers of a word."""

    mask_size = 4

    def __call__(
        self, memory: jax.Array, keys: jax.Array, strengths: jax.Array, masks: jax.Array
    ) -> jax.Array:
        distances = masks[:, None] * (memory[None] - keys[:, None]) ** 2
        return jax.nn.softmax(-strengths[:, None] * distances.sum(axis=-1))


class LastWritten(NamedTuple):
    write_weights: jax.Array


class LastWrittenLinkage:
    """A linkage with its own state, and no module: it leads back to what was written last."""

    def initial_state(self, dtype: DTypeLike) -> LastWritten:
        return LastWritten(jnp.zeros((1, 8), dtype))

    def __call__(
        self, state: LastWritten, write_weights: jax.Array, read_weights: jax.Array
    ) -> tuple[LastWritten, jax.Array, jax.Array]:
        shape = (read_weights.shape[0], *state.write_weights.shape)
        backward = jnp.broadcast_to(state.write_weights, shape)
        forward = jnp.broadcast_to(write_weights, shape)
        return LastWritten(write_weights), forward, backward


class Recent(nnx.Module):
    """A controller: a running mean of a projection of its inputs."""

    def __init__(self, input_size: int, hidden_size: int, *, rngs: nnx.Rngs):
        self.hidden_size = hidden_size
        self.linear = nnx.Linear(input_size, hidden_size, rngs=rngs)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: nnx.Rngs) -> jax.Array:
        return jnp.zeros((*input_shape[:-1], self.hidden_size))

    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = 0.5 * carry + 0.5 * jnp.tanh(self.linear(inputs))
        return carry, carry


class Blackboard(nnx.Module):
    """An access: it shows at a step what the controller gave it at the step before."""

    num_read_heads = 1
    word_size = 6

    def initial_state(self, dtype: DTypeLike) -> jax.Array:
        return jnp.zeros(6, dtype)

    def __call__(
        self, state: jax.Array, controller_output: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return controller_output, state[None]


def with_parts(rngs: nnx.Rngs) -> dncx.DNC:
    config = dncx.DNCConfig(memory_size=8, word_size=4, num_read_heads=2)
    access = config.make_access(
        6, content=Nearest(), freeness=DecayingUse(8), linkage=LastWrittenLinkage(), rngs=rngs
    )
    controller = Recent(3 + 2 * 4, 6, rngs=rngs)
    return dncx.DNC(3, 2, config, controller=controller, access=access, rngs=rngs)


def with_access(rngs: nnx.Rngs) -> dncx.DNC:
    return dncx.DNC(3, 2, controller=Recent(3 + 6, 6, rngs=rngs), access=Blackboard(), rngs=rngs)


def main() -> None:
    _, after = dncx.unroll(dncx.DNC(3, 2, rngs=nnx.Rngs(0)), jnp.ones((4, 5, 3)))
    assert_type(after.access_state.memory, jax.Array)
    inputs = jnp.ones((4, 5, 3))
    for cell in (with_parts(nnx.Rngs(0)), with_access(nnx.Rngs(0))):
        outputs, state = dncx.unroll(cell, inputs, lengths=jnp.array([5, 4, 3, 0]))
        again, state = dncx.unroll(cell, inputs, initial_state=state)
        assert outputs.shape == again.shape == (4, 5, 2)
        assert_type(state, dncx.DNCState)
        assert state.access_output.shape[0] == 4
        form = dncx.explain(cell)
        print(form.name, form.reason, sep=": ")
    assert_type(dncx.Stepper(with_access(nnx.Rngs(0))).state, dncx.DNCState)
    last, carry = dncx.unroll(Recent(3, 6, rngs=nnx.Rngs(0)), inputs)
    print(last.shape, carry.shape)


if __name__ == "__main__":
    main()
