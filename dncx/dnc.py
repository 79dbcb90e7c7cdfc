"""The DNC: a recurrent cell that joins a controller and a memory access."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dncx.access import AccessState, AccessTrace, MemoryAccess
from dncx.addressing import ALLOCATION_EPSILON, COSINE_EPSILON, Freeness
from dncx.controllers import LSTM, DeepLSTM, FeedForward
from dncx.glossary import Number
from dncx.initializers import fan_in_normal
from dncx.interface import ReadModeOrder, StrengthActivation

ControllerName = Literal["lstm", "deep_lstm", "feedforward"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DNCConfig:
    """Sizes of a DNC, and every point in which the original differs from the paper.

    The defaults are google-deepmind/dnc; `DNCConfig.nature()` gives the paper's equations.
    Changing one field moves one point only, so the two can be mixed.

    Args:
      memory_size: N, slots of the memory.
      word_size: W, numbers in a slot.
      num_read_heads: R.
      num_write_heads: M; the paper has one.
      hidden_size: H, features of a controller layer.
      num_layers: layers of the controller; "lstm" has one.
      clip_value: limit of the controller's output, its state and the DNC's output; 20 in the
        original, None (or 0) in the paper: off.
      controller: "lstm" as in the original, "deep_lstm" as in the paper, or "feedforward".
      forget_bias: added to the LSTM's forget gate; 1 in the original, 0 in the paper.
      controller_gradient_clip: limit of the gradient of the controller's activations; None
        (off) in the original, 10 in the paper.
      strength_activation: "softplus" in the original, "oneplus" in the paper.
      interface_bias: whether ξ = W h + b (the original) or W h (the paper).
      output_bias: the same for the output layer.
      read_mode_order: the order of the read modes in ξ; it changes nothing but the place of
        the weights that make them.
      cosine_epsilon: 1e-6 in the original, 0 in the paper; see `content_weights`.
      allocation_epsilon: 1e-6 in the original, 0 in the paper; see `allocation_weights`.
      usage_write_gradient: whether usage passes gradient to the previous write weights;
        False in the original, True in the paper.

    Raises:
      ValueError: a size below 1, or a name that is not one of those above.

    Source: `docs/differences.md` has the table with the places in paper and original.
    """

    memory_size: int = 16
    word_size: int = 16
    num_read_heads: int = 4
    num_write_heads: int = 1
    hidden_size: int = 64
    num_layers: int = 1
    clip_value: Number | None = 20.0
    controller: ControllerName = "lstm"
    forget_bias: Number = 1.0
    controller_gradient_clip: Number | None = None
    strength_activation: StrengthActivation = "softplus"
    interface_bias: bool = True
    output_bias: bool = True
    read_mode_order: ReadModeOrder = "backward, forward, content"
    cosine_epsilon: Number = COSINE_EPSILON
    allocation_epsilon: Number = ALLOCATION_EPSILON
    usage_write_gradient: bool = False

    def __post_init__(self) -> None:
        for name in (
            "memory_size",
            "word_size",
            "num_read_heads",
            "num_write_heads",
            "hidden_size",
            "num_layers",
        ):
            _check_size(name, getattr(self, name))
        for name, choices in (
            ("controller", get_args(ControllerName)),
            ("strength_activation", get_args(StrengthActivation)),
            ("read_mode_order", get_args(ReadModeOrder)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be one of {choices}")
        for name in (
            "clip_value",
            "controller_gradient_clip",
            "cosine_epsilon",
            "allocation_epsilon",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}: must be a finite number of at least 0")
        if self.controller == "lstm" and self.num_layers != 1:
            raise ValueError(
                f"num_layers={self.num_layers}: controller='lstm' has one layer; "
                "controller='deep_lstm' takes several"
            )

    @classmethod
    def deepmind(cls, **changes: Any) -> "DNCConfig":
        """The equations of google-deepmind/dnc (the defaults)."""
        return cls(**changes)

    @classmethod
    def nature(cls, **changes: Any) -> "DNCConfig":
        """The equations of the Nature paper; sizes are as in `deepmind` unless given."""
        paper: dict[str, Any] = dict(
            clip_value=None,
            controller="deep_lstm",
            forget_bias=0.0,
            controller_gradient_clip=10.0,
            strength_activation="oneplus",
            interface_bias=False,
            output_bias=False,
            read_mode_order="backward, content, forward",
            cosine_epsilon=0.0,
            allocation_epsilon=0.0,
            usage_write_gradient=True,
        )
        return cls(**(paper | changes))

    def make_controller(
        self, input_size: int, *, rngs: nnx.Rngs, param_dtype: Any = jnp.float32
    ) -> nnx.RNNCellBase:
        """The controller of this config; `input_size` is of the DNC's inputs x_t."""
        features = input_size + self.num_read_heads * self.word_size
        common: dict[str, Any] = dict(
            gradient_clip=self.controller_gradient_clip, rngs=rngs, param_dtype=param_dtype
        )
        if self.controller == "lstm":
            return LSTM(features, self.hidden_size, forget_bias=self.forget_bias, **common)
        if self.controller == "deep_lstm":
            common["forget_bias"] = self.forget_bias
            return DeepLSTM(features, self.hidden_size, self.num_layers, **common)
        return FeedForward(features, self.hidden_size, self.num_layers, **common)

    def make_access(
        self,
        controller_output_size: int | None = None,
        *,
        freeness: Any = None,
        linkage: Any = None,
        rngs: nnx.Rngs,
        param_dtype: Any = jnp.float32,
    ) -> MemoryAccess:
        """The memory access of this config, with parts of your own where given.

        Args:
          controller_output_size: H; by default that of this config's own controller.
          freeness, linkage: see `MemoryAccess`.
          rngs, param_dtype: see `DNC`.
        """
        layers_out = self.num_layers if self.controller == "deep_lstm" else 1
        return MemoryAccess(
            controller_output_size or self.hidden_size * layers_out,
            memory_size=self.memory_size,
            word_size=self.word_size,
            num_read_heads=self.num_read_heads,
            num_write_heads=self.num_write_heads,
            freeness=freeness
            or Freeness(
                self.memory_size,
                epsilon=self.allocation_epsilon,
                write_gradient=self.usage_write_gradient,
            ),
            linkage=linkage,
            cosine_epsilon=self.cosine_epsilon,
            strength_activation=self.strength_activation,
            interface_bias=self.interface_bias,
            read_mode_order=self.read_mode_order,
            rngs=rngs,
            param_dtype=param_dtype,
        )


