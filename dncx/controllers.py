"""Controllers: the networks that control the memory at each step.

Any flax recurrent cell can be a controller, for example `nnx.LSTMCell` or `nnx.GRUCell`; see
`dncx.ControllerLike`. `dncx.DNC` calls it on one example at a time (under `jax.vmap`). Its inputs
are x_t and the words read at the previous step, which are `input_size + R * W` features.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.checks import InitSignature, check_dtype, check_size, checked_arguments
from dncx.glossary import Number
from dncx.initializers import RngSource, fan_in_normal
from dncx.kernels.choice import known_to_kernels
from dncx.kernels.derivatives import backward_only
from dncx.normalization import LayerNorm


class LSTMState(NamedTuple):
    """The state that an LSTM layer carries from step to step."""

    hidden: Float[Array, "*batch H"]
    cell: Float[Array, "*batch H"]


def clip_gradient(x: Array, limit: Number | None) -> Array:
    """Returns x unchanged; clips its gradient to ±limit, if there is a limit.

    A limit has no forward-mode derivative (`jax.jvp`).
    """
    return x if limit is None else backward_only(x, limit)


@dataclasses.dataclass(frozen=True)
class RoundedDotGeneral:
    """`jax.lax.dot_general` of operands that are first rounded to a dtype.

    The product has the dtype of x. XLA sums in float32, and may round the sum to the dtype, too:
    on a CPU, this happens only in gradients, which are also such products.
    """

    dtype: str

    def __call__(self, x: Array, kernel: Array, dimensions: Any, **options: Any) -> Array:
        """The same as `jax.lax.dot_general`."""
        low = x.astype(self.dtype), kernel.astype(self.dtype)
        return jax.lax.dot_general(*low, dimensions, **options).astype(x.dtype)


def dot_general_in(dtype: DTypeLike | None, param_dtype: DTypeLike) -> Callable[..., Array]:
    """A `dot_general` for `nnx.Linear` that rounds its operands; the bias is not rounded.

    Args:
      dtype: to round to; None: no rounding.
      param_dtype: dtype of the variables.
    """
    if dtype is None or jnp.dtype(dtype) == jnp.dtype(param_dtype):
        return jax.lax.dot_general
    check_dtype("dtype", dtype)
    return RoundedDotGeneral(jnp.dtype(dtype).name)


class _Controller(nnx.RNNCellBase):
    @property
    def num_feature_axes(self) -> int:
        return 1


@known_to_kernels("norms of a layer")
class LSTMNorms(nnx.Module):
    """The layer norms of an LSTM layer: one per gate, which adds the gate's bias, and one for c."""

    def __init__(self, hidden_size: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        options: dict[str, Any] = dict(rngs=rngs, param_dtype=param_dtype)
        self.gates = nnx.List(LayerNorm(hidden_size, **options) for _ in range(4))
        self.cell = LayerNorm(hidden_size, **options)

    def of_gates(self, *gates: Float[Array, "*batch H"]) -> list[Float[Array, "*batch H"]]:
        """LN(g) + b of each gate."""
        return [norm(gate) for norm, gate in zip(self.gates, gates, strict=True)]


@known_to_kernels("controller")
class LSTM(_Controller):
    """c' = σ(f + b_f) c + σ(i) tanh(j), h' = σ(o) tanh(c'), with (i,j,f,o) = [x, h] W + b.

    Args:
      input_size: features of x.
      hidden_size: H.
      forget_bias: added to f before its sigmoid: 1 in the original, 0 in the paper.
      gradient_clip: limit of the gradient that reaches h; 10 in the paper, None in the original.
      norm: layer norm as in the ADNC: each of i, j, f, o is LN([x, h] W) + b, and
        h' = σ(o) tanh(LN(c')). Each LN has a trainable scale, and LN(c') a bias, too. All biases
        start at 0.
      rngs: `rngs.params()` draws W and b, both with σ = 1/√(rows of W) as the original does.
      dtype: dtype of the product [x, h] W, for example "bfloat16"; None: param_dtype. See
        `dot_general_in`.
      param_dtype: dtype of weights and state.

    Source: Sonnet 1's LSTM without peepholes; Methods, "Controller network". The norm: Franke,
    Niehues, Waibel 2018, arXiv:1807.02658.
    """

    __signature__ = InitSignature()

    @checked_arguments()
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: Number = 1.0,
        gradient_clip: Number | None = None,
        norm: bool = False,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ):
        check_dtype("param_dtype", param_dtype)
        input_size = check_size("input_size", input_size)
        self.hidden_size = hidden_size = check_size("hidden_size", hidden_size)
        self.forget_bias = forget_bias
        self.gradient_clip = gradient_clip
        rows = input_size + hidden_size
        self.gates = nnx.Linear(
            rows,
            4 * hidden_size,
            use_bias=not norm,
            kernel_init=fan_in_normal,
            bias_init=jax.nn.initializers.truncated_normal(rows**-0.5),
            dot_general=dot_general_in(dtype, param_dtype),
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.norms = LSTMNorms(hidden_size, rngs=rngs, param_dtype=param_dtype) if norm else None

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> LSTMState:
        """Zeros; the batch shape is `input_shape[:-1]`."""
        shape, dtype = (*input_shape[:-1], self.hidden_size), self.gates.kernel.dtype
        return LSTMState(hidden=jnp.zeros(shape, dtype), cell=jnp.zeros(shape, dtype))

    def __call__(
        self, carry: LSTMState, inputs: Float[Array, "*batch F"]
    ) -> tuple[LSTMState, Float[Array, "*batch H"]]:
        """One step: the new state, and its hidden part as output."""
        gates = self.gates(jnp.concatenate([inputs, carry.hidden], axis=-1))
        i, j, f, o = jnp.split(gates, 4, axis=-1)
        if self.norms is not None:
            i, j, f, o = self.norms.of_gates(i, j, f, o)
        cell = jax.nn.sigmoid(f + self.forget_bias) * carry.cell + jax.nn.sigmoid(i) * jnp.tanh(j)
        shown = cell if self.norms is None else self.norms.cell(cell)
        hidden = clip_gradient(jax.nn.sigmoid(o) * jnp.tanh(shown), self.gradient_clip)
        return LSTMState(hidden, cell), hidden


@known_to_kernels("controller")
class DeepLSTM(_Controller):
    """The paper's deep LSTM: χ_t enters every layer, and every layer's h goes to the output.

    Layer l sees [χ_t; h^{l-1}_t; h^l_{t-1}]; the output is [h^1; ...; h^L].

    Args:
      input_size: features of χ.
      hidden_size: H of each layer; the output has `num_layers * hidden_size` features.
      num_layers: L.
      forget_bias, gradient_clip, norm, rngs, dtype, param_dtype: see `LSTM`.

    Source: Methods, "Controller network".
    """

    __signature__ = InitSignature()

    @checked_arguments()
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        forget_bias: Number = 0.0,
        gradient_clip: Number | None = None,
        norm: bool = False,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ):
        num_layers = check_size("num_layers", num_layers)
        self.layers = nnx.List(
            LSTM(
                input_size + (hidden_size if layer else 0),
                hidden_size,
                forget_bias=forget_bias,
                gradient_clip=gradient_clip,
                norm=norm,
                rngs=rngs,
                dtype=dtype,
                param_dtype=param_dtype,
            )
            for layer in range(num_layers)
        )

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> tuple[LSTMState, ...]:
        """Zeros, one state per layer."""
        return tuple(layer.initialize_carry(input_shape) for layer in self.layers)

    def __call__(
        self, carry: tuple[LSTMState, ...], inputs: Float[Array, "*batch F"]
    ) -> tuple[tuple[LSTMState, ...], Float[Array, "*batch LH"]]:
        """One step through all layers."""
        states, outputs = [], []
        for layer, state in zip(self.layers, carry, strict=True):
            below = [inputs, outputs[-1]] if outputs else [inputs]
            state, output = layer(state, jnp.concatenate(below, axis=-1))
            states.append(state)
            outputs.append(output)
        return tuple(states), jnp.concatenate(outputs, axis=-1)


