"""The DNC: a recurrent cell that combines a controller and a memory access."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from dncx.access import AccessState, AccessTrace
from dncx.addressing import TemporalLinkageState
from dncx.checks import (
    InitSignature,
    as_array,
    as_state,
    check_config,
    check_dtype,
    check_features,
    check_instance,
    check_size,
    checked_arguments,
)
from dncx.config import DNCConfig
from dncx.controllers import LSTMState
from dncx.initializers import RngSource, fan_in_normal
from dncx.kernels.choice import Implementation, known_to_kernels, select
from dncx.kernels.meshes import batch_division, by_shards
from dncx.native import run_recurrence
from dncx.parts import AccessLike, ControllerLike


class DNCState(NamedTuple):
    """The state that the DNC carries from step to step; every array starts with the batch axes."""

    access_output: Float[Array, "*batch R W"]  # the words read
    access_state: AccessState
    controller_state: Any  # an LSTMState, a tuple of them, or the state of a custom controller


class DNCTrace(NamedTuple):
    """All results of a step: its new state and its intermediate values."""

    state: DNCState
    controller_output: Float[Array, "*batch H"]
    access: AccessTrace


@known_to_kernels("cell")
class DNC(nnx.RNNCellBase):
    """A recurrent cell with an external memory.

    y_t = clip(W_y [h_t; r_t] + b), where the controller computes h_t from [x_t; r_{t-1}], and the
    access reads r_t as controlled by h_t (Methods, "Controller network").

    It is a standard flax recurrent cell: `nnx.RNN(cell)(inputs)` works, as does `dncx.unroll`.
    It computes in the dtype of its variables (`config.controller_dtype` is an exception).
    `dncx.explain(cell)` names the implementation that computes it, and the reason.

    Args:
      input_size: features of x_t.
      output_size: features of y_t.
      config: sizes and equations; by default those of the original.
      controller: any flax recurrent cell for inputs of `input_size + R * W` features; see
        `dncx.ControllerLike`.
      access: a `MemoryAccess` (`config.make_access` makes one with custom parts), or a custom
        `dncx.AccessLike`.
      implementation: see `MemoryAccess`; a given access has its own.
      rngs: `rngs.params()` draws the weights.
      param_dtype: dtype of weights, state and outputs.

    Raises:
      ValueError: if a size is below 1, a dtype is not supported, or a part does not fit the others.
      TypeError: if an argument is in the wrong place or has the wrong type.

    Example:
      >>> cell = DNC(6, 5, DNCConfig(memory_size=32), rngs=nnx.Rngs(0))
      >>> state = cell.initialize_carry((16, 6))  # a batch of 16
      >>> state, outputs = cell(state, jnp.ones((16, 6)))
      >>> outputs.shape
      (16, 5)
    """

    __signature__ = InitSignature()

    @checked_arguments(DNCConfig)
    def __init__(
        self,
        input_size: int,
        output_size: int,
        config: DNCConfig | None = None,
        *,
        controller: ControllerLike[Any] | None = None,
        access: AccessLike[Any] | None = None,
        implementation: Implementation | None = None,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        input_size = check_size("input_size", input_size)
        output_size = check_size("output_size", output_size)
        check_dtype("param_dtype", param_dtype)
        config = DNCConfig() if config is None else config
        check_config(config, DNCConfig)
        check_instance("controller", controller)
        check_instance("access", access)
        dtypes: dict[str, Any] = dict(rngs=rngs, param_dtype=param_dtype)
        if controller is None:
            controller = cast(ControllerLike[Any], config.make_controller(input_size, **dtypes))
        reads = config if access is None else access
        features = input_size + reads.num_read_heads * reads.word_size
        hidden = _controller_output_size(controller, features, param_dtype)
        if access is None:
            access = cast(
                AccessLike[Any],
                config.make_access(hidden, implementation=implementation, **dtypes),
            )
        else:  # an access that the config makes always fits
            _check_access(access, hidden, param_dtype)
        self.input_size = input_size
        self.output_size = output_size
        self.clip_value = config.clip_value
        # `Any`: parts may be of custom classes; code that reads fields knows the class it expects.
        self.controller: Any = controller
        self.access: Any = access
        self.output_linear = nnx.Linear(
            hidden + access.num_read_heads * access.word_size,
            output_size,
            use_bias=config.output_bias,
            kernel_init=fan_in_normal,
            **dtypes,
        )
        # The kernel is compiled here, if it has to be, and not when JAX first traces a step. A cell
        # that is itself traced (by jax.eval_shape, say) may never compute anything.
        if not isinstance(self.output_linear.kernel[...], Tracer):
            select(self)

    @property
    def num_feature_axes(self) -> int:
        return 1

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the variables, and therefore of state and outputs."""
        return self.output_linear.kernel.dtype

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> DNCState:
        """The state before the first step: with a `MemoryAccess` all zeros, including the memory.

        Args:
          input_shape: [*batch, input_size], the shape of one step's inputs.
          rngs: for a custom controller that draws its initial state.
          carry_init: not used; part of flax's contract.
        """
        check_features(self, input_shape)
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

    @property
    def controller_output_size(self) -> int:
        """H, features of the controller's output."""
        return self.output_linear.in_features - self.access.num_read_heads * self.access.word_size

    def __call__(
        self, carry: DNCState, inputs: ArrayLike, hidden_factors: ArrayLike | None = None
    ) -> tuple[DNCState, Float[Array, "*batch O"]]:
        """One step.

        Args:
          carry: the state after the previous step.
          inputs: x_t, [*batch, F].
          hidden_factors: [*batch, H]; see `dncx.unroll`.

        Returns:
          The new state and y_t.

        Raises:
          ValueError: if inputs or state do not fit the cell, or have different batch axes.
          TypeError: if they are in the wrong order or have the wrong type.
        """

        def step(cell: DNC, given: tuple[DNCState, Array, Array | None], _: None) -> Any:
            carry, inputs, factors = given
            # For one example a sequence of one step is quicker: the products with the weights are
            # in the kernel, too. For a batch they are better left to XLA.
            one_example = math.prod(inputs.shape[:-1]) == 1
            if one_example and select(cell).name == "native sequence":
                steps = jax.tree.map(lambda x: x[None], (inputs, factors))
                state, outputs = cell.native_sequence(carry, steps[0], hidden_factors=steps[1])
                return (state, outputs[0]), None
            return cell._step(cell.access, carry, inputs, factors), None

        return self._by_shards(step, carry, inputs, hidden_factors)

    def step_with_trace(
        self, carry: DNCState, inputs: ArrayLike
    ) -> tuple[DNCState, Float[Array, "*batch O"], DNCTrace]:
        """One step, with all its intermediate values."""

        def step(cell: DNC, given: tuple[DNCState, Array, None], _: None) -> Any:
            return cell._step(cell.access.step_with_trace, *given), None

        return self._by_shards(step, carry, inputs)

    def _step(
        self,
        access_step: Callable[..., Any],
        carry: DNCState,
        inputs: Array,
        hidden_factors: Array | None = None,
    ) -> Any:
        """One step of every example in the batch, with or without the access's trace."""

        def one_example(
            state: DNCState, inputs: Float[Array, " F"], factors: Float[Array, " H"] | None
        ) -> Any:
            controller_inputs = jnp.concatenate([inputs, state.access_output.ravel()])
            controller_state, h = self.controller(state.controller_state, controller_inputs)
            controller_state, h = jax.tree.map(self.clip, (controller_state, h))
            access_state, read_words, *trace = access_step(state.access_state, h)
            outputs = self._outputs(jnp.concatenate([h, read_words.ravel()]), factors)
            new_state = DNCState(read_words, access_state, controller_state)
            return new_state, outputs, *(DNCTrace(new_state, h, t) for t in trace)

        step = one_example
        for _ in inputs.shape[:-1]:
            step = jax.vmap(step)
        return step(carry, inputs.astype(self.dtype), hidden_factors)

    def _outputs(
        self,
        features: Float[Array, "*batch features"],
        hidden_factors: Float[Array, "*batch H"] | None,
    ) -> Float[Array, "*batch O"]:
        """y_t from [h_t; r_t], with h_t multiplied by the factors."""
        if hidden_factors is not None:
            hidden, words = jnp.split(features, [self.controller_output_size], axis=-1)
            features = jnp.concatenate([hidden * hidden_factors, words], axis=-1)
        return self.clip(self.output_linear(features))

    def native_sequence(
        self,
        carry: DNCState,
        inputs: Float[Array, "T *batch F"],
        live: Bool[Array, "T *batch"] | None = None,
        resets: Bool[Array, "T *batch"] | None = None,
        hidden_factors: Float[Array, "T *batch H"] | None = None,
    ) -> tuple[DNCState, Float[Array, "T *batch O"]]:
        """Computes `dncx.unroll` with the native kernel; only if `select` chooses it.

        Args:
          carry: the state to start from.
          inputs: x, with the time axis first.
          live: whether a step lies within its sequence; a prefix of True. None: all steps do.
          resets: whether the state is set to zero before a step. None: never.
          hidden_factors: see `dncx.unroll`. None: all are 1.
        """
        time, *batch = inputs.shape[:-1]
        examples = math.prod(batch)  # the kernel has one batch axis
        if live is not None:
            inputs = jnp.where(live[..., None], inputs, 0)  # so that padding costs no gradient
        steps = jax.tree.map(
            lambda x: x.reshape(time, examples, *x.shape[1 + len(batch) :]),
            (inputs, live, resets, hidden_factors),
        )
        states = jax.tree.map(lambda x: x.reshape(examples, *x.shape[len(batch) :]), carry)
        features, last = run_recurrence(
            self.access,
            self.controller,
            self.clip_value,
            steps[0].astype(self.dtype),
            steps[1:3],
            (states.access_output, states.access_state, states.controller_state),
        )
        outputs = self._outputs(features, steps[3])
        outputs = outputs.reshape(time, *batch, outputs.shape[-1])
        if live is not None:
            outputs = jnp.where(live[..., None], outputs, 0)
        last = jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), last)
        return DNCState(*last), outputs

    def _by_shards(
        self, step: Callable[..., Any], carry: Any, inputs: Any, hidden_factors: Any = None
    ) -> Any:
        """A step of what was passed, once that is checked; see `by_shards`."""
        carry, inputs = self._checked_step(carry, inputs)
        batch = slice(inputs.ndim - 1)
        if hidden_factors is not None:
            like = jax.ShapeDtypeStruct(
                (*inputs.shape[batch], self.controller_output_size), self.dtype
            )
            hidden_factors = as_state("hidden_factors", hidden_factors, like, cast=True)
        division = batch_division(inputs, batch) or batch_division(carry.access_output, batch)
        return by_shards(step, division, self, (carry, inputs, hidden_factors), None)[0]

    def _checked_step(self, carry: Any, inputs: Any) -> tuple[DNCState, Array]:
        if isinstance(inputs, DNCState):
            raise TypeError("pass the state first: cell(state, inputs)")
        if not isinstance(carry, DNCState):
            raise TypeError(
                "the state must be a DNCState (initially cell.initialize_carry(inputs.shape)); "
                f"got a {type(carry).__name__}"
            )
        inputs = as_array("inputs", inputs)
        check_features(self, inputs.shape)
        batch = jnp.shape(carry.access_output)[:-2]
        if batch != inputs.shape[:-1]:
            raise ValueError(
                f"the state has the batch shape {batch}, but the inputs have {inputs.shape[:-1]}; "
                "for sequences use dncx.unroll(cell, inputs)"
            )
        like = jax.eval_shape(lambda: self.initialize_carry(inputs.shape))
        return as_state("state", carry, like, cast=False), inputs

    def clip(self, x: Array) -> Array:
        """x clipped to ±clip_value; arrays that are not floating-point are not changed."""
        if not self.clip_value or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        limit = jnp.asarray(self.clip_value, x.dtype)
        return jax.lax.clamp(-limit, x, limit)  # its gradient is one selection


