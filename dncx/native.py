"""Sequences of a DNC by the native kernel: conversion between its parts and the kernel's arrays."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from dncx.access import AccessState, MemoryAccess
from dncx.addressing import TemporalLinkageState
from dncx.controllers import LSTM, DeepLSTM, LSTMState
from dncx.glossary import Number
from dncx.kernels import recurrence

Layers = LSTMState | tuple[LSTMState, ...]


def run_recurrence(
    access: MemoryAccess,
    controller: LSTM | DeepLSTM,
    clip_value: Number | None,
    inputs: Float[Array, "T B F"],
    flags: tuple[Bool[Array, "T B"] | None, Bool[Array, "T B"] | None],
    state: tuple[Float[Array, "B R W"], AccessState, Layers],
) -> tuple[Float[Array, "T B features"], tuple[Float[Array, "B R W"], AccessState, Layers]]:
    """[h_t; r_t] of every step, and the last state.

    Args:
      access, controller, clip_value: those of a DNC whose form is "native sequence".
      inputs: x_t.
      flags: whether a step lies within its sequence (None: always), and whether the state is reset
        before it (None: never). A sequence that has ended must not continue.
      state: words read, state of the access, state of the controller.
    """
    layers = list(controller.layers) if isinstance(controller, DeepLSTM) else [controller]
    linears = [access.interface_linear, *(layer.gates for layer in layers)]
    norm: Any = access.interface_norm
    norms: list[Any] = [layer.norms for layer in layers if layer.norms is not None]
    if norms:
        biases = [jnp.concatenate([gate.bias[...] for gate in both.gates]) for both in norms]
    else:
        biases = [_bias(layer.gates) for layer in layers]
    weights = recurrence.Weights(
        kernels=[linear.kernel[...] for linear in linears],
        biases=[_bias(access.interface_linear), *biases],
        norm=[] if norm is None else [norm.scale[...], norm.bias[...]],
        layer_norms=[
            recurrence.LayerNorms(
                gate_scales=jnp.concatenate([gate.scale[...] for gate in both.gates]),
                cell_scale=both.cell.scale[...],
                cell_bias=both.cell.bias[...],
            )
            for both in norms
        ],
    )
    network = recurrence.Network(
        options=access.options,
        inputs=inputs.shape[-1],
        read_heads=access.num_read_heads,
        clip_value=float(clip_value or math.inf),
        forget_bias=float(layers[0].forget_bias),
        gradient_clip=_or_infinity(layers[0].gradient_clip),
        oneplus=access.strength_activation == "oneplus",
        content_mode_second=access.read_mode_order == "backward, content, forward",
        interface_norm=norm is not None,
        controller_norm=bool(norms),
        norm_epsilon=0.0 if norm is None else float(norm.epsilon),
        controller_norm_epsilon=float(norms[0].cell.epsilon) if norms else 0.0,
    )
    live, resets = flags
    kinds = jnp.full(inputs.shape[:2], recurrence.ALIVE, jnp.int32)
    if live is not None:
        kinds = recurrence.ALIVE * live.astype(jnp.int32)
    if resets is not None:
        kinds += recurrence.RESET * resets.astype(jnp.int32)
    features, last = recurrence.recurrence(network, kinds, inputs, _packed(*state), weights)
    return features, _unpacked(last, single=isinstance(controller, LSTM))


def _or_infinity(limit: Number | None) -> float:
    return math.inf if limit is None else float(limit)


def _bias(linear: nnx.Linear) -> Array:
    """The bias, zeros if there is none: the kernel always adds one."""
    kernel = linear.kernel[...]
    return jnp.zeros(kernel.shape[1], kernel.dtype) if linear.bias is None else linear.bias[...]


def _packed(words: Array, access: AccessState, layers: Layers) -> recurrence.State:
    states = [layers] if isinstance(layers, LSTMState) else layers
    return recurrence.State(
        memory=access.memory,
        read_weights=access.read_weights,
        write_weights=access.write_weights,
        link=getattr(access.linkage, "link", None),
        precedence_weights=getattr(access.linkage, "precedence_weights", None),
        usage=access.usage,
        words=words,
        hidden=jnp.stack([state.hidden for state in states], axis=1),
        cell=jnp.stack([state.cell for state in states], axis=1),
    )


def _unpacked(
    state: recurrence.State, single: bool
) -> tuple[Float[Array, "B R W"], AccessState, Layers]:
    linkage: TemporalLinkageState | tuple[()] = ()
    if state.link is not None and state.precedence_weights is not None:
        linkage = TemporalLinkageState(state.link, state.precedence_weights)
    access = AccessState(
        memory=state.memory,
        read_weights=state.read_weights,
        write_weights=state.write_weights,
        linkage=linkage,
        usage=state.usage,
    )
    layers = tuple(
        LSTMState(state.hidden[:, layer], state.cell[:, layer])
        for layer in range(state.hidden.shape[1])
    )
    return state.words, access, layers[0] if single else layers
