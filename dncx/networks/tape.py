"""The tape-RNN, a baseline: a vanilla RNN with a differentiable tape.

The head is at cell 0 of a circular tape. The RNN overwrites this cell at every step. Then the tape
stays, moves by one cell, or jumps, each to a degree: the actions are a softmax, and the new tape is
the mean of the five results. The RNN sees the cell under the head at the next step.

    a_t = softmax(W_a h_t + b_a)                     stay, left, right, jump left, jump right
    v_t = MLP(h_t)                                   two layers of 64 with relu, and a linear one
    M̃[0] = v_t,  M̃[i] = M_{t-1}[i] for i > 0
    M_t[i] = a^stay M̃[i] + a^left M̃[i+1] + a^right M̃[i-1] + a^jl M̃[i+n] + a^jr M̃[i-n]

The indices are modulo the length of the tape.

Delétang et al. give the cell the length of the input, and n is this length at every step. A
recurrent cell does not know how long its input will be. Here n is the number of steps before this
one, t - 1. Both are the same at the first step after the input, where a jump returns to the cell
that was under the head at the beginning if the tape moved by one cell at each step. Jumps at other
steps differ.

Source: Delétang et al. 2023, "Neural Networks and the Chomsky Hierarchy", arXiv:2207.02098, and its
code (models/tape_rnn.py, TapeInputLengthJumpCore); after the Baby-NTM of Suzgun et al. 2019,
arXiv:1911.03329.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from dncx.checks import check_size
from dncx.config import DNCConfig
from dncx.glossary import Memory
from dncx.initializers import fan_in_normal
from dncx.networks.memory_rnn import MemoryRNN

ACTIONS = ("stay", "left", "right", "jump left", "jump right")
MLP_SIZE = 64


class TapeState(NamedTuple):
    """The state that the tape carries from step to step."""

    tape: Memory  # the head is at the first cell
    steps: Int[Array, ""]  # n, the steps so far


export.register_namedtuple_serialization(TapeState, serialized_name="dncx.TapeState")


def acted(
    tape: Memory,
    actions: Float[Array, "5"],
    value: Float[Array, " W"],
    jump: Int[Array, ""],
) -> Memory:
    """M_t, the mean of the tape after each of the five actions, weighted by `actions`."""
    written = tape.at[0].set(value)
    moved = [jnp.roll(written, shift, axis=0) for shift in (0, -1, 1, -jump, jump)]
    return jnp.einsum("a,anw->nw", actions, jnp.stack(moved))


class Tape(nnx.Module):
    """A tape for one example.

    Args:
      input_size: H, features of the hidden state.
      memory_size: N, cells of the tape.
      word_size: W, numbers in a cell.
      rngs: `rngs.params()` draws the weights.
      param_dtype: dtype of weights and state.
    """

    def __init__(
        self,
        input_size: int,
        *,
        memory_size: int,
        word_size: int,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        self.memory_size = check_size("memory_size", memory_size)
        self.word_size = check_size("word_size", word_size)
        sizes = [check_size("input_size", input_size), MLP_SIZE, MLP_SIZE, word_size]

        def linear(features: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(
                features, outputs, kernel_init=fan_in_normal, param_dtype=param_dtype, rngs=rngs
            )

        self.value_layers = nnx.List([linear(*pair) for pair in itertools.pairwise(sizes)])
        self.action_linear = linear(input_size, len(ACTIONS))

    def initial_state(self, dtype: DTypeLike) -> TapeState:
        """An empty tape."""
        return TapeState(
            tape=jnp.zeros((self.memory_size, self.word_size), dtype),
            steps=jnp.zeros((), jnp.int32),
        )

    def read(self, state: TapeState) -> Float[Array, " W"]:
        """The cell under the head."""
        return state.tape[0]

    def __call__(self, state: TapeState, hidden: Float[Array, " H"]) -> TapeState:
        """One step: M_t."""
        actions = jax.nn.softmax(self.action_linear(hidden))
        tape = acted(state.tape, actions, self._value(hidden), state.steps)
        return TapeState(tape, state.steps + 1)

    def _value(self, hidden: Float[Array, " H"]) -> Float[Array, " W"]:
        *inner, last = self.value_layers
        for layer in inner:
            hidden = jax.nn.relu(layer(hidden))
        return last(hidden)


def tape_rnn(
    input_size: int,
    output_size: int,
    config: DNCConfig,
    *,
    rngs: nnx.Rngs,
    param_dtype: DTypeLike = jnp.float32,
) -> MemoryRNN:
    """A `MemoryRNN` with a `Tape`; of the config it uses hidden_size, memory_size and word_size.

    Example:
      >>> cell = tape_rnn(10, 8, DNCConfig(memory_size=40, word_size=8), rngs=nnx.Rngs(0))
      >>> state, outputs = cell(cell.initialize_carry((16, 10)), jnp.ones((16, 10)))
      >>> outputs.shape
      (16, 8)
    """
    return MemoryRNN(
        input_size, output_size, config, memory=Tape, rngs=rngs, param_dtype=param_dtype
    )
