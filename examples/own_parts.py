"""A custom linkage, content addressing and controller in a DNC, without changing the library.

python examples/own_parts.py
"""

import jax
import jax.numpy as jnp
from flax import nnx

import dncx


class FadingLinkage(dncx.TemporalLinkage):
    """Links that fade: L is multiplied by a learned rate in (0, 1) at every step.

    `dncx.LinkageLike` defines the methods of a linkage, written for one example:
    `initial_state(dtype)` returns a tree of arrays, and
    `__call__(state, write_weights [M, N], read_weights [R, N])` returns the new state and the
    forward and backward weights, [R, M, N] each. This class keeps the library's state and changes
    one thing.
    """

    def __init__(self, memory_size: int, *, rngs: nnx.Rngs):
        super().__init__(memory_size)
        self.rate = nnx.Param(3 + jax.random.normal(rngs.params()))

    def __call__(self, state, write_weights, read_weights):
        state, forward, backward = super().__call__(state, write_weights, read_weights)
        rate = jax.nn.sigmoid(self.rate[...])
        return state._replace(link=rate * state.link), rate * forward, rate * backward


class DotProductContent(nnx.Module):
    """Content addressing by dot products instead of cosines, with a scale for each head.

    `dncx.ContentLike` defines its method and `mask_size`: the number of values that the controller
    emits for each head in addition to key and strength. Here it emits one, which scales the key.
    """

    mask_size = 1

    def __call__(self, memory, keys, strengths, masks):
        return jax.nn.softmax(strengths[:, None] * (masks * keys @ memory.T))


class ResidualController(nnx.RNNCellBase):
    """A controller is any flax recurrent cell: here a GRU with a skip connection."""

    def __init__(self, input_size: int, hidden_size: int, *, rngs: nnx.Rngs):
        self.gru = nnx.GRUCell(input_size, hidden_size, rngs=rngs)
        self.around = nnx.Linear(input_size, hidden_size, rngs=rngs)

    @property
    def num_feature_axes(self):
        return 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return self.gru.initialize_carry(input_shape, rngs)

    def __call__(self, carry, inputs):
        carry, outputs = self.gru(carry, inputs)
        return carry, outputs + self.around(inputs)


def main() -> None:
    rngs = nnx.Rngs(0)
    input_size, output_size, hidden_size = 6, 5, 32
    config = dncx.DNCConfig(memory_size=16, word_size=8, num_read_heads=2)
    controller = ResidualController(input_size + 2 * 8, hidden_size, rngs=rngs)
    access = config.make_access(
        hidden_size, content=DotProductContent(), linkage=FadingLinkage(16, rngs=rngs), rngs=rngs
    )
    cell = dncx.DNC(
        input_size, output_size, config, controller=controller, access=access, rngs=rngs
    )
    outputs, state = jax.jit(dncx.unroll)(cell, jnp.ones((4, 10, input_size)))
    print("outputs", outputs.shape, "memory", state.access_state.memory.shape)
    print("computed by:", dncx.explain(cell))


if __name__ == "__main__":
    main()
