"""Derivatives that exist backwards only, and errors that name what has the others."""

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
    """The tree as it is; `jax.jvp` and whatever else differentiates forwards ends in an error.

    JAX has an error of its own for functions with hand-written gradients, but that names neither
    the function nor a way out. Gradients pass: to JAX they are a forward derivative that is
    transposed before it is ever computed, so only the transpose of `_tangent` is used.

    Args:
      tree: arrays; those without derivatives stay as they are.
      limit: to which each number of a gradient that passes is clipped; None: not at all.
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


# What takes the place of a tangent: it cannot be computed, and its transpose clips the gradient.
# With it goes an empty piece of the array itself, for `_batch`.
_tangent = Primitive("dncx_tangent")


def _compute(*_: Any, limit: Number | None) -> Any:
    raise NotImplementedError(
        "forward-mode derivatives (jax.jvp, jax.jacfwd) exist only for a cell with "
        "implementation='plain' and controller_gradient_clip=None; jax.grad and jax.vjp are for all"
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

    To differentiate that gradient ends in an error that names what has second derivatives.
    """

    def refuse(*_: Any) -> Any:
        raise NotImplementedError(
            "second derivatives exist only for a cell with implementation='xla' or 'plain'; this "
            "one is computed by the native kernel"
        )

    guarded = jax.custom_jvp(function)
    guarded.defjvp(refuse)
    made: Any = guarded
    return made
