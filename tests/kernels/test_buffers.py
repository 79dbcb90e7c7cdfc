"""Every array that Python passes to C++ is checked there: none may be shorter or longer.

The kernel would read or write past the end of an array of another size, and corrupt memory.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.kernels import library

SIZES = {
    "memory_size": 3, "word_size": 2, "num_read_heads": 2, "hidden_size": 4, "num_layers": 2,
    "controller": "deep_lstm",
}  # fmt: skip

VARIANTS = {
    "interface_norm": True, "controller_norm": True, "content_mask": True, "wipe_freed": True,
    "sharpen_links": True,
}  # fmt: skip
SWITCHES = {"links", "masks", "wipe_freed", "sharpen_links", "interface_norm", "controller_norm"}

HANDLERS = ["step", "sequence_backward", *later("step_backward", "sequence")]


@pytest.fixture(
    scope="module",
    params=[{}, {"linkage": "none"}, *later(VARIANTS)],
    ids=["links", "no links", "variants"],
)
def calls(request):
    """What each handler is called with: shapes and dtypes of arguments and results, attributes."""
    config = DNCConfig(**SIZES, **request.param)
    cell = DNC(2, 2, config, implementation="native", rngs=nnx.Rngs(0))
    recorded, ffi_call = {}, jax.ffi.ffi_call

    def recording(target, results, **options):
        call = ffi_call(target, results, **options)

        def wrapped(*arguments, **attributes):
            handler = re.sub(r"dncx_(\w+)_float.*", r"\1", target)
            shapes = [(x.shape, x.dtype) for x in arguments], [(x.shape, x.dtype) for x in results]
            recorded[handler] = target, *shapes, attributes
            return call(*arguments, **attributes)

        return wrapped

    def losses(cell, x):
        outputs, state = unroll(cell, x)
        _, access = cell.access(cell.access.initial_state(x.dtype), jnp.ones(8))
        return outputs.sum() + state.access_output.sum() + access.sum()

    graph, params = nnx.split(cell)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.ffi, "ffi_call", recording)
        jax.eval_shape(
            jax.grad(lambda params, x: losses(nnx.merge(graph, params), x)),
            params,
            jnp.ones((5, 2)),
        )
    assert set(recorded) == set(library.HANDLERS)
    return recorded


def run(target, arguments, results, attributes):
    function = jax.ffi.ffi_call(target, [jax.ShapeDtypeStruct(*x) for x in results])
    # From NumPy, as JAX would compile a program for each shape.
    found = function(*(np.zeros(*x) for x in arguments), **attributes)
    return jax.block_until_ready(found)


def longer(shape):
    return (*shape[:-1], shape[-1] + 1)


def shorter(shape):
    return (*shape[:-1], shape[-1] - 1)


@pytest.mark.parametrize("handler", library.HANDLERS)
def test_what_python_passes_is_accepted(handler, calls):
    run(*calls[handler])


@pytest.mark.parametrize("change", [shorter, *later(longer)])
@pytest.mark.parametrize("side", ["argument", "result"])
@pytest.mark.parametrize("handler", HANDLERS)
def test_an_array_of_another_size_is_refused(handler, side, change, calls):
    """One after the other: the error names it, and how many elements were expected."""
    target, arguments, results, attributes = calls[handler]
    given = {"argument": arguments, "result": results}
    for place, (shape, dtype) in enumerate(given[side]):
        broken = list(given[side])
        broken[place] = change(shape), dtype
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT.*expected"):
            run(target, *(given | {side: broken}).values(), attributes)


@pytest.mark.parametrize("handler", library.HANDLERS)
def test_another_number_of_arrays_is_refused(handler, calls):
    target, arguments, results, attributes = calls[handler]
    for sides in (
        (arguments[:-1], results),
        ([*arguments, arguments[-1]], results),
        (arguments, results[:-1]),
        (arguments, [*results, results[-1]]),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT"):
            run(target, *sides, attributes)


@pytest.mark.parametrize("handler", HANDLERS)
def test_another_dtype_is_refused(handler, calls):
    target, arguments, results, attributes = calls[handler]
    for place in range(len(arguments)):
        broken = list(arguments)
        broken[place] = broken[place][0], jnp.uint8
        with pytest.raises(jax.errors.JaxRuntimeError, match="another dtype"):
            run(target, broken, results, attributes)


@pytest.mark.parametrize("handler", library.HANDLERS)
def test_other_attributes_are_refused(handler, calls):
    target, arguments, results, attributes = calls[handler]
    for name in attributes:
        without = {key: value for key, value in attributes.items() if key != name}
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"attribute {name} is missing"):
            run(target, arguments, results, without)
    for name in SWITCHES & set(attributes):
        other = attributes | {name: np.bool_(not attributes[name])}
        with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT"):
            run(target, arguments, results, other)
    if "chunk" in attributes:
        for chunk in (0, -1, 1):
            wrong = attributes | {"chunk": np.int64(chunk), "keep": np.bool_(True)}
            with pytest.raises(jax.errors.JaxRuntimeError, match="expected"):
                run(target, arguments, results, wrong)


@pytest.mark.parametrize("handler", ["sequence", "sequence_backward"])
def test_axes_of_vmap_must_agree(handler, calls):
    """An argument may be the same for all groups, a result may not; two lengths are refused."""
    target, arguments, results, attributes = calls[handler]

    def grouped(arrays, length):
        return [((length, *shape), dtype) for shape, dtype in arrays]

    shared = grouped(arguments, 1)
    shared[1] = grouped(arguments, 2)[1]
    run(target, shared, grouped(results, 2), attributes)
    for wrong in (grouped(results, 1), grouped(results, 3), results):
        with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT"):
            run(target, shared, wrong, attributes)
    shared[2] = grouped(arguments, 3)[2]
    with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT"):
        run(target, shared, grouped(results, 3), attributes)


def test_without_links_no_array_is_of_their_size(calls):
    for target, arguments, results, attributes in calls.values():
        links = [shape for shape, _ in (*arguments, *results) if shape[-2:] == (3, 3)]
        assert bool(links) == bool(attributes["links"]), target


@pytest.mark.parametrize(
    "on", [{*SWITCHES}, {"links"}, set(), SWITCHES - {"links", "sharpen_links"}]
)
@pytest.mark.parametrize(("reads", "layers"), [(1, 1), (2, 1), (2, 2)])
def test_the_layout_is_that_of_the_paper(reads, layers, on):
    """By hand: weightings, gates and interface of a step; a layer's gates and cell; its inputs."""
    assert library.load("float32", reads) is None
    slots, word, inputs, hidden = 5, 3, 7, 4
    found = library.layout(
        "float32", reads, slots=slots, word=word, inputs=inputs, layers=layers, hidden=hidden,
        **{name: name in on for name in SWITCHES},
    )  # fmt: skip
    weightings = reads + 1 + 1 + 1 + 1 + reads  # as in native/sequence.h, Record
    interface = reads * word + 3 * word + 3 * reads + 3
    if "links" in on:
        weightings += 1 + 2 * reads
        interface += 2 * reads
    if "masks" in on:
        interface += (reads + 1) * word
    if "wipe_freed" in on:
        weightings += 1
    if "sharpen_links" in on:  # and the weights before they were sharpened
        weightings += 2 * reads
        interface += 2 * reads
    kept_by_norm = interface + 1 if "interface_norm" in on else 0
    assert found.record == weightings * slots + interface + kept_by_norm
    norms = 5 * (hidden + 1) if "controller_norm" in on else 0
    assert found.layer_record == 5 * hidden + norms
    assert found.layer_inputs == inputs + reads * word + (2 if layers > 1 else 1) * hidden
