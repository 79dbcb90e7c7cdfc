"""A custom linkage, content addressing and controller in a DNC, without changing the library.

python examples/own_parts.py
dncx train copy --network=examples/own_parts.py:make_network --num_training_iterations=2000
dncx eval runs/copy --network=examples/own_parts.py:make_network
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


def make_network(
    input_size: int, output_size: int, config: dncx.DNCConfig, *, rngs: nnx.Rngs
) -> dncx.DNC:
    """A DNC of any size with these parts; it takes the arguments of `dncx.DNC`."""
    reads = config.num_read_heads * config.word_size
    controller = ResidualController(input_size + reads, config.hidden_size, rngs=rngs)
    access = config.make_access(
        config.hidden_size,
        content=DotProductContent(),
        linkage=FadingLinkage(config.memory_size, rngs=rngs),
        rngs=rngs,
    )
    return dncx.DNC(
        input_size, output_size, config, controller=controller, access=access, rngs=rngs
    )


def main() -> None:
    config = dncx.DNCConfig(memory_size=16, word_size=8, num_read_heads=2, hidden_size=32)
    cell = make_network(6, 5, config, rngs=nnx.Rngs(0))
    outputs, state = jax.jit(dncx.unroll)(cell, jnp.ones((4, 10, 6)))
    print("outputs", outputs.shape, "memory", state.access_state.memory.shape)
    print("computed by:", dncx.explain(cell))


if __name__ == "__main__":
    main()
