"""A baseline without a memory: the gated recurrent unit."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dncx.checks import as_array, as_state, check_config, check_features, check_size
from dncx.config import DNCConfig
from dncx.initializers import RngSource, fan_in_normal


class GRUNetwork(nnx.RNNCellBase):
    """A layer of flax's gated recurrent units, and an output layer.

    Args:
      input_size: features of x_t.
      output_size: features of y_t.
      config: the size of the layer (`hidden_size`); its other fields are not used.
      rngs: `rngs.params()` draws the weights.

    Raises:
      ValueError: if a size is below 1, or the config asks for several layers.

    Source: Cho et al. 2014, arXiv:1406.1078.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: DNCConfig | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        config = DNCConfig() if config is None else config
        check_config(config, DNCConfig)
        if config.num_layers != 1:
            raise ValueError(f"num_layers={config.num_layers}: a GRU has one layer")
        self.input_size = check_size("input_size", input_size)
        self.output_size = check_size("output_size", output_size)
        self.cell = nnx.GRUCell(input_size, config.hidden_size, rngs=rngs)
        self.output_linear = nnx.Linear(
            config.hidden_size, output_size, kernel_init=fan_in_normal, rngs=rngs
        )

    @property
    def num_feature_axes(self) -> int:
        return 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> Float[Array, "*batch H"]:
        """Zeros; the batch shape is `input_shape[:-1]`."""
        check_features(self, input_shape)
        return jnp.zeros(
            (*input_shape[:-1], self.cell.hidden_features), self.output_linear.kernel.dtype
        )

    @property
    def controller_output_size(self) -> int:
        """H."""
        return self.cell.hidden_features

    def __call__(
        self,
        carry: Float[Array, "*batch H"],
        inputs: ArrayLike,
        hidden_factors: Float[Array, "*batch H"] | None = None,
    ) -> tuple[Any, Float[Array, "*batch O"]]:
        """One step: the new state and y_t; `hidden_factors` as in `dncx.unroll`."""
        inputs = as_array("inputs", inputs)
        like = jax.eval_shape(lambda: self.initialize_carry(inputs.shape))
        carry, hidden = self.cell(as_state("state", carry, like, cast=False), inputs)
        if hidden_factors is not None:
            hidden *= hidden_factors
        return carry, self.output_linear(hidden)
