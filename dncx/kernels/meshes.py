"""Arrays that are divided among devices, if JAX records the division in their types.

There are two cases. Inside `jax.shard_map(check_vma=True)` a type names the mesh axes along which
an array varies. On a mesh with explicit axes (`jax.set_mesh`) it names the mesh axes that divide
each axis of the array. JAX converts between such types for its own operations, but not for the
carry of a scan, the arguments of a hand-written gradient, or the results of C++.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

Tree = TypeVar("Tree")


def vary_alike(tree: Tree, *others: Any) -> Tree:
    """The tree, with every array typed to vary along all mesh axes along which any array varies.

    Args:
      tree: any tree; leaves that are not arrays are not changed.
      others: further arrays whose mesh axes count.
    """
    if jax.sharding.get_abstract_mesh().empty:  # the usual case, and much cheaper to find out
        return tree
    arrays = [x for x in jax.tree.leaves((tree, others)) if isinstance(x, jax.Array)]
    axes = frozenset[str]().union(*map(_varying_axes, arrays))

    def varying(x: Any) -> Any:
        missing = axes - _varying_axes(x) if isinstance(x, jax.Array) else ()
        return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x

    return jax.tree.map(varying, tree)


def _varying_axes(x: Array) -> frozenset[str]:
    return jax.typeof(x).manual_axis_type.varying


def batch_division(x: Array, batch: slice) -> NamedSharding | None:
    """The explicit mesh axes that divide the batch axes of an array.

    None if they are not divided, or if the type of the array does not show it.
    """
    sharding = jax.typeof(x).sharding
    explicit = {
        name
        for name, kind in zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True)
        if kind == AxisType.Explicit
    }
    spec = [*sharding.spec, *[None] * (x.ndim - len(sharding.spec))]
    divided = [names if _names(names) & explicit else None for names in spec[batch]]
    if not any(divided):
        return None
    return NamedSharding(_mesh_of(x), PartitionSpec(*divided))


def gathered(x: Array, axis: int) -> Array:
    """The array, with an axis that no mesh axis divides, for example the axis of a loop."""
    sharding = jax.typeof(x).sharding
    spec = list(sharding.spec)
    if axis >= len(spec) or spec[axis] is None:
        return x
    spec[axis] = None
    return jax.sharding.reshard(x, NamedSharding(_mesh_of(x), PartitionSpec(*spec)))


def _mesh_of(x: Array) -> Any:
    # A traced array knows the shape of its mesh only, which serves there as well.
    sharding = jax.typeof(x).sharding if isinstance(x, Tracer) else x.sharding
    return cast(NamedSharding, sharding).mesh


def by_shards(
    function: Callable[[Any, Any, Any], Any],
    division: NamedSharding | None,
    cell: Any,
    by_example: Any,
    by_step: Any,
) -> Any:
    """function(cell, by_example, by_step), on each device for its part of the batch.

    Therefore, no operation inside sees a divided axis: operations of custom parts may not support
    it, and for C++, JAX would compute the complete batch on every device.

    Args:
      function: returns (by_example, by_step).
      division: from `batch_division`; if it is None, the function is simply called.
      cell: a tree; each device gets all of it.
      by_example: a tree of arrays [*batch, ...].
      by_step: a tree of arrays [time, *batch, ...].
    """
    if division is None:
        return function(cell, by_example, by_step)
    mesh, batch = division.mesh, division.spec
    axes = frozenset[str]().union(*map(_names, batch))
    steps = PartitionSpec(None, *batch)

    def placed(tree: Any, spec: PartitionSpec) -> Any:
        """The specification in which `axes` divide the batch and no other axis."""

        def place(x: Any) -> Any:
            old = jax.typeof(x).sharding.spec
            rest = [None if _names(names) & axes else names for names in old]
            rest += [None] * (x.ndim - len(rest))
            spec_of_all = PartitionSpec(*spec, *rest[len(spec) :])
            return jax.sharding.reshard(x, NamedSharding(mesh, spec_of_all))

        return jax.tree.map(place, tree)

    divided = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(PartitionSpec(), batch, steps),
        out_specs=(batch, steps),
        axis_names=set(axes),
        check_vma=False,
    )
    return divided(placed(cell, PartitionSpec()), placed(by_example, batch), placed(by_step, steps))


def _names(names: Any) -> frozenset[str]:
    """An entry of a `PartitionSpec` as a set: a name, several of them, or None."""
    if not isinstance(names, str | tuple):
        return frozenset()
    return frozenset([names] if isinstance(names, str) else names)
