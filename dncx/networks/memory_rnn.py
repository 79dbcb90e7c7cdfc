"""A vanilla RNN that reads the first cell of a memory: what the stack-RNN and the tape-RNN share.

    h_t = relu(W_x [x_t; M_{t-1}[0]] + W_h h_{t-1} + b)
    M_t = the memory after its actions, which depend on h_t
    y_t = W_y h_t + b_y

Source: Delétang et al. 2023, "Neural Networks and the Chomsky Hierarchy", arXiv:2207.02098, and its
code, https://github.com/google-deepmind/neural_networks_chomsky_hierarchy (models/rnn.py).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from dncx.checks import (
    as_array,
    as_state,
    check_config,
    check_dtype,
    check_features,
    check_size,
)
from dncx.config import DNCConfig
from dncx.initializers import RngSource, fan_in_normal


@runtime_checkable
class MemoryPart(Protocol):
    """A memory of a `MemoryRNN`; written for one example, the cell adds the batch."""

    @property
    def word_size(self) -> int:
        """W, numbers in a cell of the memory."""
        ...

    def initial_state(self, dtype: DTypeLike, /) -> Any:
        """The state before the first step: arrays."""
        ...

    def read(self, state: Any, /) -> Float[Array, " W"]:
        """The first cell."""
        ...

    def __call__(self, state: Any, hidden: Float[Array, " H"], /) -> Any:
        """One step: the state after the actions that h_t asks for."""
        ...


class MemoryRNNState(NamedTuple):
    """The state that the cell carries from step to step; every array starts with the batch axes."""

    hidden: Float[Array, "*batch H"]
    memory: Any  # the state of the memory


export.register_namedtuple_serialization(MemoryRNNState, serialized_name="dncx.MemoryRNNState")


class MemoryRNN(nnx.RNNCellBase):
    """A vanilla RNN with a memory, and an output layer; a recurrent cell for `dncx.unroll`.

    Args:
      input_size: features of x_t.
      output_size: features of y_t.
      config: hidden_size, memory_size and word_size; its other fields are not used.
      memory: makes the memory, as `Stack` does.
      rngs: `rngs.params()` draws the weights.
      param_dtype: dtype of weights, state and outputs.

    Raises:
      ValueError: if a size is below 1, a dtype is not supported, or the config asks for several
        layers.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: DNCConfig,
        *,
        memory: Callable[..., MemoryPart],
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        check_config(config, DNCConfig)
        check_dtype("param_dtype", param_dtype)
        if config.num_layers != 1:
            raise ValueError(f"num_layers={config.num_layers}: this RNN has one layer")
        self.input_size = check_size("input_size", input_size)
        self.output_size = check_size("output_size", output_size)
        self.memory: Any = memory(
            config.hidden_size,
            memory_size=config.memory_size,
            word_size=config.word_size,
            rngs=rngs,
            param_dtype=param_dtype,
        )
        self.controller = nnx.SimpleCell(
            input_size + self.memory.word_size,
            config.hidden_size,
            activation_fn=jax.nn.relu,
            kernel_init=fan_in_normal,
            recurrent_kernel_init=fan_in_normal,
            dtype=param_dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.output_linear = nnx.Linear(
            config.hidden_size,
            output_size,
            kernel_init=fan_in_normal,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    @property
    def num_feature_axes(self) -> int:
        return 1

    @property
    def controller_output_size(self) -> int:
        """H."""
        return self.controller.hidden_features

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> MemoryRNNState:
        """Zeros, including the memory; the batch shape is `input_shape[:-1]`."""
        check_features(self, input_shape)
        batch, dtype = tuple(input_shape[:-1]), self.output_linear.kernel.dtype
        memory = self.memory.initial_state(dtype)
        return MemoryRNNState(
            hidden=jnp.zeros((*batch, self.controller_output_size), dtype),
            memory=jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, *x.shape)), memory),
        )

    def __call__(
        self,
        carry: MemoryRNNState,
        inputs: ArrayLike,
        hidden_factors: Float[Array, "*batch H"] | None = None,
    ) -> tuple[MemoryRNNState, Float[Array, "*batch O"]]:
        """One step: the new state and y_t; `hidden_factors` as in `dncx.unroll`.

        Raises:
          ValueError: if inputs or state are of another size than the cell, or of two batches.
          TypeError: if they are in the wrong order or of the wrong kind.
        """
        if isinstance(inputs, tuple):
            raise TypeError("the state comes first: cell(state, inputs)")
        inputs = as_array("inputs", inputs)
        like = jax.eval_shape(lambda: self.initialize_carry(inputs.shape))
        carry = as_state("state", carry, like, cast=False)
        step = self._step
        for _ in inputs.shape[:-1]:
            step = jax.vmap(step)
        carry = step(carry, inputs.astype(carry.hidden.dtype))
        hidden = carry.hidden if hidden_factors is None else carry.hidden * hidden_factors
        return carry, self.output_linear(hidden)

    def _step(self, state: MemoryRNNState, inputs: Float[Array, " F"]) -> MemoryRNNState:
        """The new state of one example."""
        seen = jnp.concatenate([inputs, self.memory.read(state.memory)])
        hidden, _ = self.controller(state.hidden, seen)
        return MemoryRNNState(hidden, self.memory(state.memory, hidden))
