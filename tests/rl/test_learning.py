"""Losses against NumPy, and agents that learn, resume and are refused by the trainer."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from worlds import Plain, Recall

import dncx
from dncx.debugging.command import debug
from dncx.errors import UsageError
from dncx.networks.lstm import LSTMNetwork
from dncx.rl import imitation, policy_gradient, ppo
from dncx.rl.acting import first_agents, play, split_outputs
from dncx.rl.train import train
from dncx.runs.checkpoints import newest_intact
from dncx.runs.directory import load_run
from dncx.settings.commands import DebugSettings
from dncx.settings.presets import settings_of
from dncx.settings.training import ModelSettings, OptimizerSettings, ScaleSettings
from dncx.tasks import registry
from dncx.tasks.copy import Copy
from dncx.training import loop

LSTM = ModelSettings(model="lstm", hidden_size=16)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(registry.TASKS, Recall.name, Recall)


ONE_SEED = ScaleSettings()


def settings(tmp_path, model=LSTM, scale=ONE_SEED, seed=0, **world):
    run = {"run_dir": tmp_path / "run", "batch_size": 8, "report_interval": 4, "seed": seed}
    run |= {name: world.pop(name) for name in list(world) if name in RUN}
    return settings_of(
        Recall(**world),
        model=model,
        optimizer=OptimizerSettings(learning_rate=3e-3, max_grad_norm=1.0),
        run={"num_training_iterations": 8} | run,
        scale=scale,
    )


RUN = {"num_training_iterations", "checkpoint_interval", "run_dir", "batch_size", "report_interval"}


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def network_and_other(world):
    """The network that acts, and one that has changed since."""
    config = dncx.DNCConfig(hidden_size=8)
    sizes = world.observation_size, world.num_actions + 1
    return [LSTMNetwork(*sizes, config, rngs=nnx.Rngs(seed)) for seed in (0, 1)]


def test_ppo_loss():
    world = Recall(num_cues=3, delay=2, ppo_clip=0.1)
    network, other = network_and_other(world)
    agents = first_agents(network, world, jax.random.key(0), 6)
    _, window = ppo.collect(network, world, world, agents, jax.random.key(1), 5)
    found = ppo.losses(other, window, world)
    seen = window.seen
    outputs, _ = dncx.unroll(other, seen.inputs, resets=seen.begins)
    logits, values = map(np.asarray, split_outputs(outputs))
    probs, counts = softmax(logits), np.asarray(seen.counts)
    chosen = np.take_along_axis(probs, np.asarray(seen.actions)[..., None], -1)[..., 0]
    advantages = np.asarray(window.advantages)
    fair = (advantages - advantages[counts].mean()) / advantages[counts].std()
    ratio = chosen / np.exp(seen.log_probs)
    gain = np.minimum(ratio * fair, np.clip(ratio, 0.9, 1.1) * fair)
    assert (np.abs(ratio - 1)[counts] > 0.1).any()
    entropy = -(probs * np.log(probs)).sum(-1)
    aims = advantages + np.asarray(seen.values)
    np.testing.assert_allclose(found.policy, -gain[counts].mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.value, 0.5 * ((values - aims) ** 2).mean(), rtol=1e-4)
    np.testing.assert_allclose(found.entropy, entropy[counts].mean(), rtol=1e-5)
    total = found.policy + world.value_cost * found.value - world.entropy_cost * found.entropy
    np.testing.assert_allclose(found.total(world), total, rtol=1e-6)


@pytest.mark.parametrize("losses", [policy_gradient.losses, imitation.losses])
def test_losses_of_whole_episodes(losses):
    world = Recall(num_cues=3, delay=2)
    network, other = network_and_other(world)
    share = 0.5 if losses is imitation.losses else None
    seen = play(network, world, jax.random.key(0), 6, share)
    found = losses(other, seen, world)
    logits, values = map(np.asarray, split_outputs(dncx.unroll(other, seen.inputs)[0]))
    log_probs = np.log(softmax(logits))
    advantages = np.asarray(policy_gradient.advantages_of(seen, world))
    chosen = np.take_along_axis(log_probs, np.asarray(seen.actions)[..., None], -1)[..., 0]
    gain = (advantages * chosen)[:, 2]  # only the answer counts
    if share:
        cues = np.asarray(seen.inputs)[:, 0, :3].argmax(-1)
        gain = np.take_along_axis(log_probs[:, 2], cues[:, None], -1)[:, 0]
    aims = advantages + np.asarray(seen.values)
    np.testing.assert_allclose(found.policy, -gain.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.value, 0.5 * ((values - aims) ** 2).sum(1).mean(), rtol=1e-5)


@pytest.mark.parametrize("method", ["ppo", "policy_gradient", "imitation"])
def test_agents_learn(method, tmp_path):
    """A cue of four is remembered for three steps; guessing gives -0.5."""
    given = settings(
        tmp_path,
        model=ModelSettings(memory_size=4, word_size=8, num_read_heads=1, hidden_size=24),
        method=method,
        num_cues=4,
        delay=3,
        batch_size=32,
        num_training_iterations=200,
        report_interval=50,
        entropy_cost=0.02,
    )
    faster = dataclasses.replace(given.optimizer, learning_rate=0.01)
    run_dir = train(dataclasses.replace(given, optimizer=faster))
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    returns = [line["return"] for line in lines]
    assert returns[-1] > 0.5, returns
    assert {"entropy", "value_loss", "episode_length", "loss"} <= lines[0].keys()
    assert lines[-1]["episode_length"] == 4


def newest(run_dir):
    checkpoint, _ = newest_intact(run_dir / "checkpoints")
    return checkpoint


def assert_same_models(one, other):
    first, second = (nnx.to_pure_dict(nnx.state(load_run(d).network)) for d in (one, other))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("method", ["ppo", "policy_gradient"])
def test_resuming_is_exact(method, tmp_path):
    """Windows end inside of episodes here, so agents, memories and returns must be resumed, too."""
    common = dict(method=method, window=2 if method == "ppo" else 0, checkpoint_interval=6)
    straight = train(settings(tmp_path / "a", num_training_iterations=12, **common))
    halves = tmp_path / "b"
    train(settings(halves, num_training_iterations=6, **common))
    train(settings(halves, num_training_iterations=12, **common))
    assert newest(straight).manifest.digest == newest(halves / "run").manifest.digest
    assert_same_models(straight, halves / "run")


@pytest.mark.parametrize(
    "change", [{"batch_size": 16}, {"method": "policy_gradient"}, {"delay": 4}, {"epochs": 2}]
)
def test_settings_may_change_within_a_run(change, tmp_path):
    given = dict(checkpoint_interval=4, num_training_iterations=4)
    train(settings(tmp_path, **given))
    run_dir = train(settings(tmp_path, **given | {"num_training_iterations": 6} | change))
    assert newest(run_dir).manifest.progress.iteration == 6


def test_seeds_at_once_equal_each_alone(tmp_path):
    both = train(settings(tmp_path / "both", scale=ScaleSettings(num_seeds=2)))
    for seed in (0, 1):
        alone = train(settings(tmp_path / f"{seed}", seed=seed))
        assert_same_models(both / f"seed-{seed}", alone)


def test_the_model_of_an_agent_is_its_policy(tmp_path):
    """The critic stays in the checkpoints; a run may begin from a policy, or go on with both."""
    model = ModelSettings(memory_size=4, word_size=4, num_read_heads=1, hidden_size=8)
    given = dict(separate_value=True, model=model, checkpoint_interval=4)
    run_dir = train(settings(tmp_path, num_training_iterations=4, **given))
    run = load_run(run_dir)
    assert isinstance(run.network, dncx.DNC)
    assert run.network.output_size == 2
    by_checkpoint = load_run(run_dir, checkpoint=4)
    ours, theirs = (nnx.to_pure_dict(nnx.state(r.network)) for r in (run, by_checkpoint))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    second = settings(tmp_path / "second", num_training_iterations=1, **given)
    start = dataclasses.replace(second.run, initial_model=run_dir)
    train(dataclasses.replace(second, run=start))
    third = settings(tmp_path / "third", num_training_iterations=1, model=model)
    train(dataclasses.replace(third, run=dataclasses.replace(third.run, initial_model=run_dir)))


def test_non_finite_updates_are_counted_by_iteration(tmp_path):
    class Broken(Recall):
        def step(self, key, state, action, params):
            after = super().step(key, state, action, params)
            return after._replace(reward=after.reward + jnp.nan)

    given = settings(tmp_path)
    task = Broken(**{f.name: getattr(given.task, f.name) for f in dataclasses.fields(Recall)})
    registry.TASKS[Recall.name] = Broken
    run = dataclasses.replace(given.run, max_skipped_updates=3)
    with pytest.raises(dncx.errors.TrainingError, match="3 updates in a row") as failed:
        train(dataclasses.replace(given, task=task, run=run))
    assert "debug" not in str(failed.value)
    with pytest.raises(UsageError, match="environment"):
        debug(DebugSettings(run_dir=given.run.run_dir))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("window", {"window": 9}),
        ("minibatches", {"minibatches": 3}),
        ("truncation", {"scale": ScaleSettings(truncation=2)}),
        ("gradient_accumulation", {"scale": ScaleSettings(gradient_accumulation=2)}),
        ("discount", {"discount": 1.5}),
        ("method", {"method": "sarsa"}),
        ("ppo_clip", {"ppo_clip": float("nan")}),
        ("epochs", {"epochs": 0}),
    ],
)
def test_bad_settings_are_refused(name, change, tmp_path):
    with pytest.raises((UsageError, ValueError), match=f"{name}="):
        train(settings(tmp_path, **change))
    assert not (tmp_path / "run").exists()


def test_each_trainer_refuses_the_tasks_of_the_other(tmp_path):
    given = settings(tmp_path)
    with pytest.raises(UsageError, match="environment"):
        loop.train(given)
    copy = settings_of(Copy(), run={"run_dir": tmp_path / "run"})
    with pytest.raises(UsageError, match="environment"):
        train(copy)

    registry.TASKS[Recall.name] = Plain
    with pytest.raises(UsageError, match="optimal"):
        train(dataclasses.replace(given, task=Recall(method="imitation")))
