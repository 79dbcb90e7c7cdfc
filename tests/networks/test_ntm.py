"""The Neural Turing Machine: its equations, and as a model of the trainer as the others are."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_relative
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.cli.main import main
from dncx.exporting import export_programs
from dncx.networks import ntm
from dncx.networks.ntm import NTMAccess, neural_turing_machine
from dncx.runs import directory as runs
from dncx.runs.metrics import read_metrics

SIZES = {"memory_size": 5, "word_size": 3, "num_read_heads": 2, "hidden_size": 6}


def make(dtype=jnp.float32, **changes):
    return neural_turing_machine(
        4, 2, DNCConfig(**SIZES | changes), rngs=nnx.Rngs(0), param_dtype=dtype
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def addressed_by_loops(memory, before, raw, epsilon):
    """Equations 5 to 9 for one head, number by number."""
    slots, width = memory.shape
    key, strength, gate = raw[:width], softplus(raw[width]), sigmoid(raw[width + 1])
    sharpness, shift = 1 + softplus(raw[width + 2]), np.exp(raw[width + 3 :])
    shift = dict(zip((-1, 0, 1), shift / shift.sum(), strict=True))
    content = np.zeros(slots)
    for i in range(slots):
        norms = np.sqrt(key @ key + epsilon) * np.sqrt(memory[i] @ memory[i] + epsilon)
        content[i] = np.exp(strength * (key @ memory[i]) / (norms + epsilon))
    mixed = gate * content / content.sum() + (1 - gate) * before
    moved = np.zeros(slots)
    for i in range(slots):
        for j in range(slots):
            distance = (i - j + 1) % slots - 1
            moved[i] += mixed[j] * shift.get(distance, 0)
    sharp = moved**sharpness
    return sharp / sharp.sum()


@pytest.mark.parametrize("writes", [1, 2])
def test_steps_are_the_papers_equations(writes, x64):
    """Three steps against loops, with weights large enough to jump, move and erase."""
    access = make(jnp.float64, num_write_heads=writes).access
    kernel = access.interface_linear.kernel
    kernel[...] = 4 * kernel[...]
    state = access.initial_state(jnp.float64)
    memory = np.asarray(state.memory)
    before = np.concatenate([state.write_weights, state.read_weights])
    heads, width = writes + 2, 3
    for step in range(3):
        h = jax.random.normal(jax.random.key(step), (6,), jnp.float64)
        state, words = access(state, h)

        raw = np.asarray(h @ access.interface_linear.kernel[...])
        raw = raw + access.interface_linear.bias[...]
        rows = raw[: heads * (width + 6)].reshape(heads, width + 6)
        erase, add = raw[heads * (width + 6) :].reshape(2, writes, width)
        now = [addressed_by_loops(memory, before[m], rows[m], 1e-6) for m in range(writes)]
        for m in range(writes):
            memory = memory * (1 - np.outer(now[m], sigmoid(erase[m])))
        for m in range(writes):
            memory = memory + np.outer(now[m], add[m])
        for r in range(writes, heads):
            now.append(addressed_by_loops(memory, before[r], rows[r], 1e-6))
        before = np.array(now)
        found = np.concatenate([state.write_weights, state.read_weights])
        np.testing.assert_allclose(found, before, atol=1e-6)
        np.testing.assert_allclose(state.memory, memory, atol=1e-6)
        np.testing.assert_allclose(words, before[writes:] @ memory, atol=1e-6)


def test_a_head_moves_on_in_a_circle():
    """A whole shift of one slot, from the last slot to the first."""
    at_last = jnp.array([[0.0, 0, 0, 1]])
    on, back = jnp.array([[0.0, 0, 1]]), jnp.array([[1.0, 0, 0]])
    np.testing.assert_array_equal(ntm.shifted(at_last, on), [[1, 0, 0, 0]])
    np.testing.assert_array_equal(ntm.shifted(at_last, back), [[0, 0, 1, 0]])
    np.testing.assert_array_equal(ntm.shifted(at_last, jnp.array([[0.0, 1, 0]])), at_last)


def test_sharpening_undoes_a_blur():
    blurred = jnp.array([[0.1, 0.8, 0.1, 0.0]])
    np.testing.assert_allclose(ntm.sharpened(blurred, jnp.ones(1)), blurred, atol=1e-6)
    assert float(ntm.sharpened(blurred, jnp.full(1, 8.0)).max()) > 0.999


def test_weightings_sum_to_1_and_gradients_are_finite():
    """Through 60 steps of a wild network, whose heads begin at exactly one slot."""
    cell = make()
    graph, params = nnx.split(cell)
    params = jax.tree.map(lambda x: 8 * x, params)
    inputs = 5 * jax.random.normal(jax.random.key(0), (3, 60, 4))

    @jax.jit
    def run(params):
        def loss(params):
            outputs, state = unroll(nnx.merge(graph, params), inputs)
            return jnp.sum(outputs**2), state

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, state), gradient = run(params)
    for weights in (state.access_state.read_weights, state.access_state.write_weights):
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)


@pytest.mark.second_step
def test_it_is_a_cell_like_the_others(x64):
    """unroll = steps = nnx.RNN; lengths freeze the state; bfloat16 is near float64."""
    cell, inputs = make(), jax.random.normal(jax.random.key(1), (2, 4, 4), jnp.float32)
    outputs, _ = jax.jit(unroll)(cell, inputs)
    step = jax.jit(cell)
    state, stepped = cell.initialize_carry((2, 4)), []
    for time in range(4):
        state, output = step(state, inputs[:, time])
        stepped.append(output)
    np.testing.assert_allclose(outputs, jnp.stack(stepped, axis=1), atol=1e-6)
    np.testing.assert_allclose(
        outputs, nnx.jit(lambda rnn, x: rnn(x))(nnx.RNN(cell), inputs), atol=1e-6
    )
    short, _ = jax.jit(unroll)(cell, inputs, lengths=jnp.array([2, 4], jnp.int32))
    np.testing.assert_allclose(short[0, :2], outputs[0, :2], atol=1e-6)
    assert not np.any(short[0, 2:])
    params = nnx.state(cell)
    for dtype, tolerance in {jnp.float64: 1e-5, jnp.bfloat16: 0.1}.items():
        graph, _ = nnx.split(make(dtype))
        same = nnx.merge(graph, jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), params))
        found, _ = jax.jit(unroll)(same, inputs)
        assert found.dtype == dtype
        assert_relative(found, outputs, tolerance)


def test_settings_reach_the_parts():
    nature = DNCConfig.nature(**SIZES, num_layers=2)
    cell = neural_turing_machine(4, 2, nature, rngs=nnx.Rngs(0))
    assert isinstance(cell, DNC)
    access = cell.access
    assert access.interface_linear.in_features == 12
    assert access.interface_linear.bias is None
    assert (access.strength_activation, access.cosine_epsilon) == ("oneplus", 0)
    strengths = access._addressing(jnp.full((3, 9), -50.0)).strengths
    np.testing.assert_allclose(strengths, 1)


FLAGS = [
    "--model=ntm", "--hidden_size=32", "--memory_size=12", "--word_size=8", "--num_read_heads=1",
    "--num_bits=3", "--max_length=3", "--batch_size=16", "--report_interval=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("ntm") / "run"
    flags = [*FLAGS, "--num_training_iterations=800", "--learning_rate=1e-3"]
    assert main(["train", "copy", *flags, "--checkpoint_interval=400", f"--run_dir={run_dir}"]) == 0
    return run_dir


@pytest.mark.second_step
def test_it_learns_to_copy(trained):
    """Far below a guess, which costs 2 vectors of 3 bits."""
    lines = read_metrics(trained / "metrics.jsonl")
    assert lines[0]["loss"] > 5
    assert lines[-1]["loss"] < 3


@pytest.mark.second_step
def test_eval_at_another_memory_size(trained, capsys):
    assert main(["eval", str(trained), "--num_episodes=20", "--memory_size=30"]) == 0
    out = capsys.readouterr().out
    assert "memory_size 30" in out
    assert "model output" in out
    sweep = ["--sweep=length=3,6", "--sweep=memory_size=12,24", "--num_episodes=10"]
    assert main(["eval", str(trained), *sweep]) == 0
    assert "length  memory size  bit error" in capsys.readouterr().out


@pytest.mark.second_step
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, capsys):
    flags = [*FLAGS, "--checkpoint_interval=20"]
    for name, stops in {"straight": (40,), "resumed": (20, 40)}.items():
        for stop in stops:
            command = [*flags, f"--run_dir={tmp_path / name}", f"--num_training_iterations={stop}"]
            assert main(["train", "copy", *command]) == 0
    assert "resuming from" in capsys.readouterr().out
    straight, resumed = (
        runs.load_model(tmp_path / name / "model.safetensors") for name in ("straight", "resumed")
    )
    assert straight.keys() == resumed.keys()
    for name, array in straight.items():
        np.testing.assert_array_equal(array, resumed[name])


@pytest.mark.second_step
def test_it_is_listed_exported_and_not_explored(trained, capsys):
    from jaxtyping import config

    assert main(["runs", str(trained.parent)]) == 0
    assert "ntm 12x8" in capsys.readouterr().out
    assert main(["explore", str(trained)]) == 2
    assert "NTMAccess" in capsys.readouterr().err
    _, network, made, _ = runs.load_run(trained)
    assert made.network.kind == "ntm"
    assert isinstance(network.access, NTMAccess)
    config.update("jaxtyping_disable", True)  # sizes without a number
    try:
        programs = export_programs(network, 4)
    finally:
        config.update("jaxtyping_disable", False)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 4))
    first = jax.tree.leaves(network.initialize_carry((2, 4)))
    _, outputs = programs["sequence"].call(first, inputs, jnp.full(2, 5, jnp.int32))
    np.testing.assert_allclose(outputs, unroll(network, inputs)[0], atol=1e-4)


def test_slots_are_not_shared(tmp_path):
    command = [sys.executable, "-m", "dncx", "train", "copy", *FLAGS, "--memory_devices=2"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert result.returncode == 2
    assert "memory_devices=2" in result.stderr
    assert "ntm" in result.stderr
    assert list(tmp_path.iterdir()) == []
