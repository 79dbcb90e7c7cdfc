"""The tape-RNN: its equations as loops, and as a model of the trainer."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dncx
from dncx.cli.main import main
from dncx.networks.memory_rnn import MemoryRNN
from dncx.networks.tape import Tape, acted, tape_rnn
from dncx.runs.directory import load_run

STAY, LEFT, RIGHT, JUMP_LEFT, JUMP_RIGHT = map(jnp.asarray, np.eye(5, dtype=np.float32))


def make(**changes):
    sizes = {"memory_size": 4, "word_size": 2, "hidden_size": 5} | changes
    return tape_rnn(3, 2, dncx.DNCConfig(**sizes), rngs=nnx.Rngs(0))


def linear(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def test_equals_its_equations():
    """Seven steps on a tape of four cells, so that jumps go round; cell by cell."""
    network = make()
    for layer in (network.memory.action_linear, network.controller.dense_i):
        layer.bias[...] = jax.random.normal(jax.random.key(1), layer.bias.shape)
    inputs = jax.random.normal(jax.random.key(0), (7, 3))
    outputs, state = dncx.unroll(network, inputs)
    hidden, tape = np.zeros(5), np.zeros((4, 2))
    recurrent = np.asarray(network.controller.dense_h.kernel[...])
    first, second, last = network.memory.value_layers
    for t in range(7):
        seen = np.concatenate([inputs[t], tape[0]])
        hidden = np.maximum(linear(network.controller.dense_i, seen) + hidden @ recurrent, 0)
        raw = np.exp(linear(network.memory.action_linear, hidden))
        stay, left, right, jump_left, jump_right = raw / raw.sum()
        inner = np.maximum(linear(second, np.maximum(linear(first, hidden), 0)), 0)
        tape[0] = linear(last, inner)
        written = tape.copy()
        for i in range(4):
            tape[i] = stay * written[i] + left * written[(i + 1) % 4] + right * written[i - 1]
            tape[i] += jump_left * written[(i + t) % 4] + jump_right * written[(i - t) % 4]
        np.testing.assert_allclose(outputs[t], linear(network.output_linear, hidden), atol=1e-4)
    np.testing.assert_allclose(state.hidden, hidden, atol=1e-4)
    np.testing.assert_allclose(state.memory.tape, tape, atol=1e-4)
    assert state.memory.steps == 7


def test_a_jump_returns_to_the_beginning():
    """Three values are written side by side; then a jump finds the first, and moves the others."""
    tape = jnp.zeros((6, 1))
    for step, value in enumerate([1.0, 2.0, 3.0]):
        tape = acted(tape, LEFT, jnp.array([value]), jnp.int32(step))
    np.testing.assert_array_equal(tape[:, 0], [0, 0, 0, 1, 2, 3])
    tape = acted(tape, JUMP_RIGHT, jnp.zeros(1), jnp.int32(3))
    for value in (1.0, 2.0, 3.0):
        assert tape[0, 0] == value
        tape = acted(tape, LEFT, tape[0], jnp.int32(4))


def test_it_moves_back():
    """What was written comes back in reverse by moves in the other direction."""
    tape = jnp.zeros((4, 1))
    for value in (1.0, 2.0, 3.0):
        tape = acted(tape, LEFT, jnp.array([value]), jnp.int32(0))
    found = []
    for _ in range(3):
        tape = acted(tape, RIGHT, tape[0], jnp.int32(0))
        found.append(float(tape[0, 0]))
    assert found == [3, 2, 1]


def test_actions_that_stay_or_jump_left():
    tape = jnp.array([[1.0], [2], [3], [4]])
    stayed = acted(tape, STAY, jnp.array([9.0]), jnp.int32(2))
    np.testing.assert_array_equal(stayed[:, 0], [9, 2, 3, 4])
    jumped = acted(tape, JUMP_LEFT, jnp.array([9.0]), jnp.int32(5))
    np.testing.assert_array_equal(jumped[:, 0], [2, 3, 4, 9])


def test_the_state_counts_the_steps_of_each_example():
    network = make()
    inputs = jax.random.normal(jax.random.key(0), (2, 4, 3))
    _, state = dncx.unroll(network, inputs, lengths=jnp.array([2, 4], jnp.int32))
    np.testing.assert_array_equal(state.memory.steps, [2, 4])
    resets = jnp.zeros((2, 4), bool).at[1, 3].set(True)
    _, state = dncx.unroll(network, inputs, resets=resets)
    np.testing.assert_array_equal(state.memory.steps, [4, 1])


def test_gradients_are_finite_and_reach_every_weight():
    network = make()
    inputs = 5 * jax.random.normal(jax.random.key(0), (3, 60, 3))

    @jax.jit
    def gradient(network):
        return nnx.grad(lambda network: jnp.sum(dncx.unroll(network, inputs)[0] ** 2))(network)

    for leaf in jax.tree.leaves(gradient(network)):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)


FLAGS = ["--max_length=2", "--batch_size=4", "--hidden_size=8", "--memory_size=6", "--word_size=4"]


def test_it_is_trained_by_name(tmp_path, capsys):
    run = ["train", "copy", "--model=tape", *FLAGS, f"--run_dir={tmp_path / 'run'}"]
    assert main([*run, "--num_training_iterations=2"]) == 0
    network = load_run(tmp_path / "run").network
    assert isinstance(network, MemoryRNN)
    assert isinstance(network.memory, Tape)
    assert main(["eval", str(tmp_path / "run"), "--num_episodes=4", "--memory_size=9"]) == 0
    assert "memory_size 9" in capsys.readouterr().out
