"""The GRU baseline against its equations, and in the trainer."""

import jax
import numpy as np
import pytest
from flax import nnx

import dncx
from dncx.cli.main import main
from dncx.networks.gru import GRUNetwork
from dncx.runs.directory import load_run


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_equals_its_equations():
    network = GRUNetwork(3, 2, dncx.DNCConfig(hidden_size=4), rngs=nnx.Rngs(0))
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 3))
    outputs, state = dncx.unroll(network, inputs)
    cell = nnx.to_pure_dict(nnx.state(network.cell))
    from_input, from_state = (np.asarray(cell[name]["kernel"]) for name in ("dense_i", "dense_h"))
    biases = np.asarray(cell["dense_i"]["bias"])
    state_biases = np.asarray(cell["dense_h"].get("bias", np.zeros(12)))
    hidden = np.zeros((2, 4))
    for t in range(5):
        x = np.split(np.asarray(inputs[:, t]) @ from_input + biases, 3, axis=-1)
        h = np.split(hidden @ from_state + state_biases, 3, axis=-1)
        reset, update = sigmoid(x[0] + h[0]), sigmoid(x[1] + h[1])
        new = np.tanh(x[2] + reset * h[2])
        hidden = (1 - update) * new + update * hidden
        wanted = hidden @ np.asarray(network.output_linear.kernel.get_value()) + np.asarray(
            network.output_linear.bias.get_value()
        )
        np.testing.assert_allclose(outputs[:, t], wanted, atol=1e-5)
    np.testing.assert_allclose(state, hidden, atol=1e-5)


def test_it_is_trained_by_name(tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = [f"--run_dir={run_dir}", "--num_training_iterations=2", "--hidden_size=8"]
    assert main(["train", "copy", "--model=gru", "--max_length=2", *flags]) == 0
    assert isinstance(load_run(run_dir).network, GRUNetwork)
    assert main(["eval", str(run_dir), "--num_episodes=4"]) == 0
    assert "no memory" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["memory_size", "num_layers", "linkage", "content_mask"])
def test_flags_without_effect_are_refused(flag, tmp_path, capsys):
    value = {"linkage": "=none", "content_mask": ""}.get(flag, "=2")
    flags = [f"--{flag}{value}", f"--run_dir={tmp_path / 'run'}"]
    assert main(["train", "copy", "--model=gru", *flags]) == 2
    assert flag in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
