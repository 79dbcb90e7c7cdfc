"""The interface ξ: the vector by which the controller controls the memory in one step."""

import math
from itertools import accumulate
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

StrengthActivation = Literal["softplus", "oneplus"]
ReadModeOrder = Literal["backward, forward, content", "backward, content, forward"]


class Interface(NamedTuple):
    """The parts of ξ, in the paper's order and under the original's names.

    `read_mode` is always ordered backward x M, forward x M, content; with one write head
    the columns are [backward, forward, content]. Without links there is only content.
    """

    read_keys: Float[Array, "R W"]
    read_strengths: Float[Array, " R"]
    write_keys: Float[Array, "M W"]
    write_strengths: Float[Array, " M"]
    erase_vectors: Float[Array, "M W"]
    write_vectors: Float[Array, "M W"]
    free_gate: Float[Array, " R"]
    allocation_gate: Float[Array, " M"]
    write_gate: Float[Array, " M"]
    read_mode: Float[Array, "R modes"]


def interface_shapes(
    word_size: int, num_read_heads: int, num_write_heads: int, num_directions: int | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of every part of ξ by its name, in the order of the vector.

    Args:
      word_size, num_read_heads, num_write_heads: W, R, M.
      num_directions: forward and backward weightings of a read head; by default 2 M.
    """
    reads, writes = num_read_heads, num_write_heads
    directions = 2 * writes if num_directions is None else num_directions
    return {
        "read_keys": (reads, word_size),
        "read_strengths": (reads,),
        "write_keys": (writes, word_size),
        "write_strengths": (writes,),
        "erase_vectors": (writes, word_size),
        "write_vectors": (writes, word_size),
        "free_gate": (reads,),
        "allocation_gate": (writes,),
        "write_gate": (writes,),
        "read_mode": (reads, directions + 1),
    }


def interface_ends(shapes: dict[str, tuple[int, ...]]) -> list[int]:
    """The end of each part of ξ; the last is its length, RW + 3W + 5R + 3 for one write head."""
    return list(accumulate(math.prod(shape) for shape in shapes.values()))


def split(vector: Float[Array, " xi"], shapes: dict[str, tuple[int, ...]]) -> Interface:
    """Splits ξ into its parts, row by row."""
    parts = jnp.split(vector, interface_ends(shapes)[:-1])
    return Interface(*(p.reshape(s) for p, s in zip(parts, shapes.values(), strict=True)))


def strengths(raw: Float[Array, " heads"], activation: StrengthActivation) -> Array:
    """β = log(1 + eˣ), or with oneplus 1 + log(1 + eˣ) (Methods, "Interface parameters")."""
    return jax.nn.softplus(raw) + (1 if activation == "oneplus" else 0)


def squash(
    raw: Interface, strength_activation: StrengthActivation, read_mode_order: ReadModeOrder
) -> Interface:
    """Maps every part to its range: gates and erases to [0,1], strengths to ≥ 0 (or ≥ 1).

    Args:
      raw: the parts as the linear layer returns them.
      strength_activation: oneplus(x) = 1 + log(1 + eˣ) in the paper, softplus in the original.
      read_mode_order: the order of the modes in `raw`.

    Source: Methods, "Interface parameters".
    """
    read_mode = jax.nn.softmax(raw.read_mode, axis=-1)
    if read_mode_order == "backward, content, forward":
        heads = read_mode.shape[-1] // 2
        backward, content, forward = jnp.split(read_mode, [heads, heads + 1], axis=-1)
        read_mode = jnp.concatenate([backward, forward, content], axis=-1)
    return raw._replace(
        read_strengths=strengths(raw.read_strengths, strength_activation),
        write_strengths=strengths(raw.write_strengths, strength_activation),
        erase_vectors=jax.nn.sigmoid(raw.erase_vectors),
        free_gate=jax.nn.sigmoid(raw.free_gate),
        allocation_gate=jax.nn.sigmoid(raw.allocation_gate),
        write_gate=jax.nn.sigmoid(raw.write_gate),
        read_mode=read_mode,
    )
