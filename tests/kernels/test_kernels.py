"""Every fast form gives what the plain form gives: values and gradients, of all that goes in."""

import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx

from dncx import DNC, DNCConfig, unroll, unroll_with_trace

SMALL = {"memory_size": 5, "word_size": 3, "num_read_heads": 2, "hidden_size": 6}
FOUR_HEADS = SMALL | {"num_read_heads": 4}  # the kernel is compiled for every number of heads
# Sizes of whole vectors and others; every controller; limits that bite; both sets of equations.
CONFIGS = {
    "deepmind": DNCConfig(memory_size=16, word_size=16, num_read_heads=4, hidden_size=16),
    "odd sizes, clipped": DNCConfig(
        memory_size=21, word_size=18, num_read_heads=5, hidden_size=11, clip_value=0.1
    ),
    "nature": DNCConfig.nature(**SMALL, num_layers=3, controller_gradient_clip=0.05),
    "least": DNCConfig(memory_size=1, word_size=1, num_read_heads=1, hidden_size=1),
    "feedforward": DNCConfig(**SMALL, controller="feedforward"),
    "two write heads": DNCConfig(**SMALL, num_write_heads=2),
    "variants": DNCConfig.dnc_mds(
        **FOUR_HEADS, least_mask=0.1, interface_norm=True, controller_norm=True
    ),
    "masks, no links": DNCConfig(
        **FOUR_HEADS, content_mask=True, wipe_freed=True, linkage="none", interface_norm=True
    ),
    "sharp links, deep norms": DNCConfig.nature(
        **FOUR_HEADS | {"memory_size": 16, "word_size": 16},
        num_layers=2,
        sharpen_links=True,
        controller_norm=True,
        controller_gradient_clip=0.05,
    ),
    "variants, nature": DNCConfig.nature(
        **SMALL, num_write_heads=2, content_mask=True, wipe_freed=True, sharpen_links=True
    ),
    "norms": DNCConfig(**FOUR_HEADS, interface_norm=True, controller_norm=True),
    "adnc": DNCConfig.adnc(**SMALL),
    "interface norm": DNCConfig(**FOUR_HEADS, interface_norm=True),
    "interface norm, nature": DNCConfig.nature(
        **SMALL | {"memory_size": 16, "word_size": 16}, interface_norm=True, linkage="none"
    ),
    "no links": DNCConfig(**FOUR_HEADS | {"memory_size": 17}, linkage="none", interface_bias=False),
    "no links, nature": DNCConfig.nature(
        linkage="none", memory_size=16, word_size=16, num_read_heads=5, hidden_size=9, num_layers=2
    ),
    "no links, least": DNCConfig(
        memory_size=1, word_size=1, num_read_heads=1, hidden_size=1, linkage="none"
    ),
}
BATCH, TIME, INPUTS, OUTPUTS = 19, 7, 4, 2  # more examples than a block has


def make(name, implementation, dtype=jnp.float32):
    cell = DNC(
        INPUTS,
        OUTPUTS,
        CONFIGS[name],
        implementation=implementation,
        rngs=nnx.Rngs(0),
        param_dtype=dtype,
    )
    for _, norm in nnx.iter_modules(cell):
        if isinstance(
            norm, nnx.LayerNorm
        ):  # a new one has scale 1 and bias 0: no mistake would show
            for parameter, ends in ((norm.scale, (0.5, 1.5)), (norm.bias, (-0.2, 0.3))):
                parameter[...] = jnp.linspace(*ends, norm.num_features, dtype=dtype)
    return cell


def fast_forms(name):
    only_xla = name in ("two write heads", "variants, nature")
    return ["xla"] if only_xla else ["xla", "native"]


def in_use(state, key):
    """A state as it is in the middle of a sequence: weightings, links and usage in their ranges."""
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(key, len(leaves))
    state = jax.tree.unflatten(
        tree,
        [jax.random.uniform(k, x.shape, x.dtype, 0.1) for k, x in zip(keys, leaves, strict=True)],
    )
    access = state.access_state
    slots = access.memory.shape[-2]
    linkage = access.linkage
    if linkage:
        off_diagonal = 1 - jnp.eye(slots, dtype=access.memory.dtype)[None, None]
        link = linkage.link * off_diagonal / slots
        linkage = type(linkage)(link, linkage.precedence_weights / slots)
    return state._replace(
        access_state=access._replace(
            read_weights=access.read_weights / slots,
            write_weights=access.write_weights / slots,
            linkage=linkage,
        )
    )


