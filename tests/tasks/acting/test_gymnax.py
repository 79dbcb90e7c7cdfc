"""The adapter of gymnax.

gymnax is large, so `make test` does not install it; .ci/run does and requires these tests.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig
from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.explore.tracing import trace_task
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.acting.gymnax import Gymnax
from dncx.tasks.registry import make_task
from dncx.training.batches import keys_for
from dncx.training.gradient import respond

there = importlib.util.find_spec("gymnax") is not None
if not there and "DNCX_GYMNAX_TESTS" in os.environ:  # as .ci/run sets it
    raise RuntimeError("the tests of the adapter need gymnax")
with_gymnax = pytest.mark.skipif(not there, reason="NOT RUN: no gymnax; pip install 'dncx[rl]'")


@pytest.fixture
def not_strict():
    """Programs of gymnax promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_a_gymnax_that_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec

    def without(name, *rest):
        return None if name == "gymnax" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert main(["train", "gymnax"]) == 2
    assert "pip install 'dncx[rl]'" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("version", ["0.0.9", "2.0"])
def test_a_gymnax_with_another_interface(version, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(UsageError, match=f"gymnax {version}"):
        Gymnax()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(worst_return=1.0), "worst_return=1.0"),
        (dict(best_return=float("inf")), "best_return=inf"),
        (dict(epochs=0), "epochs=0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Gymnax(**settings)


@with_gymnax
@pytest.mark.second_step
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(environment="MemoryChian-bsuite"), "did you mean MemoryChain-bsuite?"),
        (dict(environment="Chess"), "CartPole-v1"),
        (dict(environment="Pendulum-v1"), "only discrete actions"),
        (dict(environment_params="memory=3"), "did you mean memory_length?"),
        (dict(environment_params="memory_length"), "NAME=VALUE"),
        (dict(environment_params="memory_length=3.5"), "a whole number, as in 5"),
        (dict(environment_params="max_steps_in_episode=0"), "at least 1"),
    ],
)
def test_what_gymnax_does_not_have(settings, message):
    with pytest.raises(UsageError) as caught:
        make_task("gymnax", settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def chain(length=4):
    """A chain whose longest episode has as many steps as every other."""
    return Gymnax(environment_params=f"memory_length={length},max_steps_in_episode={length + 1}")


@with_gymnax
@pytest.mark.second_step
def test_the_memory_chain(not_strict):
    """The bit of the first observation is asked for in the last step."""
    task = chain()
    assert is_environment(task)
    assert (task.observation_size, task.num_actions, task.max_steps) == (3, 2, 5)

    def play(key, flip):
        seen, state = task.reset(key, task.params)
        answer = jnp.where(seen[2] > 0, 1, 0)

        def act(state, key):
            now = task.step(key, state, jnp.where(flip, 1 - answer, answer), task.params)
            return now.state, now

        now = jax.lax.scan(act, state, jax.random.split(key, 5))[1]
        return seen, now.reward, now.done, now.observation

    keys = jax.random.split(jax.random.key(0), 8)
    seen, rewards, ends, later = jax.jit(jax.vmap(play))(keys, np.arange(8) % 2 == 1)
    assert {*np.asarray(seen)[:, 2]} == {-1, 1}
    assert (np.asarray(rewards)[:, :4] == 0).all()
    assert np.asarray(rewards)[:, 4].tolist() == [1, -1] * 4
    assert ends.tolist() == [[False] * 4 + [True]] * 8
    assert later.shape == (8, 5, 3)


@with_gymnax
@pytest.mark.second_step
def test_a_network_plays_and_is_traced(not_strict):
    task = chain()
    config = DNCConfig(memory_size=4, word_size=3, num_read_heads=1, hidden_size=5)
    network = DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(0))
    opening = task.sample(jax.random.key(0), 4)
    keys = keys_for(opening, jax.random.key(0))
    outputs, episode = respond(network, task, opening, keys, training=False)
    returns = np.asarray(episode.extra.rewards).sum(axis=1)
    assert {*returns} <= {-1, 1}
    missing = float(task.score(outputs, episode)["missing_return"])
    assert missing == pytest.approx((1 - returns.mean()) / 2)
    assert task.render(outputs, episode).splitlines()[-1] == f"return {returns[0]:.3g} in 5 steps"
    one = trace_task(task, network, num_episodes=1).episodes[0]
    assert one.num_steps == 5
    assert one.words.inputs[0] in ("1 0 1", "1 0 -1")
    assert one.words.outputs[0] in ("action 0", "action 1")


@with_gymnax
@pytest.mark.second_step
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("CartPole-v1", 4), ("Catch-bsuite", 50), ("Breakout-MinAtar", 400),
        ("FrozenLake-misc", 16), ("BernoulliBandit-misc", 4),
    ],
)  # fmt: skip
def test_other_environments(name, size, not_strict):
    """Boxes of any shape, and observations that are a number."""
    task = Gymnax(environment=name, best_return=500.0)
    assert task.observation_size == size

    def play(key):
        def act(carry, key):
            state, ended = carry
            own, choice = jax.random.split(key)
            action = jax.random.randint(choice, (), 0, task.num_actions)
            now = task.step(own, state, action, task.params)
            return (now.state, ended | now.done), (now.observation, now.reward, ended)

        seen, state = task.reset(key, task.params)
        steps = jax.lax.scan(act, (state, False), jax.random.split(key, task.max_steps + 1))
        return seen, steps[1]

    seen, (later, rewards, ended) = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 2))
    assert seen.shape == (2, size)
    assert seen.dtype == later.dtype == rewards.dtype == jnp.float32
    assert later.shape == (2, task.max_steps + 1, size)
    assert np.asarray(ended)[:, -1].all()  # after max_steps actions, each episode is done


@with_gymnax
@pytest.mark.second_step
def test_settings_make_the_same_task_again():
    """The task is a record of its settings, whatever it has made."""
    task = chain()
    assert task == chain()
    assert hash(task) == hash(chain())
    assert [field.name for field in dataclasses.fields(task)][-4:] == [
        "environment", "environment_params", "worst_return", "best_return",
    ]  # fmt: skip
