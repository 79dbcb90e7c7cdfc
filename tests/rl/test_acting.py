"""Acting: windows that continue, whole episodes, and the network's own view of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from worlds import Recall

import dncx
from dncx.networks.actor_critic import ActorCritic
from dncx.networks.lstm import LSTMNetwork
from dncx.rl.acting import (
    act,
    ended,
    first_agents,
    lengths_of,
    log_prob,
    next_values,
    play,
    split_outputs,
)

WORLD = Recall(num_cues=3, delay=2)
CONFIG = dncx.DNCConfig(memory_size=4, word_size=3, num_read_heads=2, hidden_size=8)


def dnc(outputs=4, seed=0):
    return dncx.DNC(WORLD.observation_size, outputs, CONFIG, rngs=nnx.Rngs(seed))


def lstm(outputs=4):
    return LSTMNetwork(WORLD.observation_size, outputs, CONFIG, rngs=nnx.Rngs(0))


AGENTS = {
    "dnc": dnc,
    "lstm": lstm,
    "two dncs": lambda: ActorCritic(dnc(3), dnc(1, seed=1)),
    "dnc and lstm": lambda: ActorCritic(dnc(3), lstm(1)),
}


@pytest.fixture(params=AGENTS)
def network(request):
    return AGENTS[request.param]()


def test_a_window_is_what_the_network_computes_again(network):
    """Learning runs the network over the window; nothing may differ from the time of acting."""
    agents = first_agents(network, WORLD, jax.random.key(0), 5)
    agents, _ = jax.jit(lambda a: act(network, WORLD, a, jax.random.key(1), 4))(agents)
    after, seen = jax.jit(lambda a: act(network, WORLD, a, jax.random.key(2), 7))(agents)
    outputs, memory = dncx.unroll(
        network, seen.inputs, initial_state=agents.memory, resets=seen.begins
    )
    logits, values = split_outputs(outputs)
    np.testing.assert_allclose(log_prob(logits, seen.actions), seen.log_probs, atol=1e-6)
    np.testing.assert_allclose(values, seen.values, atol=1e-6)
    for own, again in zip(*map(jax.tree.leaves, (after.memory, memory)), strict=True):
        np.testing.assert_allclose(own, again, atol=1e-6)
    assert seen.begins[:, 1:].any()
    assert not seen.begins[:, 0].all()  # the window begins inside of an episode


def test_episodes_follow_each_other():
    network = lstm()
    agents = first_agents(network, WORLD, jax.random.key(0), 4)
    agents, seen = act(network, WORLD, agents, jax.random.key(1), 7)
    assert seen.lengths.tolist() == [[1, 2, 3, 1, 2, 3, 1]] * 4
    np.testing.assert_array_equal(seen.ends, seen.lengths == 3)
    np.testing.assert_array_equal(seen.begins, seen.lengths == 1)
    np.testing.assert_array_equal(seen.counts, seen.lengths == 3)
    shown = np.asarray(seen.inputs)[:, :, :3].argmax(-1)
    for first in (0, 3):
        right = seen.actions[:, first + 2] == shown[:, first]
        np.testing.assert_array_equal(seen.rewards[:, first + 2], np.where(right, 1, -1))
        np.testing.assert_array_equal(seen.returns[:, first + 2], np.where(right, 1, -1))
    sums = ended(seen)
    assert (int(sums.episodes), int(sums.lengths)) == (8, 24)
    assert float(sums.returns) == float(seen.rewards.sum())
    assert not agents.begins.any()


def test_the_value_after_a_window_does_not_step():
    network = lstm()
    agents = first_agents(network, WORLD, jax.random.key(0), 4)
    agents, _ = act(network, WORLD, agents, jax.random.key(1), 4)
    value = next_values(network, agents)
    _, seen = act(network, WORLD, agents, jax.random.key(3), 1)
    np.testing.assert_allclose(value, seen.values[:, 0], rtol=1e-6)


class Uneven(Recall):
    """An episode may end before its last step; after the end, nothing is a number."""

    @property
    def max_steps(self):
        return self.delay + 4

    def step(self, key, state, action, params):
        after = super().step(key, state, action, params)
        early = state.cue == 0
        over = state.time > jnp.where(early, 1, self.delay)
        nothing = jnp.where(over, jnp.nan, 0)
        return after._replace(
            observation=after.observation + nothing,
            reward=after.reward + nothing,
            done=after.done | (early & (state.time >= 1)),
        )


def test_whole_episodes_end_each_at_its_own_step():
    world = Uneven(num_cues=3, delay=2)
    seen = play(lstm(), world, jax.random.key(0), 12)
    cues = seen.inputs[:, 0, :3].argmax(-1)
    lengths = jnp.where(cues == 0, 2, 3)
    assert {2, 3} == set(lengths.tolist())
    np.testing.assert_array_equal(lengths_of(seen), lengths)
    past = jnp.arange(world.max_steps)[None] >= lengths[:, None]
    assert not jnp.where(past, seen.counts | seen.ends, False).any()
    np.testing.assert_array_equal(jnp.where(past, seen.rewards, 0), 0)
    np.testing.assert_array_equal(jnp.where(past[..., None], seen.inputs, 0), 0)
    assert jnp.isfinite(ended(seen).returns)
    np.testing.assert_array_equal(seen.ends.sum(1), 1)


def test_a_guide_chooses_the_optimal_actions():
    seen = play(lstm(), WORLD, jax.random.key(0), 32, optimal_share=1.0)
    np.testing.assert_array_equal(seen.rewards.sum(1), 1)
    assert seen.optimal.shape == (32, 3, 3)
    half = play(lstm(), WORLD, jax.random.key(0), 256, optimal_share=0.5)
    assert 0.5 < (half.rewards.sum(1) > 0).mean() < 0.85  # 1/2 + 1/2 * 1/3


def test_a_pair_is_a_cell():
    pair = AGENTS["two dncs"]()
    inputs = jax.random.normal(jax.random.key(0), (2, 5, WORLD.observation_size))
    outputs, state = dncx.unroll(pair, inputs, lengths=jnp.asarray([5, 3]))
    policy, first = dncx.unroll(pair.policy, inputs, lengths=jnp.asarray([5, 3]))
    np.testing.assert_array_equal(outputs[..., :3], policy)
    np.testing.assert_array_equal(state[0].access_state.memory, first.access_state.memory)
    again, end = dncx.unroll(pair, inputs[:, 3:], initial_state=dncx.unroll(pair, inputs[:, :3])[1])
    np.testing.assert_allclose(again[0], outputs[0, 3:], atol=1e-6)
    np.testing.assert_allclose(end[1].access_state.memory[0], state[1].access_state.memory[0],
                               atol=1e-6)  # fmt: skip
    with pytest.raises(TypeError, match="hidden_factors"):
        dncx.unroll(pair, inputs, hidden_factors=jnp.ones((2, 5, 8)))
