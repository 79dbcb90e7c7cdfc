"""A controller that multiplies in bfloat16, in a network that else computes in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later, original_model
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.controllers import dot_general_in
from dncx.exporting import export_programs
from dncx.interop.deepmind import to_variables
from dncx.kernels.choice import select
from dncx.networks.build import make_network
from dncx.networks.config import network_config
from dncx.parts import cell_of
from dncx.runs import directory as runs
from dncx.runs.config import read_config, run_config, write_config
from dncx.runs.paths import SHIPPED
from dncx.runs.progress import Progress
from dncx.settings.training import ModelSettings, TrainSettings
from dncx.tasks.copy import Copy
from dncx.tasks.settings import CopySettings

LOW = {"controller_dtype": "bfloat16"}
SIZES = {"memory_size": 5, "word_size": 3, "num_read_heads": 2, "hidden_size": 6}
LAYERS = {"lstm": 1, "deep_lstm": 2, "feedforward": 2}
INPUTS = jax.random.normal(jax.random.key(1), (2, 4, 3))


def make(controller="lstm", implementation=None, **changes):
    config = DNCConfig(
        controller=controller, num_layers=LAYERS[controller], **{**SIZES, **LOW, **changes}
    )
    return DNC(3, 2, config, implementation=implementation, rngs=nnx.Rngs(0))


def outputs_and_gradient(cell, inputs=INPUTS):
    """As one compiled program, of the sum of squares."""
    graph, params = nnx.split(cell)

    def loss(params, inputs):
        outputs, _ = unroll(nnx.merge(graph, params), inputs)
        return jnp.sum(outputs**2), outputs

    gradient, outputs = jax.jit(jax.grad(loss, has_aux=True))(params, inputs)
    return outputs, gradient


def share(found, expected):
    """The largest difference, as a share of the largest number expected."""
    return float(jnp.max(jnp.abs(found - expected)) / jnp.max(jnp.abs(expected)))


@pytest.mark.second_step
def test_only_what_is_multiplied_is_rounded():
    """x W + b of rounded x and W, summed in float32; products for gradients round their sums."""

    def rounded(x):
        return x.astype(jnp.bfloat16).astype(jnp.float32)

    keys = jax.random.split(jax.random.key(0), 4)
    x, weights, given = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys[:3], ((7, 50), (50, 20), (7, 20)), strict=True)
    )
    layer = nnx.Linear(
        50, 20, dot_general=dot_general_in("bfloat16", jnp.float32), rngs=nnx.Rngs(0)
    )
    layer.kernel[...] = weights
    bias = jax.random.normal(keys[3], (20,))
    layer.bias[...] = bias
    graph, params = nnx.split(layer)

    @jax.jit
    def everything(params, x, given):
        found, back = jax.vjp(lambda params, x: nnx.merge(graph, params)(x), params, x)
        return found, back(given)

    found, (d_params, d_x) = everything(params, x, given)
    expected = {
        "y": (found, rounded(x) @ rounded(weights) + bias[None], 1e-6),
        "dW": (d_params["kernel"][...], rounded(x).T @ rounded(given), 2**-8),
        "dx": (d_x, rounded(given) @ rounded(weights).T, 2**-8),
        "db": (d_params["bias"][...], given.sum(axis=0), 1e-6),
    }
    for name, (value, wanted, bound) in expected.items():
        assert value.dtype == jnp.float32
        assert share(value, wanted) < bound, name
    assert share(found, x @ weights + bias[None]) > 1e-4  # it does round


@pytest.mark.second_step
@pytest.mark.parametrize("controller", LAYERS)
def test_float32_all_around(controller):
    """Variables, state, outputs and gradients; near float32, but not it."""
    cell, exact = make(controller), make(controller, controller_dtype=None)
    carry = nnx.eval_shape(lambda cell: cell(cell.initialize_carry((2, 3)), INPUTS[:, 0]), cell)
    outputs, gradient = outputs_and_gradient(cell)
    leaves = jax.tree.leaves((nnx.state(cell), carry, outputs, gradient))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
    expected, expected_gradient = outputs_and_gradient(exact)
    assert 1e-6 < share(outputs, expected) < 0.01
    for found, wanted in zip(*map(jax.tree.leaves, (gradient, expected_gradient)), strict=True):
        assert share(found, wanted) < 0.03


@pytest.mark.second_step
def test_every_way_to_run_it_agrees():
    """unroll in each form = steps = vmap of single examples = nnx.RNN; lengths too."""
    cell = make()
    graph, params = nnx.split(cell)

    @jax.jit
    def everything(params, inputs):
        cell = nnx.merge(graph, params)
        state, stepped = cell.initialize_carry((2, 3)), []
        for time in range(4):
            state, outputs = cell(state, inputs[:, time])
            stepped.append(outputs)
        singles = jax.vmap(lambda x: unroll(cell, x)[0])(inputs)
        ragged, _ = unroll(cell, inputs, lengths=jnp.full(2, 4))
        return unroll(cell, inputs)[0], jnp.stack(stepped, axis=1), singles, ragged

    expected, *others = everything(params, INPUTS)
    others.append(nnx.jit(lambda rnn, x: rnn(x))(nnx.RNN(cell), INPUTS))
    others += [outputs_and_gradient(make(implementation=form))[0] for form in ("plain", "xla")]
    for found in others:
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("controller", ["lstm", "deep_lstm"])
def test_the_kernel_of_whole_sequences_is_not_for_it(controller):
    """It multiplies in one dtype; the memory access runs natively all the same."""
    forms = {dtype: select(make(controller, controller_dtype=dtype)) for dtype in (
        None, "float32", "bfloat16")}  # fmt: skip
    assert forms[None].name == forms["float32"].name == "native sequence"
    assert forms["bfloat16"].name == "native step"
    assert "bfloat16" in forms["bfloat16"].reason


def test_the_dtype_of_the_variables_changes_nothing():
    assert nnx.graphdef(make(controller_dtype="float32")) == nnx.graphdef(
        make(controller_dtype=None)
    )
    assert nnx.graphdef(make()) == nnx.graphdef(make())


@pytest.mark.usefixtures("without_type_checks")
def test_unknown_dtypes_are_refused():
    for wrong in ("float16", "int8", jnp.bfloat16):
        with pytest.raises(ValueError, match=r"must be one of \('float32', 'bfloat16', None\)"):
            DNCConfig(controller_dtype=wrong)


@pytest.mark.parametrize(
    ("name", "bound"),
    [("d_tiny", 0.02), *later(("a_default", 0.005), ("b_multiwrite", 0.005))],
)
def test_effect_on_the_goldens(name, bound, golden):
    """Beside the original's numbers: outputs by the largest, gradients by the norm of all."""
    file = golden(name)
    arrays, cell = file.arrays, original_model(file, np.float32)
    cell.controller.gates.dot_general = dot_general_in("bfloat16", jnp.float32)
    graph, params = nnx.split(cell)

    def loss(params, inputs):
        outputs, _ = unroll(nnx.merge(graph, params), inputs, time_major=True)
        return jnp.sum(outputs * jnp.asarray(arrays["proj"], jnp.float32)), outputs

    inputs = jnp.asarray(arrays["inputs"], jnp.float32)
    gradient, outputs = jax.jit(jax.grad(loss, has_aux=True))(params, inputs)
    found = {k: np.asarray(v) for k, v in to_variables(nnx.merge(graph, gradient)).items()}
    assert 1e-5 < share(outputs, arrays["outputs"]) < bound
    wrong, all_of_it = (
        np.linalg.norm(np.concatenate([x.ravel() for x in parts]))
        for parts in (
            [found[name] - arrays[f"grad/var/{name}"] for name in found],
            [arrays[f"grad/var/{name}"] for name in found],
        )
    )
    assert wrong / all_of_it < bound


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.second_step
def test_a_run_saved_loaded_and_exported(tmp_path):
    """The exported program, and the network that is loaded, give what the saved one gives."""
    sizes = ModelSettings(controller="deep_lstm", num_layers=2, **SIZES, **LOW)
    settings = TrainSettings(task=CopySettings(), model=sizes)
    config = network_config(sizes, Copy().input_size, Copy().output_size)
    network = make_network(config, nnx.Rngs(3))
    write_config(tmp_path, run_config(settings, config, "bits"))
    params = nnx.to_pure_dict(nnx.state(network))
    runs.save_model(tmp_path, params, Progress(iteration=7))
    _, loaded, config, _ = runs.load_run(tmp_path)
    assert config.network.cell.controller_dtype == "bfloat16"
    assert nnx.graphdef(loaded) == nnx.graphdef(network)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, network.input_size))
    expected, _ = jax.jit(unroll)(network, inputs)
    np.testing.assert_array_equal(jax.jit(unroll)(loaded, inputs)[0], expected)
    start = jax.tree.leaves(network.initialize_carry((2, network.input_size)))
    program = export_programs(loaded, network.input_size)["sequence"]
    _, found = program.call(start, inputs, jnp.full(2, 5, jnp.int32))
    assert share(found, expected) < 1e-3


def test_flag_reaches_the_network():
    low, default = (network_config(ModelSettings(**SIZES, **kind), 3, 2) for kind in (LOW, {}))
    assert low.cell.controller_dtype == "bfloat16"
    assert default.cell.controller_dtype is None


@pytest.mark.second_step
def test_models_that_ship_compute_in_the_dtype_of_their_weights():
    for path in SHIPPED.glob("*/config.json"):
        config = read_config(path).network
        assert config.cell.controller_dtype is None
        network = make_network(config, nnx.Rngs(0))
        fast = config.cell.controller != "feedforward"
        assert (select(cell_of(network)).name == "native sequence") == fast
