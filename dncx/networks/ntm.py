"""The Neural Turing Machine, the DNC's predecessor, as a baseline.

A DNC with an `NTMAccess` is a Neural Turing Machine. The controller, the feedback of the words read
and the output layer are the same. Its heads address by content like those of the DNC, but have
neither allocation nor links. Instead, a head can move to a neighbouring slot.

    content -> interpolation with the previous weighting -> circular shift -> sharpening

The paper leaves some points open. Here the write heads come first, so that reads see M_t (its
equation 2). A head moves by at most one slot. Before the first step, all heads are at the first
slot, and the memory is 1e-6 everywhere, which learned best in Collier and Beel 2018,
arXiv:1807.08518.

Source: Graves, Wayne, Danihelka 2014, arXiv:1410.5401, section 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.addressing import COSINE_EPSILON, content_weights, erase_and_write
from dncx.checks import check_config, check_dtype, check_size, checked_arguments
from dncx.config import DNCConfig
from dncx.dnc import DNC
from dncx.glossary import Memory, Number, ReadWeights, ReadWords, WriteWeights
from dncx.initializers import fan_in_normal
from dncx.interface import StrengthActivation, strengths

SHIFTS = (-1, 0, 1)  # slots by which a head can move
FIRST_MEMORY = 1e-6
# Keeps the gradient of w^γ finite at slots of weight 0.
SHARPENING_EPSILON = 1e-8

Weights = Float[Array, "heads N"]


class NTMState(NamedTuple):
    """The state that the memory carries from step to step."""

    memory: Memory
    read_weights: ReadWeights
    write_weights: WriteWeights


export.register_namedtuple_serialization(NTMState, serialized_name="dncx.NTMState")


class Addressing(NamedTuple):
    """The addressing parameters of the read heads or of the write heads."""

    keys: Float[Array, "heads W"]
    strengths: Float[Array, " heads"]
    gates: Float[Array, " heads"]
    shifts: Float[Array, "heads 3"]
    sharpness: Float[Array, " heads"]


def interpolated(content: Weights, before: Weights, gates: Float[Array, " heads"]) -> Weights:
    """w^g = g w^c + (1 - g) w_{t-1} (equation 7)."""
    return gates[:, None] * content + (1 - gates[:, None]) * before


def shifted(weights: Weights, shifts: Float[Array, "heads 3"]) -> Weights:
    """w̃[i] = Σⱼ w^g[j] s[i - j], a circular convolution (equation 8)."""
    moved = [jnp.roll(weights, shift, axis=-1) for shift in SHIFTS]
    return jnp.einsum("hs,shn->hn", shifts, jnp.stack(moved))


def sharpened(weights: Weights, sharpness: Float[Array, " heads"]) -> Weights:
    """w[i] = w̃[i]^γ / Σⱼ w̃[j]^γ (equation 9)."""
    return jax.nn.softmax(sharpness[:, None] * jnp.log(weights + SHARPENING_EPSILON), axis=-1)


def addressed(memory: Memory, before: Weights, where: Addressing, epsilon: Number) -> Weights:
    """The weightings of heads: by content, or by location from the previous weighting."""
    content = content_weights(memory, where.keys, where.strengths, epsilon)
    stay_or_jump = interpolated(content, before, where.gates)
    return sharpened(shifted(stay_or_jump, where.shifts), where.sharpness)


class NTMAccess(nnx.Module):
    """Reads and writes the memory by the heads of a Neural Turing Machine, for one example.

    Args:
      input_size: H, features of the controller's output.
      memory_size: N.
      word_size: W.
      num_read_heads: R.
      num_write_heads: M; they write together: all erases, then all writes.
      cosine_epsilon, strength_activation, interface_bias: see `DNCConfig`.
      rngs: `rngs.params()` draws the weights of the interface.
      param_dtype: dtype of weights and state.
    """

    @checked_arguments()
    def __init__(
        self,
        input_size: int,
        *,
        memory_size: int = 128,
        word_size: int = 20,
        num_read_heads: int = 1,
        num_write_heads: int = 1,
        cosine_epsilon: Number = COSINE_EPSILON,
        strength_activation: StrengthActivation = "softplus",
        interface_bias: bool = True,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        check_dtype("param_dtype", param_dtype)
        self.memory_size = memory_size = check_size("memory_size", memory_size)
        self.word_size = word_size = check_size("word_size", word_size)
        self.num_read_heads = num_read_heads = check_size("num_read_heads", num_read_heads)
        self.num_write_heads = num_write_heads = check_size("num_write_heads", num_write_heads)
        self.cosine_epsilon = cosine_epsilon
        self.strength_activation: StrengthActivation = strength_activation
        heads = num_read_heads + num_write_heads
        self.interface_linear = nnx.Linear(
            check_size("input_size", input_size),
            heads * (word_size + len(SHIFTS) + 3) + 2 * num_write_heads * word_size,
            use_bias=interface_bias,
            kernel_init=fan_in_normal,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def initial_state(self, dtype: DTypeLike) -> NTMState:
        """All heads are at the first slot."""
        at_first = jnp.arange(self.memory_size) == 0
        return NTMState(
            memory=jnp.full((self.memory_size, self.word_size), FIRST_MEMORY, dtype),
            read_weights=jnp.tile(at_first, (self.num_read_heads, 1)).astype(dtype),
            write_weights=jnp.tile(at_first, (self.num_write_heads, 1)).astype(dtype),
        )

    def __call__(
        self, state: NTMState, controller_output: Float[Array, " H"]
    ) -> tuple[NTMState, ReadWords]:
        """One step: the new state and the words read."""
        raw = self.interface_linear(controller_output)
        heads, writes = self.num_read_heads + self.num_write_heads, self.num_write_heads
        to_address, to_write = jnp.split(raw, [raw.size - 2 * writes * self.word_size])
        where = self._addressing(to_address.reshape(heads, -1))
        reading, writing = (
            Addressing(*(part[side] for part in where))
            for side in (slice(writes, None), slice(writes))
        )
        erase, add = to_write.reshape(2, writes, self.word_size)

        write_weights = addressed(state.memory, state.write_weights, writing, self.cosine_epsilon)
        memory = erase_and_write(state.memory, write_weights, jax.nn.sigmoid(erase), add)
        read_weights = addressed(memory, state.read_weights, reading, self.cosine_epsilon)
        return NTMState(memory, read_weights, write_weights), read_weights @ memory

    def _addressing(self, raw: Float[Array, "heads numbers"]) -> Addressing:
        """A row per head, split into its parts, each mapped to its range."""
        ends = [self.word_size + number for number in range(4)]
        keys, betas, gates, gammas, shifts = jnp.split(raw, ends, axis=-1)
        return Addressing(
            keys=keys,
            strengths=strengths(betas[:, 0], self.strength_activation),
            gates=jax.nn.sigmoid(gates[:, 0]),
            shifts=jax.nn.softmax(shifts, axis=-1),
            sharpness=strengths(gammas[:, 0], "oneplus"),
        )


def neural_turing_machine(
    input_size: int,
    output_size: int,
    config: DNCConfig,
    *,
    rngs: nnx.Rngs,
    param_dtype: DTypeLike = jnp.float32,
) -> DNC:
    """A DNC with an `NTMAccess`; config fields for allocation, links and modes are not used.

    Example:
      >>> cell = neural_turing_machine(10, 8, DNCConfig(num_read_heads=1), rngs=nnx.Rngs(0))
      >>> state, outputs = cell(cell.initialize_carry((16, 10)), jnp.ones((16, 10)))
      >>> outputs.shape
      (16, 8)
    """
    check_config(config, DNCConfig)
    access = NTMAccess(
        config.controller_output_size,
        memory_size=config.memory_size,
        word_size=config.word_size,
        num_read_heads=config.num_read_heads,
        num_write_heads=config.num_write_heads,
        cosine_epsilon=config.cosine_epsilon,
        strength_activation=config.strength_activation,
        interface_bias=config.interface_bias,
        rngs=rngs,
        param_dtype=param_dtype,
    )
    return DNC(input_size, output_size, config, access=access, rngs=rngs, param_dtype=param_dtype)
