"""The outputs of a network, as rows of its output layer; parameters are given by name."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

_LAYER = "output_linear"  # of every network; its kernel and bias end in the axis of the outputs
_POLICY, _CRITIC = "policy.", "critic."  # the networks of an `ActorCritic`


def first_outputs(params: Mapping[str, Any], number: int | None) -> dict[str, Any]:
    """The parameters of the network with its first outputs only; None: with all.

    The first outputs of an `ActorCritic` are those of its policy.
    """
    if number is not None:
        params = _of_policy(params)
    return {
        name: array[..., :number] if _is_of_layer(name) else array for name, array in params.items()
    }


def without_auxiliary(params: Mapping[str, Any], trained: int | None, saved: int) -> dict[str, Any]:
    """The parameters of a saved model; earlier versions of dncx also saved its auxiliary outputs.

    A saved policy has no critic.

    Args:
      params: the parameters in a file.
      trained: the number of outputs in training; None: not known, so nothing is left out.
      saved: the number of outputs that are saved today.
    """
    params = _of_policy(params)
    found = {array.shape[-1] for name, array in params.items() if _is_of_layer(name)}
    return first_outputs(params, saved if found == {trained} else None)


def with_more_outputs(params: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with the outputs that they lack taken from a network that has more."""
    if any(name.startswith(_CRITIC) for name in new):
        own = {_POLICY + name: array for name, array in params.items()}
        return {**new, **with_more_outputs(own, {name: new[name] for name in own})}
    return {
        name: jnp.concatenate([array, new[name][..., array.shape[-1] :]], axis=-1)
        if _is_of_layer(name)
        else array
        for name, array in params.items()
    }


def _of_policy(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of the policy of an `ActorCritic`; of any other network, all."""
    if not any(name.startswith(_CRITIC) for name in params):
        return params
    return {
        name.removeprefix(_POLICY): array
        for name, array in params.items()
        if name.startswith(_POLICY)
    }


def _is_of_layer(name: str) -> bool:
    return _LAYER in name.split(".")