# So that `jax.export` can write programs whose arguments and results are states.
for _state in (TemporalLinkageState, AccessState, LSTMState, DNCState):
    export.register_namedtuple_serialization(_state, serialized_name=f"dncx.{_state.__name__}")


def _controller_output_size(
    controller: ControllerLike[Any], features: int, dtype: DTypeLike
) -> int:
    """The width of the controller's outputs for inputs of `features` features."""

    def step(module: Any, inputs: Array) -> Any:
        return module(module.initialize_carry(inputs.shape, nnx.Rngs(0)), inputs)[1]

    inputs = jax.ShapeDtypeStruct((features,), dtype)
    try:
        outputs = nnx.eval_shape(step, controller, inputs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{type(controller).__name__} cannot compute a step for one example of {features} "
            "features, which is input_size + num_read_heads * word_size (dncx/controllers.py "
            f"describes controllers): {error}"
        ) from error
    return outputs.shape[-1]


def _check_access(access: AccessLike[Any], hidden: int, dtype: DTypeLike) -> None:
    """Refuses an access that does not fit the controller's outputs."""
    graph, params = nnx.split(access)

    def step(params: Any, h: Array) -> Any:
        module: Any = nnx.merge(graph, params)
        if hasattr(module, "implementation"):
            module.implementation = "plain"  # sizes are the same for all, and nothing is compiled
        return module(module.initial_state(dtype), h)[1]

    try:
        words = jax.eval_shape(step, params, jax.ShapeDtypeStruct((hidden,), dtype))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{type(access).__name__} cannot compute a step from the controller's {hidden} "
            f"outputs; make it for that size (config.make_access({hidden}, ...)), with parts that "
            f"fit: {error}"
        ) from error
    if words.shape != (access.num_read_heads, access.word_size):
        raise ValueError(
            f"{type(access).__name__} returns read words of shape {words.shape}, not "
            f"(num_read_heads, word_size) = {(access.num_read_heads, access.word_size)}"
        )