def everything(cell, dtype, **options):
    """A number that depends on all outputs and the last state, and its gradient by all inputs."""
    graph, params = nnx.split(cell)
    inputs = jax.random.normal(jax.random.key(1), (BATCH, TIME, INPUTS), dtype)
    start = in_use(cell.initialize_carry((BATCH, INPUTS)), jax.random.key(2))

    def number(params, inputs, start):
        outputs, state = unroll(nnx.merge(graph, params), inputs, initial_state=start, **options)
        parts = [outputs, *jax.tree.leaves(state)]
        weights = np.random.default_rng(3)  # NumPy's are constants, which need no compilation
        return sum(
            jnp.vdot(jnp.asarray(weights.standard_normal(x.shape), x.dtype), x) for x in parts
        ), outputs

    return jax.jit(jax.value_and_grad(number, argnums=(0, 1, 2), has_aux=True))(
        params, inputs, start
    )


def assert_same(found, expected, tolerance):
    """Leaf by leaf, measured by the largest number of each leaf."""
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, right), value in zip(paths, jax.tree.leaves(found), strict=True):
        largest = float(jnp.abs(right).max(initial=0)) + 1e-3  # without links, some are empty
        np.testing.assert_allclose(
            value, right, rtol=0, atol=tolerance * largest, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize(
    "name", ["deepmind", *later(*(name for name in CONFIGS if name != "deepmind"))]
)
def test_sequences_agree(name, x64):
    """Of several lengths, with resets; in float64, where nothing but a mistake makes 1e-10."""
    resets = np.zeros((BATCH, TIME), bool)
    resets[0, [3, 4]] = resets[1, 0] = resets[2, 6] = True
    lengths = jnp.array([TIME, 4, 0, *[TIME] * (BATCH - 3)])
    given = {"lengths": lengths, "resets": jnp.asarray(resets)}
    expected = everything(make(name, "plain", jnp.float64), jnp.float64, **given)
    for form in fast_forms(name):
        found = everything(make(name, form, jnp.float64), jnp.float64, **given)
        assert_same(found, expected, 1e-10)


@pytest.mark.second_step
@pytest.mark.parametrize(
    "name", ["deepmind", "nature", "no links", "variants", "norms", "interface norm"]
)
def test_sequences_agree_in_float32(name):
    expected = everything(make(name, "plain"), jnp.float32)
    for form in fast_forms(name):
        assert_same(everything(make(name, form), jnp.float32), expected, 2e-4)


@pytest.mark.parametrize(
    "name",
    [
        "feedforward",
        *later(
            "odd sizes, clipped",
            "nature",
            "no links",
            "no links, least",
            "variants",
            "masks, no links",
        ),
    ],
)
def test_steps_and_traces_agree(name):
    """One step of one example and of a batch, the whole trace, and gradients through the trace."""
    results = {}
    for implementation in ("plain", *fast_forms(name)):
        cell = make(name, implementation)
        graph, params = nnx.split(cell)
        inputs = jax.random.normal(jax.random.key(1), (BATCH, TIME, INPUTS))
        start = in_use(cell.initialize_carry((BATCH, INPUTS)), jax.random.key(2))

        def run(params, inputs=inputs, start=start, graph=graph):
            cell = nnx.merge(graph, params)
            one = jax.tree.map(lambda x: x[0], start)
            steps = cell(one, inputs[0, 0]), cell(start, inputs[:, 0])
            outputs, state, trace = unroll_with_trace(cell, inputs, initial_state=start)
            number = sum(jnp.sum(x**2) for x in jax.tree.leaves(trace))
            return number, (steps, outputs, state, trace)

        results[implementation] = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
        assert_same(results[implementation], results["plain"], 2e-4)


@pytest.mark.parametrize("form", ["native", *later("xla")])
def test_vmap(form):
    """Over examples, over models with weights of their own, and over both, also for gradients."""
    cell = make("deepmind", form)
    graph, params = nnx.split(cell)
    models = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    inputs = jax.random.normal(jax.random.key(1), (BATCH, TIME, INPUTS))

    def loss(params, inputs):
        outputs, state = unroll(nnx.merge(graph, params), inputs)
        return jnp.sum(outputs**2) + jnp.sum(state.access_state.memory)

    gradient = jax.jit(jax.value_and_grad(loss))
    over_both = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(loss), (None, 0)), (0, None)))
    over_models = jax.jit(jax.vmap(jax.value_and_grad(loss), (0, None)))
    rows = []
    for model in range(2):
        own = jax.tree.map(lambda x, m=model: x[m], models)
        rows.append(jax.tree.map(lambda *x: jnp.stack(x), *(gradient(own, x) for x in inputs)))
    expected = jax.tree.map(lambda *x: jnp.stack(x), *rows)
    assert_same(over_both(models, inputs), expected, 1e-5)
    summed = jax.tree.map(lambda x: x.sum(axis=1), expected)
    assert_same(over_models(models, inputs), summed, 1e-5)


