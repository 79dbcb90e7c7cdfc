"""The outputs of a network, as rows of its output layer; parameters are given by name."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

_LAYER = "output_linear"  # of every network; its kernel and bias end in the axis of the outputs


def first_outputs(params: Mapping[str, Any], number: int | None) -> dict[str, Any]:
    """The parameters of the network with its first outputs only; None: with all."""
    return {
        name: array[..., :number] if _is_of_layer(name) else array for name, array in params.items()
    }


def without_auxiliary(params: Mapping[str, Any], trained: int | None, saved: int) -> dict[str, Any]:
    """The parameters of a saved model; earlier versions of dncx also saved its auxiliary outputs.

    Args:
      params: the parameters in a file.
      trained: the number of outputs in training; None: not known, so nothing is left out.
      saved: the number of outputs that are saved today.
    """
    found = {array.shape[-1] for name, array in params.items() if _is_of_layer(name)}
    return first_outputs(params, saved if found == {trained} else None)


def with_more_outputs(params: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with the outputs that they lack taken from a network that has more."""
    return {
        name: jnp.concatenate([array, new[name][..., array.shape[-1] :]], axis=-1)
        if _is_of_layer(name)
        else array
        for name, array in params.items()
    }


def _is_of_layer(name: str) -> bool:
    return _LAYER in name.split(".")
