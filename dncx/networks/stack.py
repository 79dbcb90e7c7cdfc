"""The stack-RNN, a baseline: a vanilla RNN with a differentiable stack.

The RNN pushes a vector, pops one, or does nothing, each to a degree: the actions are a softmax, and
the new stack is the mean of the three results. It sees the top of the stack at the next step.

    a_t = softmax(W_a h_t + b_a)                     push, pop, no-op
    v_t = W_v h_t + b_v
    S_t[0] = a^push v_t          + a^pop S_{t-1}[1]     + a^no-op S_{t-1}[0]
    S_t[i] = a^push S_{t-1}[i-1] + a^pop S_{t-1}[i+1]   + a^no-op S_{t-1}[i]

A push onto a full stack loses the lowest cell; a pop brings zeros up from below.

This is the variant of Delétang et al.: one stack of vectors, an empty cell is 0. Joulin and Mikolov
push the sigmoid of v_t, fill empty cells with -1, and have several stacks of single numbers.

Source: Joulin and Mikolov 2015, arXiv:1503.01007, section 3.2; Delétang et al. 2023,
arXiv:2207.02098, and its code (models/stack_rnn.py).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.checks import check_size
from dncx.config import DNCConfig
from dncx.glossary import Memory
from dncx.initializers import fan_in_normal
from dncx.networks.memory_rnn import MemoryRNN

ACTIONS = ("push", "pop", "no-op")


def acted(stack: Memory, actions: Float[Array, "3"], value: Float[Array, " W"]) -> Memory:
    """S_t, the mean of the stack after each of the three actions, weighted by `actions`."""
    pushed = jnp.concatenate([value[None], stack[:-1]])
    popped = jnp.concatenate([stack[1:], jnp.zeros_like(stack[:1])])
    return actions[0] * pushed + actions[1] * popped + actions[2] * stack


class Stack(nnx.Module):
    """A stack for one example; its state is S, [N, W], with the top first.

    Args:
      input_size: H, features of the hidden state.
      memory_size: N, cells of the stack.
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
        self.interface_linear = nnx.Linear(
            check_size("input_size", input_size),
            len(ACTIONS) + word_size,
            kernel_init=fan_in_normal,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def initial_state(self, dtype: DTypeLike) -> Memory:
        """An empty stack."""
        return jnp.zeros((self.memory_size, self.word_size), dtype)

    def read(self, state: Memory) -> Float[Array, " W"]:
        """The top."""
        return state[0]

    def __call__(self, state: Memory, hidden: Float[Array, " H"]) -> Memory:
        """One step: S_t."""
        actions, value = jnp.split(self.interface_linear(hidden), [len(ACTIONS)])
        return acted(state, jax.nn.softmax(actions), value)


def stack_rnn(
    input_size: int,
    output_size: int,
    config: DNCConfig,
    *,
    rngs: nnx.Rngs,
    param_dtype: DTypeLike = jnp.float32,
) -> MemoryRNN:
    """A `MemoryRNN` with a `Stack`; of the config it uses hidden_size, memory_size and word_size.

    Example:
      >>> cell = stack_rnn(10, 8, DNCConfig(memory_size=30, word_size=8), rngs=nnx.Rngs(0))
      >>> state, outputs = cell(cell.initialize_carry((16, 10)), jnp.ones((16, 10)))
      >>> outputs.shape
      (16, 8)
    """
    return MemoryRNN(
        input_size, output_size, config, memory=Stack, rngs=rngs, param_dtype=param_dtype
    )
