"""One list of cells, put through everything that a cell must stand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_relative, later
from flax import nnx

from dncx import DNC, DNCConfig, unroll, unroll_with_trace

SIZES = {"memory_size": 5, "word_size": 3, "hidden_size": 6}
CONFIGS = {
    f"{preset.__name__}-{controller}-{reads}r{writes}w": preset(
        controller=controller,
        num_layers=1 if controller == "lstm" else 2,
        num_read_heads=reads,
        num_write_heads=writes,
        **SIZES,
    )
    for preset, controller, (reads, writes) in itertools.product(
        (DNCConfig.deepmind, DNCConfig.nature),
        ("lstm", "deep_lstm", "feedforward"),
        ((2, 1), (1, 3)),
    )
}
CONFIGS["bfloat16-lstm-2r1w"] = DNCConfig(controller_dtype="bfloat16", num_read_heads=2, **SIZES)
CONFIGS["no links-lstm-2r1w"] = DNCConfig(linkage="none", num_read_heads=2, **SIZES)
CONFIGS["no links-feedforward-1r3w"] = DNCConfig.nature(
    linkage="none", controller="feedforward", num_read_heads=1, num_write_heads=3, **SIZES
)
# All options of later publications, in two groups, as not all go together.
CONFIGS["variants-lstm-2r1w"] = DNCConfig.dnc_mds(
    least_mask=0.1, interface_norm=True, controller_norm=True, num_read_heads=2, **SIZES
)
CONFIGS["variants-deep_lstm-1r3w"] = DNCConfig.nature(
    content_mask=True, wipe_freed=True, sharpen_links=True, interface_norm=True,
    controller_norm=True, num_layers=2, num_read_heads=1, num_write_heads=3, **SIZES,
)  # fmt: skip
CONFIGS["adnc-lstm-2r1w"] = DNCConfig.adnc(num_read_heads=2, **SIZES)
# Each two of preset, controller and heads meet in one of these; the others are left to CI.
PAIRS = {
    "deepmind-lstm-2r1w", "deepmind-deep_lstm-1r3w", "deepmind-feedforward-2r1w",
    "nature-lstm-1r3w", "nature-deep_lstm-2r1w", "nature-feedforward-1r3w", "bfloat16-lstm-2r1w",
    "no links-lstm-2r1w", "variants-lstm-2r1w",
}  # fmt: skip
CASES = [name for name in CONFIGS if name in PAIRS]
CASES += later(*(name for name in CONFIGS if name not in PAIRS))
TOLERANCES = {jnp.float32: 1e-5, jnp.bfloat16: 0.1}


@functools.cache
def make(name, dtype=jnp.float32):
    return DNC(3, 2, CONFIGS[name], rngs=nnx.Rngs(0), param_dtype=dtype)


@pytest.mark.parametrize("name", CASES)
def test_sequence_stepping_and_gradients(name):
    """unroll = a loop of steps = vmap of single examples; finite gradients for all parameters.

    Of the state, what does not depend on which of several equally free slots was taken.
    """
    cell = make(name)
    graph, params = nnx.split(cell)
    inputs = jax.random.normal(jax.random.key(1), (2, 4, 3))

    @jax.jit
    def everything(params, inputs):
        cell = nnx.merge(graph, params)
        outputs, state = unroll(cell, inputs)
        singles = jax.vmap(lambda x: unroll(cell, x)[0])(inputs)
        gradients = jax.grad(
            lambda params: jnp.sum(unroll(nnx.merge(graph, params), inputs)[0] ** 2)
        )(params)
        return outputs, state, singles, gradients

    outputs, state, singles, gradients = everything(params, inputs)
    step = jax.jit(lambda params, state, x: nnx.merge(graph, params)(state, x))
    stepped_state, stepped = cell.initialize_carry((2, 3)), []
    for time in range(4):
        stepped_state, output = step(params, stepped_state, inputs[:, time])
        stepped.append(output)
    assert outputs.shape == (2, 4, 2)
    np.testing.assert_allclose(outputs, jnp.stack(stepped, axis=1), atol=1e-6)
    np.testing.assert_allclose(outputs, singles, atol=1e-6)
    for part in ("access_output", "controller_state"):
        same = functools.partial(np.testing.assert_allclose, atol=1e-6)
        jax.tree.map(same, getattr(state, part), getattr(stepped_state, part))
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.endswith("2r1w")])
def test_equals_flax_rnn(name):
    """The cell in flax's own recurrent machinery."""
    cell = make(name)
    inputs = jax.random.normal(jax.random.key(1), (2, 4, 3))
    expected = jax.jit(lambda cell, x: unroll(cell, x)[0])(cell, inputs)
    found = nnx.jit(lambda rnn, x: rnn(x))(nnx.RNN(cell), inputs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def traced(name, dtype, params):
    """Outputs, state and trace of the cell with these parameters, rounded to the dtype."""
    graph, _ = nnx.split(make(name, dtype))
    cell = nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype), params))
    inputs = jax.random.normal(jax.random.key(1), (2, 4, 3), jnp.float32)
    return jax.jit(unroll_with_trace)(cell, inputs)


FIRST = ("deepmind-lstm-1r3w",)
FLOATS = [name for name in CONFIGS if not name.startswith("bfloat16")]


@pytest.mark.parametrize("name", [*FIRST, *later(*(name for name in FLOATS if name not in FIRST))])
def test_dtypes(name, x64):
    """The cell computes in the dtype of its variables, and near what float64 gives."""
    _, params = nnx.split(make(name))
    for dtype in (jnp.float32, jnp.bfloat16):
        rounded = jax.tree.map(lambda x, dtype=dtype: (3 * x).astype(dtype), params)
        outputs, state, trace = traced(name, dtype, rounded)
        found = jax.tree.leaves((outputs, state, trace))
        assert {leaf.dtype for leaf in found} == {jnp.dtype(dtype)}
        expected, *others = traced(name, jnp.float64, rounded)
        found = jax.tree.leaves((expected, others))
        assert {leaf.dtype for leaf in found} == {jnp.dtype(jnp.float64)}
        assert_relative(outputs, expected, TOLERANCES[dtype])


@pytest.mark.parametrize("name", ["deepmind-lstm-2r1w", "nature-deep_lstm-2r1w"])
def test_fifty_wild_networks_stay_finite(name):
    """Large weights and inputs, 200 steps: no value or gradient is ever infinite or NaN."""
    cell = make(name)
    graph, params = nnx.split(cell)

    @jax.jit
    @jax.vmap
    def finite(key):
        keys = jax.random.split(key, 2)
        big = jax.tree.map(lambda x: 5 * jax.random.normal(keys[0], x.shape), params)
        inputs = 10 * jax.random.normal(keys[1], (200, 3))
        value, gradient = jax.value_and_grad(
            lambda p: jnp.sum(unroll(nnx.merge(graph, p), inputs)[0])
        )(big)
        return jnp.isfinite(value), jax.tree.map(lambda g: jnp.isfinite(g).all(), gradient)

    assert all(
        bool(leaf.all())
        for leaf in jax.tree.leaves(finite(jax.random.split(jax.random.key(0), 50)))
    )