@pytest.mark.second_step
def test_chunks_of_a_scan():
    """The scan that computes again what the backward pass needs; 33 steps are 5 chunks and 3."""
    inputs = jax.random.normal(jax.random.key(1), (2, 33, INPUTS))

    def gradient(implementation):
        graph, params = nnx.split(make("deepmind", implementation))

        def loss(params):
            outputs, state = unroll(nnx.merge(graph, params), inputs)
            return jnp.sum(outputs**2) + jnp.sum(state.access_output), outputs

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    assert_same(gradient("xla"), gradient("plain"), 1e-4)


@pytest.mark.parametrize(("form", "share"), [("native", 1 / 4), *later(("xla", 1 / 2))])
def test_memory_of_the_gradient(form, share):
    """The fast forms keep a link matrix every so often, the plain form several a step."""
    inputs = jnp.zeros((2, 100, INPUTS))

    def temporary(implementation):
        config = DNCConfig(memory_size=48, word_size=8, num_read_heads=2, hidden_size=8)
        cell = DNC(INPUTS, OUTPUTS, config, implementation=implementation, rngs=nnx.Rngs(0))
        graph, params = nnx.split(cell)
        loss = jax.grad(lambda p: jnp.sum(unroll(nnx.merge(graph, p), inputs)[0]))
        return jax.jit(loss).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporary(form) < share * temporary("plain")


@pytest.mark.parametrize("shape", [(0, 3, INPUTS), (2, 0, INPUTS), (0, INPUTS), (2, 3, 5, INPUTS)])
def test_empty_and_nested_batches(shape):
    outputs, _ = jax.jit(unroll)(make("deepmind", "native"), jnp.ones(shape))
    expected, _ = jax.jit(unroll)(make("deepmind", "plain"), jnp.ones(shape))
    assert outputs.shape == (*shape[:-1], OUTPUTS)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.second_step
def test_nan_stays_within_its_example():
    inputs = jnp.ones((2, 5, INPUTS)).at[0, 2].set(jnp.nan)
    outputs, _ = jax.jit(unroll)(make("deepmind", "native"), inputs)
    assert np.isnan(outputs[0, 2:]).all()
    assert np.isfinite(outputs[1]).all()
    assert np.isfinite(outputs[0, :2]).all()


def test_the_same_numbers_at_every_call():
    """However the examples are shared out over threads."""
    gradients = [everything(make("deepmind", "native"), jnp.float32) for _ in range(3)]
    for other in gradients[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, gradients[0])


@pytest.mark.parametrize(
    ("implementation", "changes", "says"),
    [
        ("native", {"num_write_heads": 2}, "1 write head, not 2"),
        ("native", {"num_read_heads": 17}, "16 read heads, not 17"),
    ],
)
def test_what_cannot_be_is_refused(implementation, changes, says):
    with pytest.raises(ValueError, match=says):
        DNC(2, 2, DNCConfig(**changes), implementation=implementation, rngs=nnx.Rngs(0))


def test_states_that_do_not_fit_are_refused():
    """Of another memory size, and of another dtype: the kernel would read past their ends."""
    cell, inputs = make("deepmind", "native"), jnp.ones((1, INPUTS))
    other = make("least", "native").initialize_carry((1, INPUTS))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), cell.initialize_carry((1, INPUTS)))
    batch = jax.tree.map(lambda x: x.astype(jnp.bfloat16), cell.initialize_carry((2, INPUTS)))
    for state, x in ((other, inputs), (half, inputs), (batch, jnp.ones((2, INPUTS)))):
        with pytest.raises((ValueError, TypeError)):
            cell(state, x)


def test_export_is_for_the_other_forms():
    inputs = jnp.ones((2, 3, INPUTS))
    graph, params = nnx.split(make("least", "xla"))
    params = nnx.to_pure_dict(params)

    def outputs(params, x):
        return unroll(nnx.merge(graph, params), x)[0]

    exported = jax.export.export(jax.jit(outputs))(params, inputs)
    np.testing.assert_allclose(exported.call(params, inputs), outputs(params, inputs), atol=1e-6)


@pytest.mark.parametrize(
    ("compiler", "says"),
    [("no-such-c++", "no-such-c++"), ("false", "failed")],
)
def test_without_a_compiler(compiler, says, tmp_path):
    """The plain path, one line about it, and an error for those who ask for the kernel."""
    code = """
import logging, sys
logging.basicConfig()
import jax.numpy as jnp
from flax import nnx
import dncx
cell = dncx.DNC(2, 2, rngs=nnx.Rngs(0))
print(dncx.unroll(cell, jnp.ones((1, 3, 2)))[0].shape)
try:
    dncx.DNC(2, 2, implementation="native", rngs=nnx.Rngs(0))
except ValueError as error:
    print(error)
"""
    environment = os.environ | {"CXX": compiler, "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    shape, error = result.stdout.split("\n", 1)
    assert shape == "(1, 3, 2)"
    assert says in error
    assert result.stderr.count("the native kernel cannot be used") == 1
    assert not list(tmp_path.rglob("*.so"))
