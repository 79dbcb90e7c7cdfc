"""Addressing of the memory: by content, by free slots, and by the order of writing.

Each of the three mechanisms of Graves et al. (2016) is a few pure functions for one example.
`ContentAddressing`, `Freeness` and `TemporalLinkage` bundle the functions into the parts that
`dncx.MemoryAccess` takes; custom parts can replace them (dncx/parts.py).
"""

from functools import reduce
from operator import mul
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.checks import check_number, check_size
from dncx.glossary import DirectionalWeights, Link, Memory, Number, ReadWeights, Usage, WriteWeights
from dncx.kernels.choice import known_to_kernels

# Keeps cosine similarity finite for empty slots and zero keys (the original's value).
COSINE_EPSILON = 1e-6
# A shorter vector counts as zero. Without an epsilon (the paper) its cosine would follow its
# direction, which is rounding noise, with a gradient of size 1 / length, which would overflow.
SHORTEST_VECTOR = 1e-6
# Keeps the gradient of dˢ finite at slots that no link leads to (Csordás and Schmidhuber's value).
SHARPENING_EPSILON = 1e-6
# Keeps usage off exact zero, where the product over sorted usages would pass no gradient.
ALLOCATION_EPSILON = 1e-6


def checked_epsilon(epsilon: Number) -> Number:
    """The epsilon of a part: a number of at least 0, or an array, which may be traced.

    Raises:
      ValueError: if it is a number below 0, or no number.
    """
    return epsilon if isinstance(epsilon, jax.Array) else check_number("epsilon", epsilon)


def vector_norms(vectors: Float[Array, "heads W"], epsilon: Number) -> Float[Array, " heads"]:
    """|v| = √(Σ v² + ε); 0, with gradient 0, for vectors shorter than `SHORTEST_VECTOR`."""
    return _root(jnp.sum(vectors * vectors, axis=-1) + epsilon)


def _root(squares: Array) -> Array:
    """√x of squared lengths; 0, with gradient 0, for vectors shorter than `SHORTEST_VECTOR`."""
    long = squares >= SHORTEST_VECTOR**2
    return jnp.where(long, jnp.sqrt(jnp.where(long, squares, 1)), 0)


def content_weights(
    memory: Memory,
    keys: Float[Array, "heads W"],
    strengths: Float[Array, " heads"],
    epsilon: Number = COSINE_EPSILON,
) -> Float[Array, "heads N"]:
    """C(M, k, β)[i] = softmax_i( β · k·M[i] / (|k| |M[i]| + ε) ), one row per key.

    Args:
      memory, keys: the slots to compare with, and one key per head.
      strengths: β ≥ 0, after oneplus or softplus; the larger, the sharper.
      epsilon: added to the squared norms and to their product. With 0 (the paper) the
        similarity to a zero vector, undefined there, is taken as 0.

    Source: Methods, "Content-based addressing".
    """
    key_norms, memory_norms = vector_norms(keys, epsilon), vector_norms(memory, epsilon)
    norms = key_norms[:, None] * memory_norms[None, :] + epsilon
    return _most_similar(keys @ memory.T, norms, strengths)


def masked_content_weights(
    memory: Memory,
    keys: Float[Array, "heads W"],
    strengths: Float[Array, " heads"],
    masks: Float[Array, "heads W"],
    epsilon: Number = COSINE_EPSILON,
) -> Float[Array, "heads N"]:
    """C(M ∘ m, k ∘ m, β): content weights from a part of each word, with a mask m per key.

    Args:
      memory, keys, strengths, epsilon: see `content_weights`.
      masks: how much each number of a word counts, 0 to 1.

    Source: Csordás and Schmidhuber 2019, arXiv:1904.10278.
    """
    squares = masks * masks
    memory_norms = _root(squares @ (memory * memory).T + epsilon)  # of M[i] ∘ m
    norms = vector_norms(keys * masks, epsilon)[:, None] * memory_norms + epsilon
    return _most_similar((keys * squares) @ memory.T, norms, strengths)


