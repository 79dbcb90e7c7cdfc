"""What holds of the addressing and the interface whatever the numbers, in float32 and bfloat16.

Zeros, numbers too small for their dtype's normal form, huge ones, equal ones, gates and usages of
exactly 0 and 1. "Huge" is up to 1e15 for keys, memory and what is written, whose squares and
products of squares must stay below 3e38, and up to 3e38 for strengths and raw gates. Gradients are
claimed for numbers up to 1e4 and strengths up to 1e6: beyond, their products overflow in truth.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from dncx import DNCConfig, Freeness, TemporalLinkage, addressing
from dncx.access import AccessState
from dncx.addressing import TemporalLinkageState
from dncx.interface import interface_ends, interface_shapes, split, squash

N, W, R, M, H = 5, 3, 2, 1, 4
SIZES = {"memory_size": N, "word_size": W, "num_read_heads": R, "num_write_heads": M}
PRESETS = {"deepmind": DNCConfig.deepmind(**SIZES), "nature": DNCConfig.nature(**SIZES)}
TOLERANCES = {jnp.float32: 1e-5, jnp.bfloat16: 0.04}  # some roundings
SHARES = [0, 1e-45, 1e-38, 1e-30, 1e-6, 0.25, 0.5, 1 - 2**-8, 1 - 2**-24, 1]
SMALL = [0, -0.0, 1e-45, -1e-38, 1e-20, -1e-6, 1e-3, 0.5, 1, -1, 3, -100, 1e4]
HUGE = [*SMALL, -1e10, 1e15, -1e15]
STRENGTHS = [0, 1e-45, 1e-6, 0.5, 1, 3, 50, 1e4, 1e6]
ANY_STRENGTH = [*STRENGTHS, 1e10, 1e30, 3e38]
RAW = [*HUGE, 88, -104, 1e30, -1e30, 3e38, -3e38]


def quick(examples):
    """As many examples, the same ones in every run, and nothing kept of them."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def arrays(values, *shape):
    """Of these values, and of others between them."""
    lowest, highest = min(values), max(values)
    one = st.one_of(st.sampled_from(values), st.floats(lowest, highest))
    size = int(np.prod(shape))
    return st.one_of(
        st.lists(one, min_size=size, max_size=size),
        st.lists(st.sampled_from(values), min_size=size, max_size=size),
        one.map(lambda value: [value] * size),
    ).map(lambda drawn: np.array(drawn, np.float64).reshape(shape))


def weightings(*shape):
    """Rows that sum to at most 1: of all kinds of shares; and one-hot, even and empty ones."""

    def scaled(drawn):
        return drawn / np.maximum(drawn.sum(axis=-1, keepdims=True), 1)

    ends = np.concatenate([np.eye(shape[-1]), np.zeros((1, shape[-1])), np.ones((1, shape[-1]))])
    rows = int(np.prod(shape[:-1]))
    picked = st.lists(st.integers(0, len(ends) - 1), min_size=rows, max_size=rows)
    one_hot = picked.map(lambda which: scaled(ends[which]).reshape(shape))
    return st.one_of(one_hot, arrays(SHARES, *shape).map(scaled))


def linkages():
    """L and p as they can be: no diagonal, rows and columns, with p, with a sum of at most 1."""

    def bounded(drawn):
        drawn = drawn * (1 - np.eye(N))
        most = max(drawn.sum(axis=-1).max(), drawn.sum(axis=-2).max(), 1)
        return drawn / most

    shifted = st.integers(1, N - 1).map(lambda by: np.roll(np.eye(N), by, axis=0)[None])
    links = st.one_of(shifted, arrays(SHARES, M, N, N).map(bounded))
    return st.tuples(links, weightings(M, N)).map(lambda lp: (lp[0] * (1 - lp[1][:, None]), lp[1]))


def cast(dtype, *drawn):
    return [jnp.asarray(array.astype(np.float32), dtype) for array in drawn]


def check_weightings(found, tolerance):
    assert np.isfinite(found).all()
    assert found.min() >= -tolerance
    assert found.max() <= 1 + tolerance
    assert found.sum(axis=-1).max() <= 1 + tolerance


def numbers(tree):
    """Its arrays, to compute with exactly."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float64), tree)


def all_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(numbers(tree)))


@functools.cache
def jitted(function, *options):
    """Compiled once for each dtype and preset."""
    return jax.jit(functools.partial(function, **dict(options)))


@functools.cache
def gradient(function, count, *options):
    """Of the function's numbers, weighted by the array given last."""

    def weighted(*given):
        return jnp.vdot(given[-1], function(*given[:-1], **dict(options)))

    return jax.jit(jax.grad(weighted, argnums=tuple(range(count))))


dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
presets = pytest.mark.parametrize("preset", PRESETS)


@dtypes
@presets
@quick(100)
@given(arrays(HUGE, N, W), arrays(HUGE, R, W), arrays(ANY_STRENGTH, R), st.permutations(range(N)))
def test_content_weights(dtype, preset, memory, keys, strengths, order):
    """A weighting that sums to 1, and that goes with the slots when they change their places."""
    memory, keys, strengths = cast(dtype, memory, keys, strengths)
    content = jitted(addressing.content_weights, ("epsilon", PRESETS[preset].cosine_epsilon))
    found = numbers(content(memory, keys, strengths))
    tolerance = TOLERANCES[dtype]
    check_weightings(found, tolerance)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=tolerance)
    moved = numbers(content(jnp.asarray(np.asarray(memory)[order]), keys, strengths))
    if strengths.max() <= 1:  # a rounding of the cosine counts so many times
        np.testing.assert_allclose(moved, found[:, order], atol=tolerance)


@dtypes
@presets
@quick(60)
@given(arrays(SMALL, N, W), arrays(SMALL, R, W), arrays(STRENGTHS, R), arrays([-1, 0, 1], R, N))
def test_gradients_of_content_weights(dtype, preset, memory, keys, strengths, cotangent):
    epsilon = ("epsilon", PRESETS[preset].cosine_epsilon)
    given = cast(dtype, memory, keys, strengths, cotangent)
    assert all_finite(gradient(addressing.content_weights, 3, epsilon)(*given))


@dtypes
@presets
@quick(100)
@given(arrays(SHARES, N), arrays([-1, 0, 1], N))
def test_allocation(dtype, preset, usage, cotangent):
    """A slot as free as any has the most; what is wholly in use has nothing."""
    usage, cotangent = cast(dtype, usage, cotangent)
    epsilon = ("epsilon", PRESETS[preset].allocation_epsilon)
    assert all_finite(gradient(addressing.allocation_weights, 1, epsilon)(usage, cotangent))
    found = numbers(jitted(addressing.allocation_weights, epsilon)(usage))
    usage, tolerance = numbers(usage), TOLERANCES[dtype]
    check_weightings(found, tolerance)
    np.testing.assert_allclose(found.max(), 1 - usage.min(), atol=tolerance)
    assert usage[found.argmax()] <= usage.min() + tolerance or usage.min() > 1 - tolerance
    assert np.abs(found[usage == 1]).max(initial=0) < 1e-6


@dtypes
@quick(100)
@given(arrays(SHARES, N), weightings(M, N), arrays(SHARES, R), weightings(R, N))
def test_usage(dtype, usage, write_weights, free_gate, read_weights):
    """Within [0, 1]; writing adds to it, freeing takes; what is read and freed wholly is empty."""
    given = cast(dtype, usage, write_weights, free_gate, read_weights)
    found, written = numbers(usage_step(*given))
    usage, _, free_gate, read_weights = numbers(given)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1 + TOLERANCES[dtype]
    emptied = ((free_gate[:, None] * read_weights) == 1).any(axis=0)
    assert (found[emptied] == 0).all()
    assert (written >= usage - TOLERANCES[dtype]).all()
    assert (found <= written).all()


@jax.jit
def usage_step(usage, write_weights, free_gate, read_weights):
    found = Freeness(N)(usage, write_weights, free_gate, read_weights)
    return found, addressing.usage_after_write(usage, write_weights)


@dtypes
@quick(100)
@given(linkages(), weightings(M, N), weightings(R, N))
def test_linkage(dtype, linkage, write_weights, read_weights):
    """L keeps its form, p and what is followed are weightings."""
    link, precedence, write, read = cast(dtype, *linkage, write_weights, read_weights)
    state = TemporalLinkageState(link, precedence)
    state, forward, backward = numbers(linkage_step(state, write, read))
    check_linkage(state, TOLERANCES[dtype])
    for weighting in (forward, backward):
        check_weightings(weighting, TOLERANCES[dtype])


def check_linkage(state, tolerance):
    link, precedence = state
    check_weightings(link, tolerance)
    check_weightings(link.swapaxes(-1, -2), tolerance)
    assert (link.sum(axis=-2) + precedence).max() <= 1 + tolerance
    assert not np.diagonal(link, axis1=-2, axis2=-1).any()
    check_weightings(precedence, tolerance)


@jax.jit
def linkage_step(state, write, read):
    return TemporalLinkage(N, M)(state, write, read)


SHAPES = interface_shapes(W, R, M)
XI = interface_ends(SHAPES)[-1]


