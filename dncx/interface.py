"""The interface ξ: the vector by which the controller controls the memory in one step."""

import math
from collections.abc import Callable
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
    the columns are [backward, forward, content]. Without links, content is the only one. The masks
    exist only if the content addressing has a `mask_size` K above 0, and the sharpness only with
    `sharpen_links` (`DNCConfig`).
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
    read_masks: Float[Array, "R K"] | None = None
    write_masks: Float[Array, "M K"] | None = None
    forward_sharpness: Float[Array, "R M"] | None = None
    backward_sharpness: Float[Array, "R M"] | None = None


def interface_shapes(
    word_size: int,
    num_read_heads: int,
    num_write_heads: int,
    *,
    links: bool = True,
    mask_size: int = 0,
    sharpen_links: bool = False,
) -> dict[str, tuple[int, ...]]:
    """The shape of every part of ξ by its name, in the order of the vector.

    Args:
      word_size, num_read_heads, num_write_heads: W, R, M.
      links: whether a read head has forward and backward modes, M each.
      mask_size: K, numbers of each head's mask; 0: no masks.
      sharpen_links: whether there is a sharpness for every direction.
    """
    reads, writes = num_read_heads, num_write_heads
    directions = 2 * writes if links else 0
    shapes: dict[str, tuple[int, ...]] = {
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
    if mask_size:
        shapes |= {"read_masks": (reads, mask_size), "write_masks": (writes, mask_size)}
    if sharpen_links:
        shapes |= dict.fromkeys(("forward_sharpness", "backward_sharpness"), (reads, writes))
    return shapes


def interface_ends(shapes: dict[str, tuple[int, ...]]) -> list[int]:
    """The end of each part of ξ; the last is its length, RW + 3W + 5R + 3 for one write head."""
    return list(accumulate(math.prod(shape) for shape in shapes.values()))


def split(vector: Float[Array, " xi"], shapes: dict[str, tuple[int, ...]]) -> Interface:
    """Splits ξ into its parts, row by row."""
    parts = jnp.split(vector, interface_ends(shapes)[:-1])
    named = zip(shapes.items(), parts, strict=True)
    return Interface(**{name: part.reshape(shape) for (name, shape), part in named})


def strengths(raw: Float[Array, " heads"], activation: StrengthActivation) -> Array:
    """β = log(1 + eˣ), or with oneplus 1 + log(1 + eˣ) (Methods, "Interface parameters")."""
    return oneplus(raw) if activation == "oneplus" else jax.nn.softplus(raw)


def oneplus(raw: Array) -> Array:
    """1 + log(1 + eˣ), at least 1 (Methods, "Interface parameters")."""
    return 1 + jax.nn.softplus(raw)


def squash(
    raw: Interface, strength_activation: StrengthActivation, read_mode_order: ReadModeOrder
) -> Interface:
    """Maps every part to its range: gates, erases and masks to [0,1], strengths to ≥ 0 (or ≥ 1).

    The sharpness of links is at least 1.

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
        read_masks=_if_any(jax.nn.sigmoid, raw.read_masks),
        write_masks=_if_any(jax.nn.sigmoid, raw.write_masks),
        forward_sharpness=_if_any(oneplus, raw.forward_sharpness),
        backward_sharpness=_if_any(oneplus, raw.backward_sharpness),
    )


def _if_any(function: Callable[[Array], Array], raw: Array | None) -> Array | None:
    """The function applied to a part; None for a part that this interface does not have."""
    return None if raw is None else function(raw)