def _most_similar(
    dots: Float[Array, "heads N"],
    norms: Float[Array, "heads N"],
    strengths: Float[Array, " heads"],
) -> Float[Array, "heads N"]:
    """softmax_i( β · dot[i] / norm[i] ), with a similarity of 0 if the norm is 0."""
    similarity = jnp.where(norms > 0, dots / jnp.where(norms > 0, norms, 1), 0)
    # β times a difference: the difference of two huge products is rounding error and overflows exp.
    highest = jax.lax.stop_gradient(similarity.max(axis=-1, keepdims=True))
    return jax.nn.softmax(strengths[:, None] * (similarity - highest), axis=-1)


@known_to_kernels("content")
class ContentAddressing(nnx.Module):
    """Finds the slots whose content is similar to a key.

    A custom content addressing is a `dncx.ContentLike`. It has no state.

    Args:
      epsilon: see `content_weights`; 0 in the paper.
    """

    mask_size = 0

    def __init__(self, *, epsilon: Number = COSINE_EPSILON):
        self.epsilon = checked_epsilon(epsilon)

    def __call__(
        self,
        memory: Memory,
        keys: Float[Array, "heads W"],
        strengths: Float[Array, " heads"],
        masks: None = None,
    ) -> Float[Array, "heads N"]:
        """The content weighting of every head; see `content_weights`."""
        return content_weights(memory, keys, strengths, self.epsilon)


@known_to_kernels("content")
class MaskedContentAddressing(nnx.Module):
    """Content addressing in which the controller selects the numbers of a word that count.

    Args:
      word_size: W, the length of a mask; each head has one.
      least_mask: λ; a mask is λ + (1 - λ) m with m from the controller. If λ > 0, every number
        counts a little. The authors use 0, but 0.1 for associative recall, which was not learned
        with 0.
      epsilon: see `content_weights`.

    Source: the DNC-M of Csordás and Schmidhuber 2019, arXiv:1904.10278.
    """

    def __init__(
        self, word_size: int, *, least_mask: Number = 0.0, epsilon: Number = COSINE_EPSILON
    ):
        self.mask_size = check_size("word_size", word_size)
        self.least_mask = least_mask
        self.epsilon = checked_epsilon(epsilon)

    def __call__(
        self,
        memory: Memory,
        keys: Float[Array, "heads W"],
        strengths: Float[Array, " heads"],
        masks: Float[Array, "heads W"],
    ) -> Float[Array, "heads N"]:
        """The content weighting of every head; see `masked_content_weights`."""
        masks = self.least_mask + (1 - self.least_mask) * masks
        return masked_content_weights(memory, keys, strengths, masks, self.epsilon)


def product_over_heads(factors: Float[Array, "heads ..."]) -> Float[Array, "..."]:
    """Π over the first axis, factor by factor: few heads make this far faster than `jnp.prod`."""
    return reduce(mul, factors)


def erase_and_write(
    memory: Memory,
    write_weights: WriteWeights,
    erase_vectors: Float[Array, "M W"],
    write_vectors: Float[Array, "M W"],
) -> Memory:
    """M ← M ∘ Πₘ(1 - wₘ eₘᵀ) + Σₘ wₘ vₘᵀ: all erases, then all writes.

    Source: Methods, "Memory" (with one write head).
    """
    keep = product_over_heads(1 - write_weights[:, :, None] * erase_vectors[:, None, :])
    return memory * keep + write_weights.T @ write_vectors


def usage_after_write(usage: Usage, write_weights: WriteWeights) -> Usage:
    """u + (1 - u) ∘ (1 - Πₘ(1 - wₘ)): a slot that was written is in use.

    With one write head this is the paper's u + w - u∘w (Methods, "Dynamic memory allocation").
    """
    return usage + (1 - usage) * (1 - product_over_heads(1 - write_weights))


def retention(free_gate: Float[Array, " R"], read_weights: ReadWeights) -> Usage:
    """ψ = Πᵢ(1 - fⁱ wⁱ): how far each slot stays in use after reading.

    Source: Methods, "Dynamic memory allocation".
    """
    return product_over_heads(1 - free_gate[:, None] * read_weights)


