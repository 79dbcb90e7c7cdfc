"""Hand-written gradients of the two operations for which autodiff is slow; any device.

Autodiff of the link's update passes over N x N numbers a dozen times and keeps several such arrays
for each step. Here the forward pass keeps only the link before the step, and the backward pass is
a few products.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dncx.addressing import (
    TemporalLinkageState,
    backward_weights,
    forward_weights,
    product_over_heads,
    updated_link,
    updated_precedence,
)
from dncx.addressing import erase_and_write as plain_erase_and_write
from dncx.glossary import DirectionalWeights, Link, Memory, ReadWeights, WriteWeights
from dncx.kernels.derivatives import backward_only
from dncx.kernels.meshes import vary_alike


def link_step(
    state: TemporalLinkageState, write_weights: WriteWeights, read_weights: ReadWeights
) -> tuple[TemporalLinkageState, DirectionalWeights, DirectionalWeights]:
    """The same as a step of `TemporalLinkage`."""
    precedence = state.precedence_weights
    given = state.link, precedence, write_weights, read_weights
    link, forward, backward = _follow(*backward_only(vary_alike(given)))
    new_precedence = updated_precedence(precedence, write_weights)
    return TemporalLinkageState(link, new_precedence), forward, backward


def _followed(
    link: Link, precedence: WriteWeights, write: WriteWeights, read: ReadWeights
) -> tuple[Link, DirectionalWeights, DirectionalWeights]:
    """The new link matrix, and the forward and backward weights read from it."""
    link = updated_link(link, precedence, write)
    return link, forward_weights(link, read), backward_weights(link, read)


_follow = jax.custom_vjp(_followed)


def _follow_forward(*given: Any) -> Any:
    return _followed(*given), _kept(given)


def _kept(given: Any) -> Any:
    """Arguments that the backward pass needs.

    They are behind a barrier, since JAX 0.10 confuses the order of values that it recognises as
    arguments when a scan is differentiated twice.
    """
    return jax.lax.optimization_barrier(given)


def _follow_backward(kept: Any, gradients: Any) -> Any:
    link, precedence, write, read = kept
    new_link = updated_link(link, precedence, write)
    d_new_link, d_forward, d_backward = gradients
    reads = jnp.broadcast_to(read[:, None], d_forward.shape)
    rows = jnp.concatenate([d_forward, reads])  # f = L r and b = Lᵀ r, as one product
    columns = jnp.concatenate([reads, d_backward])
    d_new_link += jnp.einsum("kmi,kmj->mij", rows, columns)
    d_new_link *= 1 - jnp.eye(link.shape[-1], dtype=link.dtype)[None]
    d_link = (1 - write[:, :, None] - write[:, None, :]) * d_new_link
    product = d_new_link * link
    d_write = jnp.einsum("mij,mj->mi", d_new_link, precedence)
    d_write -= product.sum(axis=2) + product.sum(axis=1)
    d_precedence = jnp.einsum("mij,mi->mj", d_new_link, write)
    d_read = jnp.einsum("mij,rmi->rj", new_link, d_forward)
    d_read += jnp.einsum("mij,rmj->ri", new_link, d_backward)
    return d_link, d_precedence, d_write, d_read


_follow.defvjp(_follow_forward, _follow_backward)


def erase_and_write(
    memory: Memory,
    write_weights: WriteWeights,
    erase_vectors: Float[Array, "M W"],
    write_vectors: Float[Array, "M W"],
) -> Memory:
    """The same as `addressing.erase_and_write`."""
    given = memory, write_weights, erase_vectors, write_vectors
    return _write(*backward_only(vary_alike(given)))


_write = jax.custom_vjp(plain_erase_and_write)


def _write_forward(*given: Any) -> Any:
    return plain_erase_and_write(*given), _kept(given)


def _write_backward(given: Any, d_memory: jax.Array) -> Any:
    memory, write, erase, vectors = given
    factors = [1 - w[:, None] * e[None, :] for w, e in zip(write, erase, strict=True)]
    d_keep = d_memory * memory
    d_write, d_erase = [], []
    for head, (w, e) in enumerate(zip(write, erase, strict=True)):
        others = factors[:head] + factors[head + 1 :]
        d_factor = d_keep * product_over_heads(jnp.stack(others)) if others else d_keep
        d_write.append(-(d_factor @ e))
        d_erase.append(-(w @ d_factor))
    return (
        d_memory * product_over_heads(jnp.stack(factors)),
        jnp.stack(d_write) + vectors @ d_memory.T,
        jnp.stack(d_erase),
        write @ d_memory,
    )


_write.defvjp(_write_forward, _write_backward)
