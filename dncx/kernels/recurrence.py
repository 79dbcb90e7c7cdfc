"""The recurrence of a DNC with LSTM layers over whole sequences, by the native kernel.

One call computes the controller, interface and memory access of all steps. The output layer and the
gradients of all weights are single products over time, which XLA computes.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dncx.kernels import library
from dncx.kernels.chunks import chunk_length
from dncx.kernels.derivatives import backward_only
from dncx.kernels.meshes import vary_alike
from dncx.kernels.step import Options, call, shapes_of

ALIVE, RESET = 1, 2


class Network(NamedTuple):
    """The arguments of the kernel that are not arrays."""

    options: Options
    inputs: int
    read_heads: int
    clip_value: float  # infinity: none
    forget_bias: float
    gradient_clip: float  # infinity: none
    oneplus: bool
    content_mode_second: bool
    interface_norm: bool
    controller_norm: bool
    norm_epsilon: float
    controller_norm_epsilon: float


class State(NamedTuple):
    """The state of a DNC in the order of the kernel, for a batch of examples."""

    memory: Float[Array, "B N W"]
    read_weights: Float[Array, "B R N"]
    write_weights: Float[Array, "B 1 N"]
    link: Float[Array, "B 1 N N"] | None  # None: no links
    precedence_weights: Float[Array, "B 1 N"] | None  # None: no links
    usage: Float[Array, "B N"]
    words: Float[Array, "B R W"]
    hidden: Float[Array, "B L H"]
    cell: Float[Array, "B L H"]


class LayerNorms(NamedTuple):
    """The layer norms of an LSTM layer, apart from the biases of its gates."""

    gate_scales: Float[Array, " 4H"]
    cell_scale: Float[Array, " H"]
    cell_bias: Float[Array, " H"]


class Weights(NamedTuple):
    """Kernels and biases of the interface, then of every LSTM layer.

    With layer norms, a layer's bias is that of its gates' norms.
    """

    kernels: list[Array]
    biases: list[Array]
    norm: list[Array]  # scale and bias of the interface's layer norm, if it has one
    layer_norms: list[LayerNorms]  # of every layer, if they have layer norms


def recurrence(
    network: Network,
    flags: Int[Array, "T B"],
    inputs: Float[Array, "T B F"],
    start: State,
    weights: Weights,
) -> tuple[Float[Array, "T B features"], State]:
    """[h_t; r_t] of every step, and the last state.

    Args:
      network: sizes and options.
      flags: for every step, in int32: `ALIVE`, `RESET`, both or neither.
      inputs: x_t.
      start: the initial state.
      weights: those of the interface and the layers.
    """
    arrays = backward_only(vary_alike((flags, inputs, start, weights)))
    made: Any = _recurrence(network, *arrays)
    return made


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(network: Network, flags: Any, inputs: Any, start: Any, weights: Any) -> Any:
    return _call_forward(network, False, flags, inputs, start, weights)[:2]


def _attributes(network: Network, steps: int) -> dict[str, Any]:
    attributes = network._asdict() | network.options._asdict()
    del attributes["options"]
    return attributes | {"chunk": chunk_length(steps)}


def _call_forward(
    network: Network, keep: bool, flags: Array, inputs: Array, start: State, weights: Weights
) -> Any:
    """The features, the last state, and with `keep` the values that the backward pass needs.

    These are the inputs of every layer, the gates, all small arrays of every step, and memory and
    link at the first step of every chunk, from which the others are recomputed.
    """
    steps, batch, _ = inputs.shape
    _, slots, word = start.memory.shape
    heads, (layers, hidden) = network.read_heads, start.hidden.shape[1:]
    layout = library.layout(
        str(inputs.dtype), heads, slots=slots, word=word, inputs=network.inputs,
        layers=layers, hidden=hidden, links=network.options.links, masks=network.options.masks,
        wipe_freed=network.options.wipe_freed, sharpen_links=network.options.sharpen_links,
        interface_norm=network.interface_norm, controller_norm=network.controller_norm,
    )  # fmt: skip
    kept_steps = steps if keep else 0
    chunks = math.ceil(kept_steps / chunk_length(steps))

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, inputs.dtype)

    kept = [
        array(kept_steps, batch, layers, layout.layer_inputs),
        array(kept_steps, batch, layers, layout.layer_record),
        array(kept_steps, batch, layout.record),
        array(chunks, batch, slots, word),
    ]
    if network.options.links:
        kept.append(array(chunks, batch, slots, slots))
    features = array(steps, batch, layers * hidden + heads * word)
    return call(
        "sequence",
        (flags, inputs, start, weights),
        (features, shapes_of(start), *kept),
        {},
        _attributes(network, steps) | {"keep": keep},
    )


def _forward(network: Network, flags: Any, inputs: Any, start: Any, weights: Any) -> Any:
    features, last, *kept = _call_forward(network, True, flags, inputs, start, weights)
    used = weights.kernels, weights.norm[:1], weights.layer_norms
    return (features, last), (flags, start, features, kept, used)


def _backward(network: Network, residuals: Any, gradients: Any) -> Any:
    flags, start, features, (layer_inputs, *kept), (kernels, scale, layer_norms) = residuals
    d_features, d_last = gradients
    steps, batch = flags.shape
    layers, hidden = start.hidden.shape[1:]

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((steps, batch, *shape), features.dtype)

    xi = kernels[0].shape[1]
    norm = [jax.ShapeDtypeStruct((batch, 2, xi), features.dtype) for _ in scale]
    by_layers = jax.ShapeDtypeStruct((batch, layers, 10, hidden), features.dtype)
    d_inputs, d_gates, d_interface, d_start, d_norm, d_layer_norms = call(
        "sequence_backward",
        (flags, start, kept, d_features, d_last, kernels, scale, layer_norms),
        (
            array(network.inputs),
            array(layers, 4 * hidden),
            array(xi),
            shapes_of(start),
            norm,
            by_layers if layer_norms else None,
        ),
        {},
        _attributes(network, steps),
    )
    given = [d_interface, *(d_gates[:, :, layer] for layer in range(layers))]
    entered = [features[..., : layers * hidden]]
    entered += [layer_inputs[:, :, i, : kernels[1 + i].shape[0]] for i in range(layers)]
    d_kernels = [_over_time(i).T @ _over_time(g) for i, g in zip(entered, given, strict=True)]
    no_gradient = np.zeros(flags.shape, jax.dtypes.float0)
    d_scale_and_bias = [part for both in d_norm for part in both.sum(axis=0)]
    if layer_norms:  # of each layer: four scales and four biases of gates, those of the cell
        by_layer = d_layer_norms.sum(axis=0)
        d_norms = [LayerNorms(d[:4].ravel(), d[8], d[9]) for d in by_layer]
        d_biases = [_over_time(d_interface).sum(axis=0), *(d[4:8].ravel() for d in by_layer)]
    else:
        d_norms, d_biases = [], [_over_time(g).sum(axis=0) for g in given]
    d_weights = Weights(d_kernels, d_biases, d_scale_and_bias, d_norms)
    return no_gradient, d_inputs, d_start, d_weights


def _over_time(x: Array) -> Array:
    """[time, batch, numbers] as the rows of one matrix."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


_recurrence.defvjp(_forward, _backward)
