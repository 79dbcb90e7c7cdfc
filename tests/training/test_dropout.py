"""Dropout of the controller's output on its way to the output layer."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.cli.main import main
from dncx.networks.lstm import LSTMNetwork
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.batches import keys_for
from dncx.training.gradient import (
    GradientOptions,
    dropout_factors,
    loss_and_gradient,
    respond,
    unroll_truncated,
)

TASK = RepeatCopy(max_length=2)
CONFIG = DNCConfig(memory_size=4, word_size=4, num_read_heads=1, hidden_size=8)
CELL = DNC(TASK.input_size, TASK.output_size, CONFIG, rngs=nnx.Rngs(0))
EPISODE = TASK.sample(jax.random.key(1), 4)
KEYS = keys_for(EPISODE, jax.random.key(2))


def test_each_factor_is_zero_or_makes_up_for_the_zeros():
    factors = np.asarray(dropout_factors(CELL, EPISODE.inputs, KEYS, 0.25))
    assert factors.shape == (*EPISODE.inputs.shape[:2], 8)
    assert set(np.unique(factors)) == {0, np.float32(1) / np.float32(0.75)}
    wide = LSTMNetwork(TASK.input_size, 1, DNCConfig(hidden_size=1000), rngs=nnx.Rngs(0))
    mean = np.mean(dropout_factors(wide, EPISODE.inputs[:1], KEYS[:1], 0.25))
    assert abs(mean - 1) < 5 * np.sqrt(0.25 / 0.75 / (1000 * EPISODE.inputs.shape[1]))


def test_a_sequence_has_its_own_factors_wherever_it_is_in_the_batch():
    factors = dropout_factors(CELL, EPISODE.inputs, KEYS, 0.5)
    backwards = dropout_factors(CELL, EPISODE.inputs, KEYS[::-1], 0.5)
    np.testing.assert_array_equal(factors[::-1], backwards)
    assert not np.array_equal(factors[0], factors[1])


@pytest.mark.parametrize(
    "cell", [CELL, LSTMNetwork(TASK.input_size, TASK.output_size, CONFIG, rngs=nnx.Rngs(0))]
)
def test_training_drops_and_evaluation_does_not(cell):
    options = GradientOptions(output_dropout=0.5)
    answer = jax.jit(respond, static_argnums=(1,), static_argnames=("training", "options"))
    outputs, _ = answer(cell, TASK, EPISODE, KEYS, training=False, options=options)
    plain, _ = jax.jit(unroll)(cell, EPISODE.inputs)
    np.testing.assert_allclose(outputs, plain, atol=1e-6)
    dropped, _ = answer(cell, TASK, EPISODE, KEYS, training=True, options=options)
    factors = dropout_factors(cell, EPISODE.inputs, KEYS, 0.5)
    expected, _ = jax.jit(unroll)(cell, EPISODE.inputs, hidden_factors=factors)
    np.testing.assert_allclose(dropped, expected, atol=1e-6)
    assert not np.allclose(dropped, plain)


def test_the_gradient_is_the_same_in_parts():
    graph, params = nnx.split(CELL)

    @partial(jax.jit, static_argnums=0)
    def gradient(options, params):
        return loss_and_gradient(graph, params, TASK, EPISODE, KEYS, options)

    params = nnx.to_pure_dict(params)
    whole = gradient(GradientOptions(output_dropout=0.5), params)
    parts = gradient(GradientOptions(accumulation=2, output_dropout=0.5), params)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), parts, whole)


@pytest.mark.parametrize("window", [3, 4])
def test_windows_see_the_factors_of_their_steps(window):
    factors = dropout_factors(CELL, EPISODE.inputs, KEYS, 0.5)
    state = CELL.initialize_carry(EPISODE.inputs[:, 0].shape)
    run = jax.jit(unroll_truncated, static_argnums=2)
    outputs, _ = run(CELL, EPISODE.inputs, window, state, hidden_factors=factors)
    expected, _ = jax.jit(unroll)(CELL, EPISODE.inputs, hidden_factors=factors)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_a_task_that_feeds_answers_back_refuses_it(tmp_path, capsys):
    given = ["train", "shortest-path", "--output_dropout=0.1", f"--run_dir={tmp_path / 'run'}"]
    assert main(given) == 2
    assert "output_dropout" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
