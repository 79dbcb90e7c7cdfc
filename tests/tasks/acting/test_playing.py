"""An environment as a task, if its episodes end before the last possible step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig
from dncx.explore.tracing import trace_task
from dncx.tasks.acting.environment import Transition, is_environment
from dncx.tasks.acting.playing import Playing
from dncx.tasks.acting.settings import ActingSettings, check_acting
from dncx.tasks.registry import TASKS
from dncx.training.batches import keys_for
from dncx.training.gradient import respond


@dataclasses.dataclass(frozen=True, kw_only=True)
class Countdown(ActingSettings, Playing):
    """Shows the steps that are left, 1 to 5 at the start; each gains 1."""

    name = "countdown"
    observation_size = 1
    num_actions = 2
    max_steps = 6
    return_bounds = (0.0, 5.0)

    def reset(self, key, params):
        left = jax.random.randint(key, (), 1, 6)
        return left[None].astype(jnp.float32), left

    def step(self, key, state, action, params):
        left = state - 1
        return Transition(left[None].astype(jnp.float32), left, jnp.float32(1), left <= 0)

    def observed(self, state):
        return f"{state} left"

    def action_name(self, action):
        return "ab"[action]


def network_for(task):
    config = DNCConfig(memory_size=4, word_size=3, num_read_heads=1, hidden_size=5)
    return DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(0))


def test_nothing_counts_after_the_end():
    task = Countdown()
    opening = task.sample(jax.random.key(0), 32)
    keys = keys_for(opening, jax.random.key(1))
    outputs, episode = respond(network_for(task), task, opening, keys, training=False)
    starts = np.asarray(opening.extra[0])[:, 0]
    assert {*starts} == {1, 2, 3, 4, 5}
    for row, start in enumerate(starts.astype(int)):
        counted = [1] * start + [0] * (6 - start)
        assert episode.mask[row].tolist() == counted
        assert episode.extra.rewards[row].tolist() == counted
        assert episode.inputs[row, :, 0].tolist() == [*range(start, 0, -1)] + [0] * (6 - start)
    assert float(task.loss(outputs, episode)) == pytest.approx(-starts.mean())
    missing = float(task.score(outputs, episode)["missing_return"])
    assert missing == pytest.approx(1 - starts.mean() / 5)
    start = int(starts[0])
    words = task.words(outputs, episode)
    assert words.inputs == tuple(f"{n} left" for n in range(start, 0, -1)) + ("",) * (6 - start)
    assert [word != "" for word in words.outputs] == [True] * start + [False] * (6 - start)
    shown = task.render(outputs, episode).splitlines()
    assert len(shown) == start + 1
    assert shown[-1] == f"return {start} in {start} steps"


def test_a_trace_ends_with_the_episode():
    trace = trace_task(Countdown(), network_for(Countdown()), num_episodes=8)
    lengths = [one.num_steps for one in trace.episodes]
    assert lengths == [int(one.inputs[0, 0]) for one in trace.episodes]
    assert len({*lengths}) > 1
    for one in trace.episodes:
        assert one.words.inputs == tuple(f"{n} left" for n in range(one.num_steps, 0, -1))
        assert one.scores["missing_return"] == pytest.approx(1 - one.num_steps / 5)


def test_the_value_is_the_last_output():
    assert Countdown().output_size == 3
    assert Countdown(separate_value=True).output_size == 3
    assert Countdown().num_answer_outputs == 2
    assert "6 steps, 2 actions, returns from 0 to 5" in Countdown().about


def test_which_tasks_are_environments():
    assert is_environment(Countdown())
    assert not is_environment(TASKS["copy"]())


@pytest.mark.parametrize(
    "bad",
    [
        dict(window=-1), dict(epochs=0), dict(minibatches=2**31), dict(discount=1.1),
        dict(gae_lambda=-0.1), dict(ppo_clip=float("nan")), dict(entropy_cost=-1.0),
        dict(value_cost=float("inf")), dict(method="sarsa"),
    ],
)  # fmt: skip
def test_settings_that_no_agent_can_use(bad, without_type_checks):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name}={value}: must be"):
        check_acting(ActingSettings(**bad))
