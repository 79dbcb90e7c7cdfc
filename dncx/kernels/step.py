"""One step of the memory access by the native kernel."""

from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Array

from dncx.addressing import no_directions
from dncx.interface import Interface
from dncx.kernels import library
from dncx.kernels.derivatives import backward_only, first_derivative_only
from dncx.kernels.meshes import vary_alike

State = TypeVar("State")
# The positions of memory and link among the arrays of a state: the kernel updates them in place, as
# a copy would cost as much as the step. The state is memory, read weights, write weights, link,
# precedence weights, usage; without links, link and precedence weights are missing.
_MEMORY, _LINK = 0, 3


class Options(NamedTuple):
    """The settings of an access that affect its equations."""

    cosine_epsilon: float
    allocation_epsilon: float
    least_mask: float
    write_gradient: bool
    links: bool
    masks: bool
    wipe_freed: bool
    sharpen_links: bool


class Trace(NamedTuple):
    """What a step computes beyond the new state and the words read, in the order of the kernel.

    The parts of an option that is off are None.
    """

    allocation_weights: Any
    write_content_weights: Any
    read_content_weights: Any
    forward_weights: Any
    backward_weights: Any
    retention: Any
    raw_forward_weights: Any  # before they were sharpened; only for the backward pass
    raw_backward_weights: Any


def access_step(options: Options, state: State, interface: Interface) -> tuple[State, Array, Any]:
    """One step of a `MemoryAccess` with one write head, for one example.

    Args:
      options: settings.
      state: an `AccessState`.
      interface: ξ.

    Returns:
      The new state, the words read, and the fields of `AccessTrace` after the interface.

    Raises:
      ValueError: if the sizes of state and interface do not match.
    """
    heads, word = interface.read_keys.shape
    found = [x.shape for x in jax.tree.leaves(state)]
    slots = found[0][0]
    links = [(1, slots, slots), (1, slots)] if options.links else []
    sizes = [(slots, word), (heads, slots), (1, slots), *links, (slots,)]
    if found != sizes:
        raise ValueError(f"the state must have arrays of shapes {sizes}; got {found}")
    given = backward_only(vary_alike((state, interface)))
    made: Any = _step(options, *given)
    new_state, words, trace = made
    if not options.links:
        none = no_directions(new_state.read_weights)
        trace = trace._replace(forward_weights=none, backward_weights=none)
    return new_state, words, trace[: Trace._fields.index("raw_forward_weights")]


def call(
    handler: str, given: Any, results: Any, aliases: dict[int, int], attributes: dict[str, Any]
) -> Any:
    """Calls a handler of native.cc, which checks the number of elements of every array.

    Args:
      handler: one of `library.HANDLERS`.
      given: a tree of arrays, in the handler's order, all of one dtype except for int32 flags.
      results: a tree of shapes.
      aliases: pairs of a leaf of `given` and the result that may overwrite it.
      attributes: scalar arguments by name.
    """
    shapes, tree = jax.tree.flatten(results)
    arrays = jax.tree.leaves(given)
    dtype, *others = sorted({str(x.dtype) for x in (*arrays, *shapes)} - {"int32"})
    if others:
        raise ValueError(f"the native kernel takes arrays of one dtype, not {dtype} and {others}")
    rest = dict(attributes)
    read_heads = rest.pop("read_heads")  # part of the handler's name
    function = jax.ffi.ffi_call(
        library.target(handler, dtype, read_heads),
        shapes,
        # A step is one example, and vmap adds a batch to all its arrays. A sequence already has a
        # batch; vmap adds groups (for example seeds), which may share arrays.
        vmap_method="expand_dims" if handler.startswith("sequence") else "broadcast_all",
        input_output_aliases=aliases,
    )
    kinds = {bool: np.bool_, int: np.int64, float: np.float64}
    typed = {name: kinds[type(value)](value) for name, value in rest.items()}
    made = first_derivative_only(lambda *arrays: function(*arrays, **typed))(*arrays)
    # JAX assumes that the results of C++ are the same on all devices.
    return jax.tree.unflatten(tree, vary_alike(made, arrays))


def shapes_of(tree: Any) -> Any:
    """The shapes and dtypes of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _step(options: Options, state: Any, interface: Interface) -> Any:
    heads, slots = state.read_weights.shape
    word, dtype = interface.write_keys.shape[-1], state.memory.dtype

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    write, direction = array(1, slots), array(heads, 1, slots)
    trace = Trace(
        allocation_weights=write,
        write_content_weights=write,
        read_content_weights=array(heads, slots),
        forward_weights=direction if options.links else None,
        backward_weights=direction if options.links else None,
        retention=array(slots) if options.wipe_freed else None,
        raw_forward_weights=direction if options.sharpen_links else None,
        raw_backward_weights=direction if options.sharpen_links else None,
    )
    return call(
        "step",
        (state, interface),
        (shapes_of(state), array(heads, word), trace),
        {place: place for place in _in_place(options)},
        options._asdict() | {"read_heads": heads},
    )


def _in_place(options: Options) -> list[int]:
    return [_MEMORY, _LINK] if options.links else [_MEMORY]


def _forward(options: Options, state: Any, interface: Interface) -> Any:
    made: Any = _step(options, state, interface)
    new_state, _, trace = made
    return made, (state, interface, (new_state.read_weights, new_state.write_weights, *trace))


def _backward(options: Options, kept: Any, gradients: Any) -> Any:
    state, interface, _ = kept
    first = len(jax.tree.leaves(kept))
    return call(
        "step_backward",
        (kept, gradients),
        shapes_of((state, interface)),
        {first + place: place for place in _in_place(options)},
        options._asdict() | {"read_heads": state.read_weights.shape[0]},
    )


_step.defvjp(_forward, _backward)
