"""The stack-RNN: its equations as loops, and as a model of the trainer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import config as jaxtyping_config

import dncx
from dncx.cli.main import main
from dncx.exporting import export_programs
from dncx.networks.memory_rnn import MemoryRNN
from dncx.networks.stack import acted, stack_rnn
from dncx.networks.tape import tape_rnn
from dncx.runs.directory import load_run

PUSH, POP, STAY = map(jnp.asarray, np.eye(3, dtype=np.float32))


def make(**changes):
    sizes = {"memory_size": 4, "word_size": 2, "hidden_size": 5} | changes
    return stack_rnn(3, 2, dncx.DNCConfig(**sizes), rngs=nnx.Rngs(0))


def linear(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def test_equals_its_equations():
    """Seven steps on a stack of four cells, cell by cell."""
    network = make()
    for layer in (network.memory.interface_linear, network.controller.dense_i):
        layer.bias[...] = jax.random.normal(jax.random.key(1), layer.bias.shape)
    inputs = jax.random.normal(jax.random.key(0), (7, 3))
    outputs, state = dncx.unroll(network, inputs)
    hidden, stack = np.zeros(5), np.zeros((4, 2))
    recurrent = np.asarray(network.controller.dense_h.kernel[...])
    for t in range(7):
        seen = np.concatenate([inputs[t], stack[0]])
        hidden = np.maximum(linear(network.controller.dense_i, seen) + hidden @ recurrent, 0)
        raw = linear(network.memory.interface_linear, hidden)
        push, pop, stay = np.exp(raw[:3]) / np.exp(raw[:3]).sum()
        before = stack.copy()
        for i in range(4):
            above = raw[3:] if i == 0 else before[i - 1]
            below = before[i + 1] if i < 3 else np.zeros(2)
            stack[i] = push * above + pop * below + stay * before[i]
        np.testing.assert_allclose(outputs[t], linear(network.output_linear, hidden), atol=1e-4)
    np.testing.assert_allclose(state.hidden, hidden, atol=1e-4)
    np.testing.assert_allclose(state.memory, stack, atol=1e-4)


def test_what_was_pushed_comes_back_in_reverse():
    """Also after a pause, and zeros when the stack is empty."""
    pushed = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    stack, nothing = jnp.zeros((3, 2)), jnp.zeros(2)
    for value in pushed:
        stack = acted(stack, PUSH, jnp.asarray(value))
    stack = acted(stack, STAY, nothing + 9)
    for value in pushed[::-1]:
        np.testing.assert_array_equal(stack[0], value)
        stack = acted(stack, POP, nothing + 9)
    assert not stack.any()


def test_a_full_stack_loses_its_lowest_cell():
    stack = jnp.zeros((2, 1))
    for value in (1.0, 2.0, 3.0):
        stack = acted(stack, PUSH, jnp.array([value]))
    np.testing.assert_array_equal(stack[:, 0], [3, 2])


def test_a_stack_of_one_cell():
    stack = acted(jnp.ones((1, 2)), PUSH, jnp.full(2, 5.0))
    np.testing.assert_array_equal(stack, [[5, 5]])
    assert not acted(stack, POP, jnp.ones(2)).any()


def test_gradients_are_finite_and_reach_every_weight():
    network = make()
    inputs = 5 * jax.random.normal(jax.random.key(0), (3, 60, 3))

    @jax.jit
    def gradient(network):
        return nnx.grad(lambda network: jnp.sum(dncx.unroll(network, inputs)[0] ** 2))(network)

    for leaf in jax.tree.leaves(gradient(network)):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)


def test_a_whole_sequence_equals_its_steps():
    """Batches, lengths and a state that is passed on."""
    network = make()
    inputs = jax.random.normal(jax.random.key(0), (2, 4, 3))
    outputs, last = dncx.unroll(network, inputs, lengths=jnp.array([2, 4], jnp.int32))
    state, step = network.initialize_carry((2, 3)), jax.jit(network)
    for t in range(2):
        state, output = step(state, inputs[:, t])
        np.testing.assert_allclose(outputs[:, t], output, atol=1e-6)
    np.testing.assert_allclose(last.memory[0], state.memory[0], atol=1e-6)
    later, end = dncx.unroll(network, inputs[:, 2:], initial_state=state)
    np.testing.assert_allclose(outputs[1, 2:], later[1], atol=1e-6)
    np.testing.assert_allclose(last.memory[1], end.memory[1], atol=1e-6)


def test_it_computes_in_the_dtype_of_its_weights():
    config = dncx.DNCConfig(memory_size=4, word_size=2, hidden_size=5)
    network = stack_rnn(3, 2, config, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    state, outputs = jax.eval_shape(network, network.initialize_carry((3,)), jnp.ones(3))
    assert {leaf.dtype for leaf in jax.tree.leaves((state, outputs))} == {jnp.dtype("bfloat16")}


@pytest.fixture
def without_type_checks():
    """The tests' own type checks would come first, or refuse sizes without a number."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("make_one", [stack_rnn, tape_rnn])
