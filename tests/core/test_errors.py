"""What an impatient user tries at the prompt: each error is a sentence that names the way out."""

from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import config as jaxtyping_config

import dncx
from dncx import DNC, DNCConfig, MemoryAccess, unroll, unroll_with_trace
from dncx.networks.build import Embedded
from dncx.networks.lstm import LSTMNetwork
from dncx.networks.ntm import NTMAccess, neural_turing_machine

CONFIG = DNCConfig(memory_size=3, word_size=2, num_read_heads=1, hidden_size=4)
CELL = DNC(3, 5, CONFIG, rngs=nnx.Rngs(0))
X = jnp.ones((2, 4, 3))
STATE = CELL.initialize_carry((2, 3))
XLA_CELL = DNC(3, 5, CONFIG, implementation="xla", rngs=nnx.Rngs(0))
BASELINE = LSTMNetwork(3, 5, rngs=nnx.Rngs(0))
EMBEDDED = Embedded(7, 3, CELL, nnx.Rngs(0))


@pytest.fixture(autouse=True)
def without_type_checks():
    """The tests' own type checks would come first."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


def rngs():
    return nnx.Rngs(0)


# Call, class of the error, and words that it must have.
REFUSED = {
    "sizes beside the config": (
        lambda: DNC(3, 5, memory_size=32), TypeError, "DNC(3, 5, DNCConfig(memory_size=32)"),
    "sizes beside a config": (
        lambda: DNC(3, 5, CONFIG, hidden_size=8, rngs=rngs()), TypeError,
        "DNCConfig(hidden_size=8)"),
    "a misspelt size": (
        lambda: LSTMNetwork(3, 5, hidden=8, rngs=rngs()), TypeError, "DNCConfig(hidden_size=8"),
    "a misspelt argument": (
        lambda: DNC(3, 5, implementaton="xla", rngs=rngs()), TypeError, "implementation"),
    "no rngs": (lambda: DNC(3, 5), TypeError, "rngs=nnx.Rngs(SEED)"),
    "a seed": (lambda: DNC(3, 5, rngs=0), TypeError, "rngs=nnx.Rngs(SEED)"),
    "a key": (lambda: DNC(3, 5, rngs=jax.random.key(0)), TypeError, "rngs=nnx.Rngs(SEED)"),
    "the class of rngs": (lambda: DNC(3, 5, rngs=nnx.Rngs), TypeError, "rngs=nnx.Rngs(SEED)"),
    "an LSTM's seed": (lambda: dncx.LSTM(3, 5, rngs=0), TypeError, "rngs=nnx.Rngs(SEED)"),
    "an access's seed": (lambda: MemoryAccess(3, rngs=0), TypeError, "rngs=nnx.Rngs(SEED)"),
    "a dictionary": (lambda: DNC(3, 5, {"memory_size": 3}, rngs=rngs()), TypeError, "DNCConfig(**"),
    "an empty dictionary": (lambda: DNC(3, 5, {}, rngs=rngs()), TypeError, "DNCConfig"),
    "a size for a config": (lambda: DNC(3, 5, 32, rngs=rngs()), TypeError, "DNCConfig"),
    "a dictionary for a baseline": (
        lambda: LSTMNetwork(3, 5, {}, rngs=rngs()), TypeError, "DNCConfig"),
    "a dictionary for an NTM": (
        lambda: neural_turing_machine(3, 5, {}, rngs=rngs()), TypeError, "DNCConfig"),
    "text for a switch": (lambda: DNCConfig(interface_bias="no"), ValueError, "bias='no'"),
    "a switch for a size": (lambda: DNCConfig(memory_size=True), ValueError, "memory_size=True"),
    "a switch for a number": (lambda: DNCConfig(clip_value=True), ValueError, "clip_value=True"),
    "a class for a part": (lambda: DNC(3, 5, access=MemoryAccess, rngs=rngs()), TypeError,
        "MemoryAccess"),
    "an access for another controller": (
        lambda: DNC(3, 5, access=MemoryAccess(7, rngs=rngs()), rngs=rngs()), ValueError,
        "config.make_access(64"),
    "a part of another size": (
        lambda: DNC(3, 5, CONFIG, access=CONFIG.make_access(
            freeness=dncx.Freeness(8), rngs=rngs()), rngs=rngs()), ValueError, "parts that fit"),
    "no size": (lambda: dncx.LSTM(3, 0, rngs=rngs()), ValueError, "hidden_size=0"),
    "no slots": (lambda: MemoryAccess(3, memory_size=-1, rngs=rngs()), ValueError, "_size=-1"),
    "no words": (lambda: NTMAccess(3, word_size=1.5, rngs=rngs()), ValueError, "word_size=1.5"),
    "the wrong order": (lambda: CELL(X[:, 0], STATE), TypeError, "cell(state, inputs)"),
    "no state": (lambda: CELL(None, X[:, 0]), TypeError, "cell.initialize_carry(inputs.shape)"),
    "a sequence for a step": (lambda: CELL(STATE, X), ValueError, "dncx.unroll(cell, inputs)"),
    "the state of another cell": (
        lambda: CELL(DNC(3, 5, rngs=rngs()).initialize_carry((2, 3)), X[:, 0]), ValueError,
        "state.access_output must have shape (2, 1, 2)"),
    "a state of another dtype": (
        lambda: CELL(jax.tree.map(lambda x: x.astype(jnp.bfloat16), STATE), X[:, 0]), ValueError,
        "must be float32; got bfloat16"),
    "another width for a baseline": (
        lambda: unroll(BASELINE, X[..., :2]), ValueError, "inputs of 3 features"),
    "another width for an embedding": (
        lambda: unroll(EMBEDDED, X), ValueError, "inputs of 7 features"),
    "another width at a step": (
        lambda: EMBEDDED(STATE, X[:, 0]), ValueError, "inputs of 7 features"),
    "a baseline's order": (
        lambda: BASELINE(X[:, 0], BASELINE.initialize_carry((2, 3))), TypeError,
        "cell(state, inputs)"),
    "an embedding's order": (
        lambda: EMBEDDED(X[:, 0], STATE), TypeError, "cell(state, inputs)"),
    "no state for a baseline": (
        lambda: BASELINE(None, X[:, 0]), ValueError, "state must be like"),
    "a baseline's state of another batch": (
        lambda: BASELINE(BASELINE.initialize_carry((4, 3)), X[:, 0]), ValueError, "(2, 64)"),
    "a size for a shape": (lambda: CELL.initialize_carry(16), TypeError, "(16, 3)"),
    "inputs for a shape": (lambda: CELL.initialize_carry(X), TypeError, "(16, 3)"),
    "text for inputs": (lambda: unroll(CELL, ["a", "b"]), TypeError, "inputs must be an array"),
    "ragged inputs": (lambda: unroll(CELL, [[[1]], [[1], [2]]]), TypeError, "inputs must be"),
    "complex inputs": (lambda: unroll(CELL, X.astype(jnp.complex64)), TypeError, "complex64"),
    "no axis of time": (lambda: unroll(CELL, X[0, 0]), ValueError, "cell(state, inputs)"),
    "inputs first": (lambda: unroll(X, CELL), TypeError, "unroll(cell, inputs)"),
    "a class for a cell": (lambda: unroll(DNC, X), TypeError, "class DNC"),
    "a config for a cell": (lambda: unroll(CONFIG, X), TypeError, "DNCConfig"),
    "text for lengths": (lambda: unroll(CELL, X, lengths="4"), TypeError, "lengths must be"),
    "one length": (lambda: unroll(CELL, X, lengths=4), ValueError, "shape (2,)"),
    "broken lengths": (lambda: unroll(CELL, X, lengths=[1.5, 2]), ValueError, "integers"),
    "numbers for resets": (lambda: unroll(CELL, X, resets=np.ones((2, 4))), ValueError, "boolean"),
    "factors of another size": (
        lambda: unroll(CELL, X, hidden_factors=np.ones((2, 4, 3))), ValueError, "(2, 4, "),
    "factors for any cell": (
        lambda: unroll(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)), X, hidden_factors=np.ones((2, 4, 4))),
        TypeError, "LSTMCell"),
    "no tree": (lambda: unroll(CELL, X, initial_state=0), ValueError, "like a DNCState"),
    "a tuple for a state": (
        lambda: unroll(CELL, X, initial_state=tuple(STATE)), ValueError, "like a DNCState"),
    "text in a state": (
        lambda: unroll(CELL, X, initial_state=STATE._replace(access_output="a")), TypeError,
        "initial_state.access_output"),
    "a complex state": (
        lambda: unroll(CELL, X, initial_state=STATE._replace(
            access_output=STATE.access_output.astype(jnp.complex64))), TypeError, "complex64"),
    "a traced time_major": (
        lambda: jax.jit(unroll)(CELL, X, time_major=True), TypeError,
        "static_argnames='time_major'"),
    "a traced time_major of a trace": (
        lambda: jax.jit(unroll_with_trace)(CELL, X, time_major=True), TypeError,
        "static_argnames='time_major'"),
    "the trace of an LSTM": (
        lambda: unroll_with_trace(nnx.LSTMCell(3, 2, rngs=rngs()), X), TypeError, "LSTMCell"),
    "the trace of an NTM": (
        lambda: unroll_with_trace(neural_turing_machine(3, 2, CONFIG, rngs=rngs()), X), TypeError,
        "NTMAccess"),
    "an unknown implementation": (
        lambda: DNC(3, 5, implementation="fast", rngs=rngs()), ValueError, "'native'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_that_teaches(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind, "not an error of JAX's or of dncx's tests"
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("dtype", [jnp.float16, "int32", jnp.uint8, jnp.complex64, bool, None, "x"])
@pytest.mark.parametrize(
    "make",
    [
        lambda **dtype: DNC(3, 5, CONFIG, rngs=rngs(), **dtype),
        lambda **dtype: LSTMNetwork(3, 5, CONFIG, rngs=rngs(), **dtype),
        lambda **dtype: neural_turing_machine(3, 5, CONFIG, rngs=rngs(), **dtype),
        lambda **dtype: dncx.LSTM(3, 5, rngs=rngs(), **dtype),
        lambda **dtype: dncx.DeepLSTM(3, 5, rngs=rngs(), **dtype),
        lambda **dtype: dncx.FeedForward(3, 5, rngs=rngs(), **dtype),
        lambda **dtype: MemoryAccess(3, rngs=rngs(), **dtype),
        lambda **dtype: NTMAccess(3, rngs=rngs(), **dtype),
        lambda **dtype: CONFIG.make_controller(3, rngs=rngs(), **dtype),
        lambda **dtype: CONFIG.make_access(rngs=rngs(), **dtype),
    ],
)
def test_dtypes_in_which_nothing_can_be_trained(make, dtype):
    with pytest.raises(ValueError, match="float32, float64, bfloat16"):
        make(param_dtype=dtype)


@pytest.mark.parametrize("kind", [dncx.LSTM, dncx.DeepLSTM, dncx.FeedForward])
def test_products_in_float16(kind):
    with pytest.raises(ValueError, match="dtype=float16"):
        kind(3, 5, rngs=rngs(), dtype=jnp.float16)


def test_float64_while_jax_has_none():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        DNC(3, 5, CONFIG, rngs=rngs(), param_dtype=jnp.float64)


def test_variables_in_float16():
    variables = dncx.interop.deepmind.to_variables(CELL)
    sizes = {name: getattr(CONFIG, name) for name in (
        "memory_size", "word_size", "num_read_heads", "num_write_heads", "clip_value")}  # fmt: skip
    with pytest.raises(ValueError, match=r"float32.*float64.*bfloat16"):
        dncx.interop.deepmind.from_variables(
            {name: value.astype(np.float16) for name, value in variables.items()}, **sizes
        )


def test_export_of_the_native_kernel():
    """JAX refuses it, with the name of the call, which says what can be exported."""
    cell = DNC(3, 5, CONFIG, implementation="native", rngs=rngs())
    with pytest.raises(ValueError, match="to export, make the cell with implementation='xla'"):
        jax.export.export(jax.jit(lambda x: unroll(cell, x)[0]))(X)


@pytest.mark.parametrize("cell", [XLA_CELL, neural_turing_machine(3, 5, CONFIG, rngs=nnx.Rngs(0))])
def test_export_of_one_step(cell):
    """Its states are types that JAX can write and read."""
    state = cell.initialize_carry((2, 3))
    program = jax.export.export(jax.jit(lambda *given: cell(*given)))(state, X[:, 0]).serialize()
    got, outputs = jax.export.deserialize(program).call(state, X[:, 0])
    assert jax.tree.structure(got) == jax.tree.structure(state)
    np.testing.assert_allclose(outputs, cell(state, X[:, 0])[1], atol=1e-6)


def test_numpy_numbers_become_pythons():
    config = DNCConfig(
        memory_size=np.int64(4), clip_value=np.float32(3), output_bias=np.True_, forget_bias=1
    )
    assert config == DNCConfig(memory_size=4, clip_value=3.0, forget_bias=1.0)
    kinds = {type(value) for value in vars(config).values()}
    assert kinds <= {int, float, bool, str, type(None)}
    cell = DNC(np.int32(3), np.int64(5), config, rngs=rngs())
    assert (type(cell.input_size), type(cell.output_size)) == (int, int)


def test_lists_and_numpy_arrays_are_fine():
    outputs, _ = unroll(CELL, np.ones((2, 4, 3)).tolist(), lengths=[4, 2])
    expected, _ = unroll(CELL, np.ones((2, 4, 3), np.int64), lengths=np.array([4, 2]))
    np.testing.assert_array_equal(outputs, expected)
    state = jax.tree.map(np.asarray, STATE)
    np.testing.assert_allclose(CELL(state, X[:, 0].tolist())[1], CELL(STATE, X[:, 0])[1], atol=1e-6)


def test_a_network_with_an_embedding_is_a_cell():
    """As the loaded bAbI network is one."""
    network = Embedded(7, 3, CELL, rngs())
    inputs = jax.random.normal(jax.random.key(0), (2, 4, 7))
    outputs, state = jax.jit(unroll)(network, inputs)
    expected, expected_state = jax.jit(unroll)(CELL, network.embedding(inputs))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)


@pytest.mark.parametrize("name", dncx.__dir__())
def test_public_names_load_at_once(name):
    assert getattr(dncx, name) is not None


def test_packages_load_alike():
    """Each folder, without an import of its own."""
    root = Path(dncx.__file__).parent
    folders = {path.parent.name for path in root.glob("*/__init__.py")}
    assert folders == set(dncx._PACKAGES)