@dtypes
@presets
@quick(100)
@given(arrays(RAW, XI), arrays([-1, 0, 1], XI))
def test_interface(dtype, preset, vector, cotangent):
    """Gates and modes are shares, strengths have their lower bound, the rest stays as it is."""
    vector, cotangent = cast(dtype, vector, cotangent)
    raw, found, by_vector = numbers(interface(preset, vector, cotangent))
    assert all_finite((found, by_vector))
    for gate in (found.erase_vectors, found.free_gate, found.allocation_gate, found.write_gate):
        assert gate.min() >= 0
        assert gate.max() <= 1
    lowest = 1 if preset == "nature" else 0
    assert min(found.read_strengths.min(), found.write_strengths.min()) >= lowest
    check_weightings(found.read_mode, TOLERANCES[dtype])
    for name in ("read_keys", "write_keys", "write_vectors"):
        np.testing.assert_array_equal(getattr(found, name), getattr(raw, name))


@functools.partial(jax.jit, static_argnums=0)
def interface(preset, vector, cotangent):
    """Before and after the squashing, and a gradient."""

    def squashed(given):
        return squash(split(given, SHAPES), config.strength_activation, config.read_mode_order)

    config = PRESETS[preset]
    found, backward = jax.vjp(squashed, vector)
    return split(vector, SHAPES), found, backward(split(cotangent, SHAPES))


STATES = st.tuples(
    arrays(SMALL, N, W),
    weightings(R, N),
    weightings(M, N),
    linkages(),
    arrays(SHARES, N),
)


def state_of(dtype, drawn):
    memory, read, write, linkage, usage = drawn
    memory, read, write, usage = cast(dtype, memory, read, write, usage)
    return AccessState(memory, read, write, TemporalLinkageState(*cast(dtype, *linkage)), usage)


@functools.cache
def step(preset, implementation, dtype):
    """A step of the whole access, whose interface is the controller's output as it stands."""
    access = PRESETS[preset].make_access(
        XI, implementation=implementation, rngs=nnx.Rngs(0), param_dtype=dtype
    )
    access.interface_linear.kernel[...] = jnp.eye(XI, dtype=dtype)
    return jax.jit(lambda state, output: access.step_with_trace(state, output))


@dtypes
@presets
@quick(60)
@given(STATES, arrays(HUGE, XI))
def test_a_step(dtype, preset, drawn, output):
    """From any state that can be, whatever the controller says, to one that can be."""
    made = step(preset, "plain", dtype)(state_of(dtype, drawn), *cast(dtype, output))
    state, words, trace = numbers(made)
    tolerance = 2 * TOLERANCES[dtype]
    assert all_finite((state, words, trace))
    for weighting in (state.read_weights, state.write_weights, *trace[1:6]):
        check_weightings(weighting, tolerance)
    check_linkage(state.linkage, tolerance)
    assert state.usage.min() >= 0
    assert state.usage.max() <= 1 + tolerance


@functools.cache
def step_gradient(preset, dtype):
    """Of everything that a step gives, by everything that it is given."""
    run = step(preset, "plain", dtype)

    def total(state, output, signs):
        leaves = jax.tree.leaves(run(state, output))
        return sum(leaf.sum() * sign for leaf, sign in zip(leaves, signs, strict=True))

    return jax.jit(jax.grad(total, argnums=(0, 1)))


@presets
@quick(30)
@given(STATES, arrays([*SMALL, 88, -104], XI), st.integers(0, 2**32 - 1))
def test_gradients_of_a_step(preset, drawn, output, signs):
    """Finite, at usages, gates and weightings of exactly 0 and 1, too."""
    dtype = jnp.float32
    given = state_of(dtype, drawn), *cast(dtype, output)
    count = len(jax.tree.leaves(jax.eval_shape(step(preset, "plain", dtype), *given)))
    signs = 2 * (signs >> np.arange(count) & 1) - 1.0
    assert all_finite(step_gradient(preset, dtype)(*given, *cast(dtype, signs)))


@presets
@pytest.mark.parametrize("form", ["xla", "native"])
@quick(60)
@given(STATES, arrays([-1e4, -100, -1, -1e-6, 0, 1e-45, 1e-3, 0.5, 3, 100], XI))
def test_fast_forms_of_a_step(form, preset, drawn, output):
    """As the plain one; strengths up to 100, which multiply what rounding makes of a cosine."""
    given = state_of(jnp.float32, drawn), *cast(jnp.float32, output)
    expected = jax.tree.leaves(step(preset, "plain", jnp.float32)(*given))
    found = jax.tree.leaves(step(preset, form, jnp.float32)(*given))
    for one, other in zip(found, expected, strict=True):
        largest = max(1.0, float(jnp.abs(other).max()))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * largest)