def test_bad_arguments_are_refused(make_one, without_type_checks):
    with pytest.raises(ValueError, match="num_layers=2"):
        make_one(3, 2, dncx.DNCConfig.nature(num_layers=2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="input_size=0"):
        make_one(0, 2, dncx.DNCConfig(), rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="DNCConfig"):
        make_one(3, 2, {"memory_size": 3}, rngs=nnx.Rngs(0))
    network = make_one(3, 2, dncx.DNCConfig(), rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="state comes first"):
        network(jnp.ones(3), network.initialize_carry((3,)))
    with pytest.raises(ValueError, match="3 features"):
        network(network.initialize_carry((3,)), jnp.ones(4))


FLAGS = ["--max_length=2", "--batch_size=4", "--hidden_size=8", "--memory_size=6", "--word_size=4"]


def test_it_is_trained_by_name(tmp_path, capsys):
    """Trained, measured with more cells, listed; not explored."""
    run = ["train", "copy", "--model=stack", *FLAGS, f"--run_dir={tmp_path / 'run'}"]
    assert main([*run, "--num_training_iterations=2"]) == 0
    found = load_run(tmp_path / "run")
    assert isinstance(found.network, MemoryRNN)
    assert found.network.memory.memory_size == 6
    assert main(["eval", str(tmp_path / "run"), "--num_episodes=4", "--memory_size=9"]) == 0
    assert "memory_size 9" in capsys.readouterr().out
    assert main(["runs", str(tmp_path)]) == 0
    assert "stack 6x4" in capsys.readouterr().out
    assert main(["explore", str(tmp_path / "run")]) == 2
    assert "MemoryRNN" in capsys.readouterr().err


UNUSED = ["num_read_heads", "num_layers", "controller", "equations", "linkage", "content_mask"]


@pytest.mark.parametrize("flag", UNUSED)
@pytest.mark.parametrize("model", ["stack", "tape"])
def test_flags_without_effect_are_refused(model, flag, tmp_path, capsys):
    words = {"controller": "=lstm", "equations": "=nature", "linkage": "=none", "content_mask": ""}
    flags = [f"--{flag}{words.get(flag, '=2')}", f"--run_dir={tmp_path / 'run'}"]
    assert main(["train", "copy", f"--model={model}", *flags]) == 2
    assert flag in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.second_step
@pytest.mark.parametrize("make_one", [stack_rnn, tape_rnn])
def test_it_is_exported(make_one, without_type_checks):
    network = make_one(3, 2, dncx.DNCConfig(), rngs=nnx.Rngs(0))
    programs = export_programs(network, 3)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 3))
    first = jax.tree.leaves(network.initialize_carry((2, 3)))
    _, outputs = programs["sequence"].call(first, inputs, jnp.full(2, 5, jnp.int32))
    np.testing.assert_allclose(outputs, dncx.unroll(network, inputs)[0], atol=1e-4)