class FeedForward(_Controller):
    """A controller without a state: tanh layers, one after the other.

    With it, the memory is the only state of a DNC. Extended Data Figs 1 and 4 of the paper use such
    a controller, but do not state its layers and activation.

    Args:
      input_size: features of χ.
      hidden_size: features of each layer and of the output.
      num_layers: number of layers.
      gradient_clip: limit of the gradient that reaches each layer's output; None: no limit.
      rngs, dtype, param_dtype: see `LSTM`.
    """

    __signature__ = InitSignature()

    @checked_arguments()
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        gradient_clip: Number | None = None,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ):
        check_dtype("param_dtype", param_dtype)
        input_size = check_size("input_size", input_size)
        hidden_size = check_size("hidden_size", hidden_size)
        num_layers = check_size("num_layers", num_layers)
        self.gradient_clip = gradient_clip
        self.layers = nnx.List(
            nnx.Linear(
                hidden_size if layer else input_size,
                hidden_size,
                kernel_init=fan_in_normal,
                dot_general=dot_general_in(dtype, param_dtype),
                param_dtype=param_dtype,
                rngs=rngs,
            )
            for layer in range(num_layers)
        )

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> tuple[()]:
        """No state."""
        return ()

    def __call__(
        self, carry: tuple[()], inputs: Float[Array, "*batch F"]
    ) -> tuple[tuple[()], Float[Array, "*batch H"]]:
        """One step: the layers applied to the inputs."""
        for layer in self.layers:
            inputs = clip_gradient(jnp.tanh(layer(inputs)), self.gradient_clip)
        return carry, inputs
