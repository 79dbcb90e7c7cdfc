"""The equations' properties, and their gradients against finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

from dncx import (
    DNC,
    DNCConfig,
    Freeness,
    MaskedContentAddressing,
    TemporalLinkage,
    addressing,
    unroll,
    unroll_with_trace,
)
from dncx.access import erase_and_write
from dncx.controllers import clip_gradient

# Four read heads, as elsewhere: each number of heads is a kernel of its own to compile.
CONFIGS = {
    "deepmind": DNCConfig(memory_size=6, word_size=4, num_read_heads=4, hidden_size=8),
    "two write heads": DNCConfig(
        memory_size=6, word_size=4, num_read_heads=2, num_write_heads=2, hidden_size=8
    ),
    "nature": DNCConfig.nature(
        memory_size=6, word_size=4, num_read_heads=4, hidden_size=8, num_layers=2
    ),
}


def random(seed, *shape):
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape)


@pytest.mark.parametrize("name", ["deepmind", "nature", *later("two write heads")])
def test_invariants(name):
    """Through 40 steps of a wild network: weightings, usage and link stay what they must be."""
    cell = DNC(3, 2, CONFIGS[name], rngs=nnx.Rngs(1))
    graph, params = nnx.split(cell)
    cell = nnx.merge(graph, jax.tree.map(lambda x: 6 * x, params))  # gates near 0 and 1
    inputs = jax.random.normal(jax.random.key(0), (4, 40, 3))
    _, _, trace = jax.device_get(jax.jit(unroll_with_trace)(cell, inputs))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trace))

    state, tolerance = trace.state.access_state, 1e-5
    weightings = [
        state.read_weights,
        state.write_weights,
        state.linkage.precedence_weights,
        trace.access.allocation_weights,
        trace.access.read_content_weights,
        trace.access.write_content_weights,
        trace.access.forward_weights,
        trace.access.backward_weights,
    ]
    for weighting in weightings:
        assert float(weighting.min()) >= -tolerance
        assert float(weighting.sum(axis=-1).max()) <= 1 + tolerance
    assert float(state.usage.min()) >= 0
    assert float(state.usage.max()) <= 1 + tolerance
    link = state.linkage.link
    assert float(link.min()) >= -tolerance
    assert float(link.sum(axis=-1).max()) <= 1 + tolerance
    assert float(link.sum(axis=-2).max()) <= 1 + tolerance
    assert not np.any(np.diagonal(link, axis1=-2, axis2=-1))
    modes = trace.access.interface.read_mode
    np.testing.assert_allclose(modes.sum(axis=-1), 1, atol=tolerance)
    strengths = trace.access.interface.read_strengths
    assert float(strengths.min()) >= (1 if name == "nature" else 0)


def test_a_free_gate_of_1_empties_the_slot_that_was_read():
    usage = addressing.usage_after_read(
        jnp.array([0.9, 0.8]), jnp.array([1.0]), jnp.array([[1.0, 0.0]])
    )
    np.testing.assert_allclose(usage, [0, 0.8])


def test_a_full_write_puts_the_slot_in_use():
    usage = addressing.usage_after_write(jnp.array([0.0, 0.3]), jnp.array([[1.0, 0.0]]))
    np.testing.assert_allclose(usage, [1, 0.3], rtol=1e-6)


def test_allocation_takes_the_freest_slot_and_nothing_when_all_are_in_use():
    np.testing.assert_allclose(
        addressing.allocation_weights(jnp.array([1.0, 0.0, 0.5]), 0.0), [0, 1, 0], atol=1e-6
    )
    np.testing.assert_allclose(addressing.allocation_weights(jnp.ones(3), 0.0), 0)


def test_ties_go_to_the_lower_slot():
    allocation = addressing.allocation_weights(jnp.zeros(4))
    assert int(allocation.argmax()) == 0


def test_write_heads_share_out_the_free_slots():
    """The second head takes another slot than the one the first head fills."""
    weights = Freeness(3).write_allocation_weights(jnp.zeros(3), jnp.ones(2))
    first, second = weights.argmax(axis=-1).tolist()
    assert first != second


def test_link_leads_from_each_write_to_the_next():
    """Slots 2, 0, 1 written in this order: forward from 2 is 0, backward from 1 is 0."""
    linkage = TemporalLinkage(3)
    state = linkage.initial_state(jnp.float32)
    one_hot, nothing = jnp.eye(3), jnp.zeros((1, 3))
    for slot in (2, 0, 1):
        state, _, _ = linkage(state, one_hot[slot][None], nothing)
    _, forward, _ = linkage(state, nothing, one_hot[2][None])
    _, _, backward = linkage(state, nothing, one_hot[1][None])
    assert forward[0, 0].tolist() == [1, 0, 0]
    assert backward[0, 0].tolist() == [1, 0, 0]


def test_all_erases_come_before_all_writes():
    """A head that erases does not remove what another head writes in the same step."""
    memory = erase_and_write(
        jnp.ones((1, 1)), jnp.ones((2, 1)), jnp.array([[0.0], [1.0]]), jnp.array([[5.0], [2.0]])
    )
    assert memory.tolist() == [[7]]


def test_content_finds_the_matching_slot_and_is_even_for_an_empty_memory():
    keys, sharp = jnp.array([[1.0, 0.0]]), jnp.array([50.0])
    found = addressing.content_weights(jnp.array([[0.0, 3.0], [2.0, 0.0]]), keys, sharp)
    np.testing.assert_allclose(found, [[0, 1]], atol=1e-6)
    np.testing.assert_allclose(addressing.content_weights(jnp.zeros((4, 2)), keys, sharp), 0.25)


def test_a_mask_selects_the_numbers_that_count():
    """Without a mask the slots differ; a mask of ones changes nothing."""
    memory, keys, sharp = jnp.array([[1.0, 3.0], [1.0, -3.0]]), jnp.array([[1.0, 3.0]]), jnp.ones(1)
    plain = addressing.content_weights(memory, keys, sharp)
    assert float(plain[0, 0]) > 0.8
    masked = partial(addressing.masked_content_weights, memory, keys, sharp)
    np.testing.assert_allclose(masked(jnp.ones((1, 2))), plain, rtol=1e-6)
    np.testing.assert_allclose(masked(jnp.array([[1.0, 0.0]])), [[0.5, 0.5]], rtol=1e-6)


def test_a_least_mask_keeps_every_number():
    content = MaskedContentAddressing(2, least_mask=0.1)
    memory, keys = jnp.array([[1.0, 30.0], [1.0, -30.0]]), jnp.array([[1.0, 30.0]])
    closed = jnp.array([[1.0, 0.0]])
    assert float(content(memory, keys, jnp.ones(1), closed)[0, 0]) > 0.8


def test_sharpening_makes_a_blurred_weighting_clear():
    """It keeps the order, sums to 1 also after a partial write, and is even without links."""
    blurred = jnp.array([[[0.1, 0.3, 0.1]]])
    sharp = addressing.sharpened(blurred, jnp.full((1, 1), 4.0))
    np.testing.assert_allclose(sharp.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(sharp[0, 0, 1] / sharp[0, 0, 0], 3**4, rtol=1e-4)
    even = addressing.sharpened(jnp.zeros((1, 1, 3)), jnp.full((1, 1), 4.0))
    np.testing.assert_allclose(even, 1 / 3, rtol=1e-6)


ZERO_ONE = np.array([1.0, 0.0, 0.4, 0.7])
EDGES = {  # equation, and arrays at which each entry of its gradient is checked
    "usage_after_write": (
        addressing.usage_after_write,
        (ZERO_ONE, np.array([[1.0, 0.0, 0.3, 0.0], [0.0, 0.0, 0.5, 1.0]])),
    ),
    "usage_after_read": (
        addressing.usage_after_read,
        (ZERO_ONE, np.array([1.0, 0.0]), np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0.5]])),
    ),
    "allocation": (addressing.allocation_weights, (ZERO_ONE,)),
    "allocation of the paper": (partial(addressing.allocation_weights, epsilon=0.0), (ZERO_ONE,)),
    "allocation of two heads": (
        Freeness(4).write_allocation_weights,
        (ZERO_ONE, np.array([0.9, 0.3])),
    ),
    "content": (
        addressing.content_weights,
        (random(0, 3, 2), random(1, 2, 2), random(2, 2)),
    ),
    "masked content": (
        addressing.masked_content_weights,
        (random(0, 3, 2), random(1, 2, 2), random(2, 2), random(3, 2, 2)),
    ),
    "sharpened": (addressing.sharpened, (random(0, 2, 1, 3), 1 + random(1, 2, 1))),
    "content of zero memory": (
        addressing.content_weights,
        (np.zeros((3, 2)), random(1, 2, 2), random(2, 2)),
    ),
    "content of zero keys": (
        addressing.content_weights,
        (random(0, 3, 2), np.zeros((2, 2)), random(2, 2)),
    ),
    "content of the paper": (
        partial(addressing.content_weights, epsilon=0.0),
        (random(0, 3, 2), random(1, 2, 2), random(2, 2)),
    ),
    "updated_link": (
        addressing.updated_link,
        (random(0, 2, 3, 3), random(1, 2, 3), np.array([[1.0, 0, 0], [0.0, 0.3, 0.3]])),
    ),
    "erase_and_write": (
        erase_and_write,
        (random(0, 3, 2), np.array([[1.0, 0, 0], [0, 1, 0.5]]), np.ones((2, 2)), random(1, 2, 2)),
    ),
}


LATER = (
    "content",
    "content of zero memory",
    "masked content",
    "updated_link",
    "erase_and_write",
    "allocation of two heads",
)  # the slow ones


@pytest.mark.parametrize("name", [*(name for name in EDGES if name not in LATER), *later(*LATER)])
def test_gradients_at_the_edges(name, x64):
    """At usage, weights and gates of exactly 0 and 1, zero keys and zero memory.

    Every entry of the derivative, forwards and backwards, against central differences.
    """
    equation, arrays = EDGES[name]
    arrays = tuple(jnp.asarray(array, jnp.float64) for array in arrays)
    flat, unflatten = ravel_pytree(arrays)

    def outputs(flat):
        return jnp.ravel(equation(*unflatten(flat)))

    step = 1e-7

    @jax.jit
    def everything(flat, steps):
        numeric = jax.vmap(
            lambda d: (outputs(flat + d) - outputs(flat - d)) / (2 * step), out_axes=1
        )(steps)
        return numeric, jax.jacrev(outputs)(flat), jax.jacfwd(outputs)(flat)

    numeric, *jacobians = jax.device_get(everything(flat, step * np.eye(flat.size)))
    assert np.any(numeric)
    for jacobian in jacobians:
        np.testing.assert_allclose(jacobian, numeric, atol=1e-6 * (1 + abs(numeric).max()))


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_gradients_of_nothing_are_finite(epsilon):
    """Zero keys, zero memory: where the paper's cosine is undefined, gradients are numbers."""
    gradient = jax.grad(
        lambda m, k: addressing.content_weights(m, k, jnp.ones(1), epsilon)[0, 0], argnums=(0, 1)
    )
    gradients = jax.jit(gradient)(np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32))
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", ["deepmind", "nature", *later("two write heads")])
def test_gradient_of_the_whole_network(name, x64):
    """A short sequence, by all parameters and inputs, against finite differences.

    It starts from usages well apart: where slots tie, their order may change, and the derivative
    ignores that as the paper does.
    """
    config = CONFIGS[name]
    if not config.usage_write_gradient:  # a stopped gradient is not the derivative
        config = type(config)(**{**vars(config), "usage_write_gradient": True})
    cell = DNC(3, 2, config, rngs=nnx.Rngs(1), param_dtype=jnp.float64)
    graph, params = nnx.split(cell)
    params = nnx.to_pure_dict(params)
    inputs = jax.random.normal(jax.random.key(0), (3, 3), jnp.float64)
    state = cell.initialize_carry((3,))
    memory = state.access_state._replace(
        memory=jnp.asarray(random(3, 6, 4)),
        usage=jnp.linspace(0.1, 0.9, 6),
        read_weights=jnp.asarray(random(4, config.num_read_heads, 6)) / 6,
    )
    state = state._replace(access_state=memory)

    @jax.jit
    def outputs(params, inputs):
        return unroll(nnx.merge(graph, params), inputs, initial_state=state)[0]

    check_grads(outputs, (params, inputs), order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


def test_usage_stops_the_gradient_of_the_original_and_not_of_the_paper():
    def usage(write_weights, write_gradient):
        part = Freeness(2, write_gradient=write_gradient)
        return part(jnp.zeros(2), write_weights, jnp.zeros(1), jnp.zeros((1, 2))).sum()

    weights = jnp.full((1, 2), 0.3)
    assert not np.any(jax.grad(usage)(weights, False))
    assert np.all(jax.grad(usage)(weights, True) == 1)


def test_clip_gradient():
    """The value passes, the gradient is limited."""
    value, gradient = jax.value_and_grad(lambda x: 100 * clip_gradient(x, 10.0))(jnp.array(2.0))
    assert (float(value), float(gradient)) == (200, 10)
    assert float(jax.grad(lambda x: 100 * clip_gradient(x, None))(2.0)) == 100
