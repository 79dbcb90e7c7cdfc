"""A network that also reads its sequences backwards: the wrapper of the BiADNC."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.checks import check_features
from dncx.config import DNCConfig
from dncx.controllers import LSTM
from dncx.initializers import RngSource
from dncx.sequence import unroll


class Bidirectional(nnx.Module):
    """A cell whose inputs are x_t and the output of an LSTM that has read the steps T, ..., t.

    The LSTM starts with a zero state at the last step whose input is not all zeros, so padding
    changes nothing. The network needs complete sequences: it cannot compute a single step, because
    the inputs that follow a step also influence it.

    Args:
      input_size: features of x_t.
      cell: a recurrent cell for `input_size + config.hidden_size` features.
      config: gives the LSTM its `hidden_size`, `forget_bias`, `controller_gradient_clip`,
        `controller_norm` and `controller_dtype`. It always has one layer.
      rngs: `rngs.params()` draws its weights.
      param_dtype: dtype of its weights.

    Raises:
      ValueError: if the cell takes another number of features.

    Source: Franke, Niehues, Waibel 2018, arXiv:1807.02658, "Bidirectional DNC".
    """

    def __init__(
        self,
        input_size: int,
        cell: Any,
        config: DNCConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        if cell.input_size != input_size + config.hidden_size:
            raise ValueError(
                f"the cell takes {cell.input_size} features; it must take input_size + hidden_size "
                f"= {input_size} + {config.hidden_size}"
            )
        self.input_size = input_size
        self.backward = LSTM(
            input_size,
            config.hidden_size,
            forget_bias=config.forget_bias,
            gradient_clip=config.controller_gradient_clip,
            norm=config.controller_norm,
            dtype=config.controller_dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.cell = cell

    step_by_step = False  # `dncx.unroll` cannot reset it within a sequence

    def inputs_of_cell(self, inputs: Float[Array, "*batch T F"]) -> Float[Array, "*batch T C"]:
        """[x_t; h←_t] for every step."""
        check_features(self, inputs.shape)
        with_input = jnp.any(inputs != 0, axis=-1)[..., ::-1]
        begun = jnp.cumsum(with_input.astype(jnp.int32), axis=-1) > 0
        first = jnp.concatenate([jnp.ones_like(begun[..., :1]), ~begun[..., :-1]], axis=-1)
        outputs, _ = unroll(self.backward, inputs[..., ::-1, :], resets=first)
        outputs = jnp.where(begun[..., None], outputs, 0)
        return jnp.concatenate([inputs, outputs[..., ::-1, :]], axis=-1)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> Any:
        """The initial state of the cell; the batch shape is `input_shape[:-1]`."""
        return self.cell.initialize_carry((*input_shape[:-1], self.cell.input_size), rngs)

    def __call__(self, carry: Any, inputs: Any) -> Any:
        """Refuses a single step.

        Raises:
          TypeError: always.
        """
        raise TypeError(
            "a bidirectional network cannot compute single steps: it also reads each sequence "
            "backwards, so it needs the complete sequence"
        )
