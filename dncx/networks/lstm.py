"""A baseline without a memory: the deep LSTM."""

from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from dncx.checks import (
    as_array,
    as_state,
    check_config,
    check_dtype,
    check_features,
    check_size,
    checked_arguments,
)
from dncx.config import DNCConfig
from dncx.controllers import DeepLSTM, LSTMState
from dncx.initializers import RngSource, fan_in_normal


class LSTMNetwork(nnx.RNNCellBase):
    """The paper's baseline: the deep LSTM of its controller and an output layer, without a memory.

    It is a recurrent cell like the DNC, for `dncx.unroll`.

    Args:
      input_size: features of x_t.
      output_size: features of y_t.
      config: layers, their size and equations; its fields for the memory are not used.
      rngs: `rngs.params()` draws the weights.
      param_dtype: dtype of weights, state and outputs.

    Raises:
      ValueError: if a size is below 1, or a dtype is not supported.

    Source: Methods, "Controller network"; Extended Data Table 2 has the sizes.
    """

    @checked_arguments(DNCConfig)
    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: DNCConfig | None = None,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = "float32",
    ):
        input_size = check_size("input_size", input_size)
        output_size = check_size("output_size", output_size)
        check_dtype("param_dtype", param_dtype)
        config = DNCConfig() if config is None else config
        check_config(config, DNCConfig)
        dtypes: dict[str, Any] = dict(rngs=rngs, param_dtype=param_dtype)
        self.input_size = input_size
        self.output_size = output_size
        self.controller = DeepLSTM(
            input_size,
            config.hidden_size,
            config.num_layers,
            forget_bias=config.forget_bias,
            gradient_clip=config.controller_gradient_clip,
            norm=config.controller_norm,
            dtype=config.controller_dtype,
            **dtypes,
        )
        self.output_linear = nnx.Linear(
            config.num_layers * config.hidden_size,
            output_size,
            use_bias=config.output_bias,
            kernel_init=fan_in_normal,
            **dtypes,
        )

    @property
    def num_feature_axes(self) -> int:
        return 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> tuple[LSTMState, ...]:
        """Zeros; the batch shape is `input_shape[:-1]`."""
        check_features(self, input_shape)
        return self.controller.initialize_carry(input_shape)

    @property
    def controller_output_size(self) -> int:
        """H, features of the outputs of all layers together."""
        return self.output_linear.in_features

    def __call__(
        self,
        carry: tuple[LSTMState, ...],
        inputs: ArrayLike,
        hidden_factors: Float[Array, "*batch H"] | None = None,
    ) -> tuple[tuple[LSTMState, ...], Float[Array, "*batch O"]]:
        """One step: the new state and y_t.

        Args:
          carry: the state that the step before left.
          inputs: x_t, [*batch, F].
          hidden_factors: see `dncx.unroll`.

        Raises:
          ValueError: if inputs or state are of another size than the cell, or of two batches.
          TypeError: if they are in the wrong order or of the wrong kind.
        """
        if isinstance(inputs, tuple):
            raise TypeError("the state comes first: cell(state, inputs)")
        inputs = as_array("inputs", inputs)
        like = jax.eval_shape(lambda: self.initialize_carry(inputs.shape))
        carry = as_state("state", carry, like, cast=False)
        carry, hidden = self.controller(carry, inputs)
        if hidden_factors is not None:
            hidden *= hidden_factors
        return carry, self.output_linear(hidden)
