"""Sequences: lengths, resets, states, axes, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, unroll, unroll_with_trace

CONFIG = DNCConfig(memory_size=5, word_size=3, num_read_heads=2, hidden_size=6)
CELL = DNC(3, 2, CONFIG, rngs=nnx.Rngs(0))
INPUTS = jax.random.normal(jax.random.key(1), (2, 6, 3))
run = jax.jit(unroll, static_argnames="time_major")


def assert_same(actual, expected, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), actual, expected)


def test_steps_past_the_length_change_nothing_and_give_zeros():
    lengths = jnp.array([4, 0])
    outputs, state = run(CELL, INPUTS, lengths=lengths)
    short, short_state = run(CELL, INPUTS[:, :4])
    assert_same(outputs[0, :4], short[0])
    assert not np.any(outputs[0, 4:])
    assert not np.any(outputs[1])
    assert_same(jax.tree.map(lambda x: x[0], state), jax.tree.map(lambda x: x[0], short_state))
    assert not any(np.any(leaf[1]) for leaf in jax.tree.leaves(state))


def test_inputs_past_the_length_get_no_gradient():
    def loss(inputs):
        outputs, state = unroll(CELL, inputs, lengths=jnp.array([4, 6]))
        return jnp.sum(outputs**2) + jnp.sum(state.access_state.memory**2)

    gradient = jax.jit(jax.grad(loss))(INPUTS)
    assert not np.any(gradient[0, 4:])
    assert np.all(gradient[0, :4])
    assert np.all(gradient[1])


def test_padding_may_be_anything_even_nan():
    """Neither values nor gradients see what stands past the length."""
    padded = INPUTS.at[0, 4:].set(jnp.nan)
    graph, params = nnx.split(CELL)

    @jax.jit
    def loss_and_gradient(params, inputs):
        def loss(params):
            lengths = jnp.array([4, 6])
            return jnp.sum(unroll(nnx.merge(graph, params), inputs, lengths=lengths)[0] ** 2)

        return jax.value_and_grad(loss)(params)

    assert_same(loss_and_gradient(params, padded), loss_and_gradient(params, INPUTS))


def test_lengths_of_any_integer_type():
    inputs = jnp.ones((1, 200, 3))
    outputs, _ = run(CELL, inputs, lengths=jnp.array([100], jnp.int8))
    assert np.all(outputs[0, :100].any(axis=-1))
    assert not np.any(outputs[0, 100:])


def test_trace_is_zero_past_the_length():
    _, _, trace = jax.jit(unroll_with_trace)(CELL, INPUTS, lengths=jnp.array([4, 6]))
    assert not any(np.any(leaf[0, 4:]) for leaf in jax.tree.leaves(trace))
    assert np.any(trace.access.interface.read_mode[0, 3])


def test_trace_ends_in_the_last_state_and_matches_unroll():
    expected, expected_state = run(CELL, INPUTS)
    outputs, state, trace = jax.jit(unroll_with_trace)(CELL, INPUTS)
    assert_same((outputs, state), (expected, expected_state))
    assert_same(jax.tree.map(lambda x: x[:, -1], trace.state), state)
    assert trace.state.access_state.linkage.link.shape == (2, 6, 1, 5, 5)


def test_a_sequence_in_two_parts_is_the_sequence():
    whole, whole_state = run(CELL, INPUTS)
    first, state = run(CELL, INPUTS[:, :2])
    second, state = run(CELL, INPUTS[:, 2:], initial_state=state)
    assert_same(jnp.concatenate([first, second], axis=1), whole)
    assert_same(state, whole_state)


@pytest.mark.parametrize("implementation", ["plain", "xla", "native"])
def test_factors_scale_the_controllers_way_to_the_output(implementation):
    """y_t = W_y [h_t ∘ factors; r_t] + b. The memory and the next step see h_t itself."""
    cell = DNC(3, 2, CONFIG, implementation=implementation, rngs=nnx.Rngs(0))
    factors = np.random.default_rng(0).choice([0, 2], size=(2, 6, 6)).astype(np.float32)
    outputs, state = run(cell, INPUTS, hidden_factors=factors)
    _, expected_state, trace = jax.jit(unroll_with_trace)(cell, INPUTS)
    words = trace.state.access_output.reshape(2, 6, -1)
    features = np.concatenate([trace.controller_output * factors, words], axis=-1)
    assert_same(state, expected_state)
    assert_same(outputs, cell.output_linear(features), atol=1e-5)
    _, first = jax.jit(cell)(cell.initialize_carry((2, 3)), INPUTS[:, 0], factors[:, 0])
    assert_same(first, outputs[:, 0])
    swapped = run(
        cell, INPUTS.swapaxes(0, 1), hidden_factors=factors.swapaxes(0, 1), time_major=True
    )
    assert_same(swapped[0].swapaxes(0, 1), outputs)


def test_factors_of_one_example():
    factors = jnp.zeros((6, 6))
    outputs, _ = run(CELL, INPUTS[0], hidden_factors=factors)
    assert not np.allclose(outputs, run(CELL, INPUTS[0])[0])
    _, first = jax.jit(CELL)(CELL.initialize_carry((3,)), INPUTS[0, 0], factors[0])
    assert_same(first, outputs[0])


def test_a_reset_starts_anew_for_that_example_only():
    resets = jnp.zeros((2, 6), bool).at[0, 3].set(True)
    outputs, _ = run(CELL, INPUTS, resets=resets)
    whole, _ = run(CELL, INPUTS)
    anew, _ = run(CELL, INPUTS[:, 3:])
    assert_same(outputs[1], whole[1])
    assert_same(outputs[0, :3], whole[0, :3])
    assert_same(outputs[0, 3:], anew[0])
    assert not np.allclose(anew[0], whole[0, 3:])


def test_a_reset_goes_back_to_an_empty_memory_not_to_the_given_state():
    _, state = run(CELL, INPUTS)
    outputs, _ = run(
        CELL, INPUTS, initial_state=state, resets=jnp.zeros((2, 6), bool).at[:, 0].set(True)
    )
    assert_same(outputs, run(CELL, INPUTS)[0])


def test_time_major():
    swapped = jnp.swapaxes(INPUTS, 0, 1)
    expected, expected_state = run(CELL, INPUTS, resets=jnp.eye(2, 6, dtype=bool))
    outputs, state = run(CELL, swapped, resets=jnp.eye(2, 6, dtype=bool).T, time_major=True)
    assert_same(jnp.swapaxes(outputs, 0, 1), expected)
    assert_same(state, expected_state)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_any_batch_shape_and_none(batch):
    inputs = jnp.broadcast_to(INPUTS[0], (*batch, 6, 3))
    outputs, state = run(CELL, inputs, lengths=jnp.full(batch, 5))
    assert outputs.shape == (*batch, 6, 2)
    assert state.access_state.memory.shape == (*batch, 5, 3)
    expected, _ = run(CELL, INPUTS[:1], lengths=jnp.full(1, 5))
    assert_same(outputs, jnp.broadcast_to(expected[0], outputs.shape))


def test_what_was_read_reaches_the_controller_at_the_next_step():
    """The fault of a widely used package: its controller never sees the read words."""
    state = CELL.initialize_carry((3,))
    told = state._replace(access_output=jnp.full((2, 3), 7.0))
    step = jax.jit(lambda state: CELL(state, INPUTS[0, 0])[0].controller_state.hidden)
    assert not np.allclose(step(state), step(told))


def test_the_start_is_the_same_every_time():
    """No randomness in the initial state, so that evaluation repeats."""
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(CELL.initialize_carry((2, 3))))


def test_other_recurrent_cells_unroll_too():
    lstm = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    outputs, _ = unroll(lstm, INPUTS, lengths=jnp.array([4, 6]))
    expected = nnx.RNN(lstm)(INPUTS)
    assert_same(outputs[1], expected[1])
    assert not np.any(outputs[0, 4:])


REFUSED = [
    (r"inputs \[\*batch, time, features\], got shape \(3,\)", INPUTS[0, 0], {}),
    (r"inputs.*3 features.*\[\*batch, 3\].*got \(2, 2\)", INPUTS[:, :, :2], {}),
    (r"lengths must lie in 0..6.*got 2..7", INPUTS, {"lengths": np.array([2, 7])}),
    (r"lengths must lie in 0..6.*got -1..3", INPUTS, {"lengths": np.array([-1, 3])}),
    (r"lengths.*of shape \(2,\).*got int32 of shape \(3,\)", INPUTS,
     {"lengths": jnp.array([1, 2, 3])}),
    (r"lengths must be integers.*got float32", INPUTS, {"lengths": jnp.ones(2)}),
    (r"resets must be booleans of shape \(2, 6\); got bool of shape \(6, 2\)", INPUTS,
     {"resets": jnp.zeros((6, 2), bool)}),
    (r"initial_state.*must have shape \(2, 2, 3\).*got \(1, 2, 3\)", INPUTS,
     {"initial_state": CELL.initialize_carry((1, 3))}),
    (r"initial_state must be like a DNCState", INPUTS, {"initial_state": jnp.zeros(3)}),
]  # fmt: skip


def test_a_step_refuses_a_state_of_another_batch():
    with pytest.raises(ValueError, match=r"batch shape \(2,\).*inputs"):
        CELL(CELL.initialize_carry((2, 3)), INPUTS)


@pytest.mark.parametrize(("message", "inputs", "options"), REFUSED)
def test_refuses(message, inputs, options):
    with pytest.raises(ValueError, match=message):
        unroll(CELL, inputs, **options)
