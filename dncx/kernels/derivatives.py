"""Errors for derivatives that only some implementations support."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from dncx.glossary import Number

Tree = TypeVar("Tree")
Function = TypeVar("Function", bound=Callable[..., Any])


def backward_only(tree: Tree, limit: Number | None = None) -> Tree:
    """Returns the tree unchanged; forward-mode differentiation (`jax.jvp`) raises an error.

    JAX's own error for functions with hand-written gradients names neither the function nor a
    remedy. Reverse-mode gradients pass: to JAX they are a forward derivative that is transposed
    before it is computed, so only the transpose of `_tangent` is used.

    Args:
      tree: arrays; those without derivatives are not changed.
      limit: limit to which each element of a passing gradient is clipped; None: no clipping.
    """
    leaves, structure = jax.tree.flatten(tree)
    # Only a traced array can have a derivative. (Outside of jit the rest would cost milliseconds.)
    places = [i for i, x in enumerate(leaves) if _is_traced_float(x)]
    if places:
        guarded: Any = _identity([leaves[i] for i in places], limit)
        for i, x in zip(places, guarded, strict=True):
            leaves[i] = x
    return jax.tree.unflatten(structure, leaves)


def _is_traced_float(x: Any) -> bool:
    return isinstance(x, Tracer) and jnp.issubdtype(x.dtype, jnp.inexact)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _identity(arrays: list[Array], limit: Number | None) -> list[Array]:
    return arrays


def _identity_jvp(limit: Number | None, primals: Any, tangents: Any) -> Any:
    (arrays,), (changes,) = primals, tangents
    return arrays, [_guarded(x, t, limit) for x, t in zip(arrays, changes, strict=True)]


def _guarded(x: Array, tangent: Any, limit: Number | None) -> Any:
    if isinstance(tangent, SymbolicZero):
        return tangent
    return _tangent.bind(tangent, x.reshape(-1)[:0], limit=limit)


_identity.defjvp(_identity_jvp, symbolic_zeros=True)


# This replaces a tangent: it cannot be computed, and its transpose clips the gradient. It also
# takes an empty slice of the array itself, for `_batch`.
_tangent = Primitive("dncx_tangent")


def _compute(*_: Any, limit: Number | None) -> Any:
    raise NotImplementedError(
        "forward-mode derivatives (jax.jvp, jax.jacfwd) need a cell with implementation='plain' "
        "and controller_gradient_clip=None; jax.grad and jax.vjp work with every cell"
    )


def _transpose(cotangent: Any, *_: Any, limit: Number | None) -> list[Any]:
    if limit is None or isinstance(cotangent, ad.Zero):
        return [cotangent, None]
    return [jnp.clip(cotangent, -limit, limit), None]


def _batch(given: Any, axes: Any, *, limit: Number | None) -> Any:
    # jax.jacfwd of a compiled function takes several tangents of one array. Its next step would
    # be an error of JAX's own, at the first hand-written gradient.
    (tangent, piece), (axis, axis_of_array) = given, axes
    if axis_of_array is None and axis is not None:
        _compute(limit=limit)
    return _tangent.bind(tangent, piece, limit=limit), axis


_tangent.def_impl(_compute)
_tangent.def_abstract_eval(lambda tangent, piece, **_: tangent)
mlir.register_lowering(_tangent, _compute)
ad.deflinear2(_tangent, _transpose)
batching.primitive_batchers[_tangent] = _batch


def first_derivative_only(function: Function) -> Function:
    """A function from arrays to a list of arrays, for C++ that a hand-written gradient calls.

    Differentiating that gradient raises an error that names the implementations that support it.
    """

    def refuse(*_: Any) -> Any:
        raise NotImplementedError(
            "second derivatives need a cell with implementation='xla' or 'plain'; the native "
            "kernel, which computes this cell, does not support them"
        )

    guarded = jax.custom_jvp(function)
    guarded.defjvp(refuse)
    made: Any = guarded
    return made