class DNCState(NamedTuple):
    """What the DNC carries from step to step; every array has the batch axes in front."""

    access_output: Float[Array, "*batch R W"]  # the words read
    access_state: AccessState
    controller_state: Any


class DNCTrace(NamedTuple):
    """All that happened in a step: the state it left, and what it computed on the way."""

    state: DNCState
    controller_output: Float[Array, "*batch H"]
    access: AccessTrace


class DNC(nnx.RNNCellBase):
    """A recurrent cell with an external memory.

    y_t = clip(W_y [h_t; r_t] + b), where the controller gives h_t from [x_t; r_{t-1}] and the
    access reads r_t as h_t asks (Methods, "Controller network").

    It is a standard flax recurrent cell: `nnx.RNN(cell)(inputs)` works, as does `dncx.unroll`.
    It computes in the dtype of its variables.

    Args:
      input_size: features of x_t.
      output_size: features of y_t.
      config: sizes and equations; by default those of the original.
      controller: any flax recurrent cell for inputs of `input_size + R * W` features.
      access: a `MemoryAccess` (`config.make_access` puts your own parts into one).
      rngs: `rngs.params()` draws the weights.
      param_dtype: dtype of weights, state and outputs.

    Raises:
      ValueError: a size below 1; a controller that does not take `input_size + R * W` features.

    Example:
      >>> cell = DNC(6, 5, DNCConfig(memory_size=32), rngs=nnx.Rngs(0))
      >>> state = cell.initialize_carry((16, 6))  # a batch of 16
      >>> state, outputs = cell(state, jnp.ones((16, 6)))
      >>> outputs.shape
      (16, 5)
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: DNCConfig | None = None,
        *,
        controller: Any = None,
        access: Any = None,
        rngs: nnx.Rngs,
        param_dtype: Any = jnp.float32,
    ):
        _check_size("input_size", input_size)
        _check_size("output_size", output_size)
        config = config or DNCConfig()
        dtypes: dict[str, Any] = dict(rngs=rngs, param_dtype=param_dtype)
        if controller is None:
            controller = config.make_controller(input_size, **dtypes)
        reads = access or config
        features = input_size + reads.num_read_heads * reads.word_size
        hidden = _controller_output_size(controller, features, param_dtype)
        self.input_size = input_size
        self.output_size = output_size
        self.clip_value = config.clip_value
        self.controller = controller
        self.access = access or config.make_access(hidden, **dtypes)
        self.output_linear = nnx.Linear(
            hidden + self.access.num_read_heads * self.access.word_size,
            output_size,
            use_bias=config.output_bias,
            kernel_init=fan_in_normal,
            **dtypes,
        )

    @property
    def num_feature_axes(self) -> int:
        return 1

    @property
    def dtype(self) -> Any:
        """The dtype of the variables, and so of state and outputs."""
        return self.output_linear.kernel.dtype

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> DNCState:
        """The state before the first step: all zeros, memory included.

        Args:
          input_shape: [*batch, input_size], the shape of one step's inputs.
          rngs: for a controller of your own that draws its first state.
          carry_init: not used; there for flax's contract.
        """
        self._check_inputs(input_shape)
        batch = tuple(input_shape[:-1])
        memory = self.access.initial_state(self.dtype)
        reads = (self.access.num_read_heads, self.access.word_size)
        return DNCState(
            access_output=jnp.zeros((*batch, *reads), self.dtype),
            access_state=jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, *x.shape)), memory),
            controller_state=self.controller.initialize_carry(
                (*batch, self.input_size + reads[0] * reads[1]), rngs or nnx.Rngs(0)
            ),
        )

    def __call__(
        self, carry: DNCState, inputs: Float[Array, "*batch F"]
    ) -> tuple[DNCState, Float[Array, "*batch O"]]:
        """One step.

        Args:
          carry: the state that the step before left.
          inputs: x_t.

        Returns:
          The new state and y_t.
        """
        carry, outputs, _ = self.step_with_trace(carry, inputs)
        return carry, outputs

    def step_with_trace(
        self, carry: DNCState, inputs: Float[Array, "*batch F"]
    ) -> tuple[DNCState, Float[Array, "*batch O"], DNCTrace]:
        """One step, and all that happened in it."""
        self._check_inputs(inputs.shape)
        step: Callable[..., Any] = self._one_example
        for _ in inputs.shape[:-1]:
            step = jax.vmap(step)
        return step(carry, inputs.astype(self.dtype))

    def _one_example(
        self, state: DNCState, inputs: Float[Array, " F"]
    ) -> tuple[DNCState, Float[Array, " O"], DNCTrace]:
        controller_inputs = jnp.concatenate([inputs, state.access_output.ravel()])
        controller_state, h = self.controller(state.controller_state, controller_inputs)
        controller_state, h = jax.tree.map(self._clip, (controller_state, h))
        access_state, read_words, access_trace = self.access.step_with_trace(state.access_state, h)
        outputs = self._clip(self.output_linear(jnp.concatenate([h, read_words.ravel()])))
        new_state = DNCState(read_words, access_state, controller_state)
        return new_state, outputs, DNCTrace(new_state, h, access_trace)

    def _clip(self, x: Array) -> Array:
        return jnp.clip(x, -self.clip_value, self.clip_value) if self.clip_value else x

    def _check_inputs(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[-1] != self.input_size:
            raise ValueError(
                f"this DNC takes inputs [*batch, {self.input_size}] at a step, got shape "
                f"{tuple(shape)}; for whole sequences use dncx.unroll(cell, inputs)"
            )


def _check_size(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")


def _controller_output_size(controller: Any, features: int, dtype: Any) -> int:
    """The width of what the controller gives out for inputs of `features` features."""

    def step(module: Any, inputs: Array) -> Any:
        return module(module.initialize_carry(inputs.shape, nnx.Rngs(0)), inputs)[1]

    inputs = jax.ShapeDtypeStruct((features,), dtype)
    try:
        outputs = nnx.eval_shape(step, controller, inputs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{type(controller).__name__} does not step on one example of {features} features "
            f"(input_size + num_read_heads * word_size); see dncx/controllers.py for what a "
            f"controller is. It says: {error}"
        ) from error
    return outputs.shape[-1]