def usage_after_read(
    usage: Usage, free_gate: Float[Array, " R"], read_weights: ReadWeights
) -> Usage:
    """u ∘ ψ: a free gate of 1 frees the slots read (Methods, "Dynamic memory allocation")."""
    return usage * retention(free_gate, read_weights)


def allocation_weights(usage: Usage, epsilon: Number = ALLOCATION_EPSILON) -> Usage:
    """a[φⱼ] = (1 - u[φⱼ]) Π_{i<j} u[φᵢ], where φ sorts the slots by usage, freest first.

    Slots of equal usage are sorted by their index. The gradient ignores changes of the order, as in
    the paper (Methods, "Dynamic memory allocation"). With epsilon, u is first replaced by
    ε + (1 - ε) u.
    """
    free = 1 - (epsilon + (1 - epsilon) * usage)
    order = jnp.argsort(-free, stable=True)
    sorted_free = free[order]
    sorted_usage = 1 - sorted_free
    used_before = jnp.cumprod(jnp.concatenate([jnp.ones_like(free[:1]), sorted_usage[:-1]]))
    return jnp.zeros_like(usage).at[order].set(sorted_free * used_before, unique_indices=True)


@known_to_kernels("freeness")
class Freeness(nnx.Module):
    """Usage of the slots, and allocation of free slots for the next write.

    A custom freeness is a `dncx.FreenessLike`. The state is the usage u of every slot.

    Args:
      memory_size: N.
      epsilon: see `allocation_weights`; 0 in the paper.
      write_gradient: whether usage passes gradient to the previous write weights (the paper)
        or stops it (the original).
    """

    def __init__(
        self,
        memory_size: int,
        *,
        epsilon: Number = ALLOCATION_EPSILON,
        write_gradient: bool = False,
    ):
        self.memory_size = check_size("memory_size", memory_size)
        self.epsilon = checked_epsilon(epsilon)
        self.write_gradient = write_gradient

    def initial_state(self, dtype: DTypeLike) -> Usage:
        """All slots are free."""
        return jnp.zeros(self.memory_size, dtype)

    def __call__(
        self,
        usage: Usage,
        write_weights: WriteWeights,
        free_gate: Float[Array, " R"],
        read_weights: ReadWeights,
    ) -> Usage:
        """u_t from the weights of step t-1 and the free gates of step t."""
        if not self.write_gradient:
            write_weights = jax.lax.stop_gradient(write_weights)
        return usage_after_read(usage_after_write(usage, write_weights), free_gate, read_weights)

    def write_allocation_weights(
        self, usage: Usage, write_gates: Float[Array, " M"]
    ) -> WriteWeights:
        """The allocation weights of each write head, given the slots that earlier heads take.

        Args:
          usage: u_t; the simulated usage u += (1 - u) g a between heads is not kept.
          write_gates: g = g^a g^w of every head.
        """
        allocations = []
        for gate in write_gates:
            allocations.append(allocation_weights(usage, self.epsilon))
            usage = usage + (1 - usage) * gate * allocations[-1]
        return jnp.stack(allocations)


class TemporalLinkageState(NamedTuple):
    """The order in which slots were written, for each write head."""

    link: Link
    precedence_weights: WriteWeights


def updated_link(link: Link, precedence_weights: WriteWeights, write_weights: WriteWeights) -> Link:
    """L[i,j] ← (1 - w[i] - w[j]) L[i,j] + w[i] p[j], L[i,i] = 0, with p of step t-1.

    Source: Methods, "Temporal memory linkage".
    """
    to, since = write_weights[:, :, None], write_weights[:, None, :]
    link = (1 - to - since) * link + to * precedence_weights[:, None, :]
    return link * (1 - jnp.eye(link.shape[-1], dtype=link.dtype))[None]


def updated_precedence(
    precedence_weights: WriteWeights, write_weights: WriteWeights
) -> WriteWeights:
    """p ← (1 - Σᵢ w[i]) p + w: how far each slot was the last one written to.

    Source: Methods, "Temporal memory linkage".
    """
    return (1 - write_weights.sum(axis=-1, keepdims=True)) * precedence_weights + write_weights


