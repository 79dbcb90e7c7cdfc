"""Whole sequences of a DNC with LSTM layers by the native kernel.

The recurrence (controller, interface, memory access) is one call for all steps; the output layer
and the gradients by all weights are single products over time, left to XLA.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from dncx.access import AccessState, MemoryAccess
from dncx.controllers import LSTM, DeepLSTM, LSTMState
from dncx.kernels.choice import choose
from dncx.kernels.derivatives import backward_only
from dncx.kernels.meshes import vary_alike
from dncx.kernels.step import Options, call, options_of, shapes_of

_ALIVE, _RESET = 1, 2


class _Network(NamedTuple):
    """What the kernel must know beside the arrays."""

    options: Options
    inputs: int
    read_heads: int
    chunk: int
    clip_value: float
    forget_bias: float
    gradient_clip: float
    oneplus: bool
    content_mode_second: bool

    def attributes(self) -> dict[str, Any]:
        rest = self._asdict()
        return rest.pop("options")._asdict() | rest


class _State(NamedTuple):
    """A DNCState in the order of the kernel, with [batch, layers, H] for the controller."""

    access: AccessState
    access_output: Array
    hidden: Array
    cell: Array


def supports_sequence_kernel(cell: Any) -> bool:
    """Whether the kernel computes this `DNC`: one of dncx's own parts, with LSTM layers.

    It multiplies in the dtype of the variables only.
    """
    if type(cell.access) is not MemoryAccess or choose(cell.access, cell.dtype) != "native":
        return False
    if type(cell.controller) not in (LSTM, DeepLSTM):
        return False
    layers = _layers(cell)
    linears = [cell.access.interface_linear, *(getattr(layer, "gates", None) for layer in layers)]
    return (
        all(type(layer) is LSTM for layer in layers)
        and len({(layer.forget_bias, layer.gradient_clip) for layer in layers}) == 1
        and all(_is_plain(linear, cell.dtype) for linear in linears)
    )


def _is_plain(linear: Any, dtype: Any) -> bool:
    return (
        type(linear) is nnx.Linear
        and linear.kernel.dtype == dtype
        and linear.dtype in (None, dtype)
        and linear.dot_general is jax.lax.dot_general
    )


def run(
    cell: Any,
    inputs: Float[Array, "T *batch F"],
    state: Any,
    live: Bool[Array, "T *batch"] | None,
    resets: Bool[Array, "T *batch"] | None,
) -> tuple[Any, Float[Array, "T *batch O"]]:
    """What `dncx.unroll` does, with the time first.

    Args:
      cell: a `DNC` that `suits`.
      inputs: x.
      state: a `DNCState`, the one to start from.
      live: whether a step is within its sequence: at first, and then no more.
      resets: whether to start anew before a step.
    """
    time, *batch = inputs.shape[:-1]
    flags = jnp.full((time, *batch), _ALIVE, jnp.int32)
    if live is not None:
        flags = live.astype(jnp.int32)
        inputs = jnp.where(live[..., None], inputs, 0)
    if resets is not None:
        flags += _RESET * resets.astype(jnp.int32)
    # The kernel has one batch axis.
    examples = math.prod(batch)
    flags = flags.reshape(time, examples)
    inputs = inputs.reshape(time, examples, inputs.shape[-1]).astype(cell.dtype)
    start = jax.tree.map(lambda x: x.reshape(examples, *x.shape[len(batch) :]), state)
    layers = _layers(cell)
    linears = [cell.access.interface_linear, *(layer.gates for layer in layers)]
    kernels = [linear.kernel[...] for linear in linears]
    biases = [_bias(linear) for linear in linears]
    network = _network(cell, layers[0], inputs.shape)
    arrays = vary_alike((flags, inputs, _packed(start), kernels, biases))
    made: Any = _recurrence(network, *backward_only(arrays))
    features, last = made
    outputs = cell.clip(cell.output_linear(features))
    outputs = outputs.reshape(time, *batch, outputs.shape[-1])
    if live is not None:
        outputs = jnp.where(live[..., None], outputs, 0)
    last = jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), _unpacked(last, start))
    return last, outputs


def _layers(cell: Any) -> list[LSTM]:
    controller = cell.controller
    return [controller] if isinstance(controller, LSTM) else list(controller.layers)


def _bias(linear: nnx.Linear) -> Array:
    kernel = linear.kernel[...]
    return jnp.zeros(kernel.shape[1], kernel.dtype) if linear.bias is None else linear.bias[...]


def _network(cell: Any, layer: LSTM, shape: tuple[int, ...]) -> _Network:
    limit = layer.gradient_clip
    return _Network(
        options=options_of(cell.access),
        inputs=shape[-1],
        read_heads=cell.access.num_read_heads,
        chunk=max(1, round(math.sqrt(shape[0]))),
        clip_value=float(cell.clip_value or math.inf),
        forget_bias=float(layer.forget_bias),
        gradient_clip=math.inf if limit is None else float(limit),
        oneplus=cell.access.strength_activation == "oneplus",
        content_mode_second=cell.access.read_mode_order == "backward, content, forward",
    )


def _packed(state: Any) -> _State:
    layers = state.controller_state
    layers = (layers,) if isinstance(layers, LSTMState) else layers
    hidden, cell = (jnp.stack(parts, axis=1) for parts in zip(*layers, strict=True))
    return _State(state.access_state, state.access_output, hidden, cell)


def _unpacked(state: _State, like: Any) -> Any:
    layers = tuple(
        LSTMState(state.hidden[:, layer], state.cell[:, layer])
        for layer in range(state.hidden.shape[1])
    )
    single = isinstance(like.controller_state, LSTMState)
    return type(like)(state.access_output, state.access, layers[0] if single else layers)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(
    network: _Network,
    flags: Array,
    inputs: Array,
    start: _State,
    kernels: list[Array],
    biases: list[Array],
) -> tuple[Array, _State]:
    """[h_t; r_t] of every step, and the last state.

    Args:
      network: sizes and options.
      flags: [time, batch] int32: `_ALIVE`, `_RESET`, both or neither.
      inputs: [time, batch, F].
      start: the first state.
      kernels, biases: of the interface, then of every LSTM layer.
    """
    return _call_forward(network, False, flags, inputs, start, kernels, biases)[:2]


def _call_forward(
    network: _Network,
    keep: bool,
    flags: Array,
    inputs: Array,
    start: _State,
    kernels: Any,
    biases: Any,
) -> Any:
    """The features, the last state, and with `keep` what the backward pass needs.

    That is: what entered every layer; the gates; of every step all that is small; and memory
    and link at the first of every `chunk` steps, from which the others are computed again.
    """
    batch, slots, word = start.access.memory.shape
    heads, (layers, hidden) = network.read_heads, start.hidden.shape[1:]
    record = (4 * heads + 5) * slots + kernels[0].shape[1]
    steps = inputs.shape[0] if keep else 0
    chunks = -(-steps // network.chunk)

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, inputs.dtype)

    kept = (
        array(steps, batch, layers, kernels[-1].shape[0]),
        array(steps, batch, layers, 5 * hidden),
        array(steps, batch, record),
        array(chunks, batch, slots, word),
        array(chunks, batch, slots, slots),
    )
    features = array(inputs.shape[0], batch, layers * hidden + heads * word)
    return call(
        "sequence",
        (flags, inputs, start, kernels, biases),
        (features, shapes_of(start), *kept),
        {},
        network.attributes() | {"keep": keep},
    )


def _forward(network: _Network, flags: Array, inputs: Array, start: Any, kernels: Any, biases: Any):
    features, last, *kept = _call_forward(network, True, flags, inputs, start, kernels, biases)
    return (features, last), (flags, start, features, kept, kernels)


def _backward(network: _Network, residuals: Any, gradients: Any) -> Any:
    flags, start, features, (layer_inputs, *kept), kernels = residuals
    d_features, d_last = gradients
    steps, batch = flags.shape
    layers, hidden = start.hidden.shape[1:]

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((steps, batch, *shape), features.dtype)

    d_inputs, d_gates, d_interface, d_start = call(
        "sequence_backward",
        (flags, start, kept, d_features, d_last, kernels),
        (
            array(network.inputs),
            array(layers, 4 * hidden),
            array(kernels[0].shape[1]),
            shapes_of(start),
        ),
        {},
        network.attributes(),
    )
    given = [d_interface, *(d_gates[:, :, layer] for layer in range(layers))]
    entered = [features[..., : layers * hidden]]
    entered += [layer_inputs[:, :, i, : kernels[1 + i].shape[0]] for i in range(layers)]
    d_kernels = [_over_time(i).T @ _over_time(g) for i, g in zip(entered, given, strict=True)]
    d_biases = [_over_time(g).sum(axis=0) for g in given]
    no_gradient = np.zeros(flags.shape, jax.dtypes.float0)
    return no_gradient, d_inputs, d_start, d_kernels, d_biases


def _over_time(x: Array) -> Array:
    """[time, batch, numbers] as the rows of one matrix."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


_recurrence.defvjp(_forward, _backward)
