"""A scan whose gradient keeps few states, for a state as large as a memory and its links."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Steps. Shorter sequences need little memory and compile faster without chunks, which are a scan
# within a scan.
_WORTH_CHUNKS = 32


def chunk_length(steps: int) -> int:
    """How many steps a backward pass recomputes at a time, to have their states.

    It keeps the state before each chunk, and those of one chunk while it works on it: steps / chunk
    + chunk states, which is smallest at the square root.
    """
    return max(1, round(math.sqrt(steps)))


def scan_in_chunks(step: Callable[[Any, Any], Any], state: Any, xs: Any) -> tuple[Any, Any]:
    """`jax.lax.scan(step, state, xs)`, √time steps at a time.

    The forward pass keeps only the state of every √time-th step. The backward pass recomputes the
    others, one chunk at a time: memory for 2 √time states instead of `time`, at the cost of one
    more forward pass.
    """
    time = jax.tree.leaves(xs)[0].shape[0]
    # In a program for export, `time` is a symbol: the length is not known.
    if not isinstance(time, int) or time < _WORTH_CHUNKS:
        return jax.lax.scan(step, state, xs)
    length = chunk_length(time)
    whole = time // length * length

    def scan(state: Any, xs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(step, state, xs)

    chunks = jax.tree.map(lambda x: x[:whole].reshape(-1, length, *x.shape[1:]), xs)
    state, outputs = jax.lax.scan(jax.checkpoint(scan, prevent_cse=False), state, chunks)
    outputs = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), outputs)
    if whole == time:
        return state, outputs
    state, rest = scan(state, jax.tree.map(lambda x: x[whole:], xs))
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, rest)
