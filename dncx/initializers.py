"""The original's initial weights."""

from typing import Any

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

RngSource = nnx.Rngs | nnx.RngStream  # the sources of random numbers that flax accepts


def fan_in_normal(
    key: Array, shape: tuple[int, ...], dtype: DTypeLike, out_sharding: Any = None
) -> Array:
    """Normal with σ = 1/√fan_in, truncated at 2σ; fan_in is the number of rows of the matrix.

    Source: Sonnet 1's default for linear layers and LSTMs, which the original uses.
    """
    sigma = shape[0] ** -0.5
    return jax.nn.initializers.truncated_normal(sigma)(key, shape, dtype)
