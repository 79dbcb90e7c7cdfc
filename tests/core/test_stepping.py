"""A cell that is called once per step."""

import jax
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, Stepper, unroll
from dncx.networks.bidirectional import Bidirectional

CONFIG = DNCConfig(memory_size=5, word_size=3, num_read_heads=1, hidden_size=4)
CELL = DNC(3, 2, CONFIG, rngs=nnx.Rngs(0))
INPUTS = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)


def test_stepping_equals_a_whole_sequence():
    expected, last = jax.jit(unroll)(CELL, INPUTS)
    step = Stepper(CELL, batch_shape=(4,))
    for _ in range(2):
        found = np.stack([step(x) for x in INPUTS.swapaxes(0, 1)], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), step.state, last)
        step.reset()


def test_resets_start_some_sequences_anew():
    resets = np.zeros((4, 6), bool)
    resets[1, 2] = resets[3, 5] = True
    expected, _ = jax.jit(unroll)(CELL, INPUTS, resets=resets)
    step = Stepper(CELL, batch_shape=(4,))
    found = [step(INPUTS[:, t], resets[:, t] if t > 1 else None) for t in range(6)]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=1e-5)


def test_one_example_and_a_state_that_is_kept():
    step = Stepper(CELL)
    first = step(INPUTS[0, 0])
    kept, second = step.state, step(INPUTS[0, 1])
    assert first.shape == (2,)
    step.state = kept
    np.testing.assert_array_equal(step(INPUTS[0, 1]), second)


def test_a_cell_of_flax():
    cell = nnx.GRUCell(3, 2, rngs=nnx.Rngs(0))
    assert Stepper(cell, (4,), input_size=3)(INPUTS[:, 0]).shape == (4, 2)
    with pytest.raises(TypeError, match="input_size"):
        Stepper(cell, (4,))


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(6, 3\)"):
        Stepper(CELL, (4,))(INPUTS[0])
    with pytest.raises(ValueError, match=r"resets .*\(4,\).*\(3,\)"):
        Stepper(CELL, (4,))(INPUTS[:, 0], np.zeros(3, bool))
    with pytest.raises(TypeError, match="batch_shape"):
        Stepper(CELL, 4)
    inner = DNC(7, 2, CONFIG, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="complete sequences"):
        Stepper(Bidirectional(3, inner, CONFIG, rngs=nnx.Rngs(0)))
