"""A network that also reads its sequences backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.cli.main import main
from dncx.networks.bidirectional import Bidirectional
from dncx.networks.build import make_network
from dncx.networks.config import NetworkConfig
from dncx.parts import cell_of

CONFIG = DNCConfig(memory_size=4, word_size=3, num_read_heads=1, hidden_size=5)
NETWORK = Bidirectional(3, DNC(8, 2, CONFIG, rngs=nnx.Rngs(0)), CONFIG, rngs=nnx.Rngs(1))
INPUTS = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
INPUTS[0, 4:] = 0  # padding
INPUTS[1, 2] = 0  # a step without an input, within the sequence
RUN = ["train", "copy", "--bidirectional", "--hidden_size=4", "--batch_size=2", "--max_length=2"]
RUN += ["--memory_size=4", "--word_size=3", "--num_read_heads=1", "--checkpoint_interval=2"]


def test_inputs_of_the_cell_are_those_of_a_loop():
    found = jax.jit(lambda network, x: network.inputs_of_cell(x))(NETWORK, INPUTS)
    step = jax.jit(NETWORK.backward)
    for example, last in ((0, 3), (1, 5)):
        state = NETWORK.backward.initialize_carry((3,))
        for t in range(5, -1, -1):
            output = np.zeros(5)
            if t <= last:
                state, output = step(state, INPUTS[example, t])
            expected = np.concatenate([INPUTS[example, t], output])
            np.testing.assert_allclose(found[example, t], expected, atol=1e-6)


def test_padding_changes_nothing():
    run = jax.jit(lambda network, x: network.inputs_of_cell(x))
    np.testing.assert_allclose(
        run(NETWORK, INPUTS[:1])[:, :4], run(NETWORK, INPUTS[:1, :4]), atol=1e-6
    )


def test_a_step_is_refused():
    state = NETWORK.initialize_carry((2, 3))
    with pytest.raises(TypeError, match="complete sequence"):
        NETWORK(state, INPUTS[:, 0])


def test_unroll_prepares_the_inputs():
    """Whatever lies beyond the lengths, with either axis first."""
    run = jax.jit(unroll, static_argnames="time_major")
    expected, state = run(NETWORK.cell, NETWORK.inputs_of_cell(jnp.asarray(INPUTS)))
    found, last = run(NETWORK, INPUTS)
    jax.tree.map(np.testing.assert_array_equal, (found, last), (expected, state))
    lengths, junk = np.array([4, 6]), INPUTS.copy()
    junk[0, 4:] = np.nan
    ragged, _ = run(NETWORK, junk, lengths=lengths)
    np.testing.assert_array_equal(ragged[0, :4], expected[0, :4])
    np.testing.assert_array_equal(ragged[0, 4:], 0)
    other, _ = run(NETWORK, junk.swapaxes(0, 1), lengths=lengths, time_major=True)
    np.testing.assert_array_equal(other, ragged.swapaxes(0, 1))
    with pytest.raises(TypeError, match="resets: a Bidirectional"):
        unroll(NETWORK, INPUTS, resets=np.zeros((2, 6), bool))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"8 features.* 4 \+ 5"):
        Bidirectional(4, NETWORK.cell, CONFIG, rngs=nnx.Rngs(1))
    with pytest.raises(ValueError, match="3 features"):
        NETWORK.inputs_of_cell(jnp.asarray(INPUTS[..., :2]))


@pytest.mark.parametrize("embedding", [0, 4])
@pytest.mark.parametrize("kind", ["dnc", "lstm", "ntm"])
def test_networks_from_their_description(kind, embedding):
    config = NetworkConfig(
        kind=kind, input_size=3, output_size=2, embedding_size=embedding, bidirectional=True,
        cell=CONFIG,
    )  # fmt: skip
    network = nnx.eval_shape(lambda: make_network(config, nnx.Rngs(0)))
    cell = cell_of(network)
    assert cell.input_size == (embedding or 3) + 5
    outputs, _ = nnx.eval_shape(unroll, network, INPUTS)
    assert outputs.shape == (2, 6, 2)


@pytest.mark.second_step
def test_a_run_resumes_bit_for_bit_and_is_shown(tmp_path, capsys):
    def train(name, iterations):
        return main(
            [*RUN, f"--num_training_iterations={iterations}", f"--run_dir={tmp_path / name}"]
        )

    assert train("whole", 4) == train("cut", 2) == train("cut", 4) == 0
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    assert main(["eval", str(whole), "--num_episodes=4", "--batch_size=4"]) == 0
    assert main(["explore", str(whole), "--no_figures", f"--out={tmp_path / 'page'}"]) == 0
    capsys.readouterr()
    assert main(["export", str(whole), f"--out={tmp_path / 'export'}"]) == 2
    assert "complete sequences" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (["train", "shortest-path", "--bidirectional"], "bidirectional"),
        (["train", "copy", "--bidirectional", "--truncation=4"], "truncation"),
    ],
)
def test_without_complete_sequences_it_is_refused(line, flag, tmp_path, capsys):
    assert main([*line, f"--run_dir={tmp_path / 'run'}"]) == 2
    assert f"{flag}:" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