def forward_weights(link: Link, read_weights: ReadWeights) -> DirectionalWeights:
    """f = L w^r: the slots written right after those that were read.

    Source: Methods, "Temporal memory linkage"; one weighting for each read and write head.
    """
    return jnp.einsum("mij,rj->rmi", link, read_weights)


def backward_weights(link: Link, read_weights: ReadWeights) -> DirectionalWeights:
    """b = Lᵀ w^r: the slots written right before those that were read; see `forward_weights`."""
    return jnp.einsum("mij,ri->rmj", link, read_weights)


def sharpened(weights: DirectionalWeights, sharpness: Float[Array, "R M"]) -> DirectionalWeights:
    """S(d, s)[i] = (d[i] + ε)ˢ / Σⱼ (d[j] + ε)ˢ: larger weights gain, and the sum becomes 1.

    If all weights are 0, the result is the same for all slots.

    Args:
      weights: forward or backward weights d.
      sharpness: s ≥ 1.

    Source: Csordás and Schmidhuber 2019, arXiv:1904.10278, with the ε of their code.
    """
    # Rounding may make a weight slightly negative. (jnp.maximum would halve the gradient at 0.)
    logs = jnp.log(jnp.where(weights < 0, 0, weights) + SHARPENING_EPSILON)
    highest = jax.lax.stop_gradient(logs.max(axis=-1, keepdims=True))
    return jax.nn.softmax(sharpness[:, :, None] * (logs - highest), axis=-1)


@known_to_kernels("linkage")
class NoLinkage(nnx.Module):
    """No links: every read is by content, and a step needs no N x N matrix.

    The state is empty. There are no forward or backward weights, so content is the only read mode,
    and ξ has 2 R M fewer numbers.

    Source: Franke, Niehues, Waibel 2018 (ADNC), "content-based memory unit".
    """

    def initial_state(self, dtype: DTypeLike) -> tuple[()]:
        """The empty state."""
        return ()

    def __call__(
        self, state: tuple[()], write_weights: WriteWeights, read_weights: ReadWeights
    ) -> tuple[tuple[()], Float[Array, "R 0 N"], Float[Array, "R 0 N"]]:
        """The empty state, and forward and backward weights without any direction."""
        none = no_directions(read_weights)
        return state, none, none


def no_directions(read_weights: ReadWeights) -> Float[Array, "R 0 N"]:
    """The forward or backward weights of a memory without links."""
    heads, slots = read_weights.shape
    return jnp.zeros((heads, 0, slots), read_weights.dtype)


@known_to_kernels("linkage")
class TemporalLinkage(nnx.Module):
    """Keeps the order of writing, and follows it from the slots that were read.

    A custom linkage is a `dncx.LinkageLike`; its state can be any tree of arrays.

    Args:
      memory_size: N.
      num_write_heads: M; every write head has its own link matrix.
    """

    def __init__(self, memory_size: int, num_write_heads: int = 1):
        self.memory_size = check_size("memory_size", memory_size)
        self.num_write_heads = check_size("num_write_heads", num_write_heads)

    def initial_state(self, dtype: DTypeLike) -> TemporalLinkageState:
        """No slot has been written yet."""
        heads, slots = self.num_write_heads, self.memory_size
        return TemporalLinkageState(
            link=jnp.zeros((heads, slots, slots), dtype),
            precedence_weights=jnp.zeros((heads, slots), dtype),
        )

    def __call__(
        self, state: TemporalLinkageState, write_weights: WriteWeights, read_weights: ReadWeights
    ) -> tuple[TemporalLinkageState, DirectionalWeights, DirectionalWeights]:
        """Adds the writes of step t, and follows the links from the reads of step t-1.

        Returns:
          The new state, the forward weights f and the backward weights b.
        """
        link = updated_link(state.link, state.precedence_weights, write_weights)
        precedence_weights = updated_precedence(state.precedence_weights, write_weights)
        return (
            TemporalLinkageState(link, precedence_weights),
            forward_weights(link, read_weights),
            backward_weights(link, read_weights),
        )
