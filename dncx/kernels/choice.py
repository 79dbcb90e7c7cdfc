"""Which form of the memory access to use."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from dncx.addressing import Freeness, TemporalLinkage
from dncx.kernels import library

# plain: the equations as they stand, differentiated by JAX.
# xla:   the same, with gradients of the largest operations written by hand; any device.
# native: C++ for the CPU.
Implementation = Literal["plain", "xla", "native"]

# More heads than these would not fit the registers.
MOST_READ_HEADS = 16


def choose(access: Any, dtype: Any) -> Implementation:
    """The form that an access asks for, or else the fastest that can compute it here.

    Args:
      access: a `MemoryAccess`; its `implementation` is what it asks for, None the fastest.
      dtype: of its state.

    Raises:
      ValueError: it asks for none of them, or for "native" where that cannot be; the message
        says why.
    """
    asked = access.implementation
    if asked not in (None, *get_args(Implementation)):
        raise ValueError(
            f"implementation={asked!r}: must be None or one of {get_args(Implementation)}"
        )
    if asked in ("plain", "xla"):
        return asked
    reason = _why_not_native(access, jnp.dtype(dtype).name)
    if reason and asked == "native":
        raise ValueError(f"implementation='native' cannot be used here: {reason}")
    return "xla" if reason else "native"


def _why_not_native(access: Any, dtype: str) -> str | None:
    if type(access.freeness) is not Freeness or type(access.linkage) is not TemporalLinkage:
        return "it knows no freeness or linkage but dncx's own"
    if access.num_write_heads != 1:
        return f"it takes 1 write head, not {access.num_write_heads}"
    if access.num_read_heads > MOST_READ_HEADS:
        return f"it takes at most {MOST_READ_HEADS} read heads, not {access.num_read_heads}"
    settings = (access.cosine_epsilon, access.freeness.epsilon)
    if not all(isinstance(setting, int | float) for setting in settings):
        return "it takes settings that are plain numbers"
    if dtype not in library.NUMBERS:
        return f"it computes in {' or '.join(library.NUMBERS)}, not in {dtype}"
    if jax.default_backend() != "cpu":
        return f"it is for the CPU, not for {jax.default_backend()}"
    return library.load(dtype, access.num_read_heads)
