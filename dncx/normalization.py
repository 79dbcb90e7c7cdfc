"""Layer normalization, with the same settings in controllers and in the interface."""

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.kernels.choice import known_to_kernels

EPSILON = 1e-6  # as in the ADNC


@known_to_kernels("norm")
class LayerNorm(nnx.LayerNorm):
    """LN(x) = s (x - mean x) / √(var x + ε) + b over the last axis, with trainable s and b.

    This is flax's layer norm with the exact variance. The statistics are computed in float32 or
    float64; the result has the wider dtype of x and s.

    Args:
      features: length of x.
      rngs: not used; flax requires it.
      param_dtype: dtype of s, which starts at 1, and of b, which starts at 0.

    Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        super().__init__(
            features,
            epsilon=EPSILON,
            param_dtype=param_dtype,
            use_fast_variance=False,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "*batch F"], *, mask: Array | None = None) -> Array:
        """LN(x)."""
        # flax promotes the dtype of its statistics, which JAX's strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            return super().__call__(x, mask=mask)
