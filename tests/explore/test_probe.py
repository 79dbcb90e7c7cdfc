"""`dncx probe`: what it reads from memory, how it predicts from that, and what it refuses."""

import functools
import json

import jax
import numpy as np
import pytest
from flax import nnx

from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.explore import plots
from dncx.explore.classifier import NUM_FOLDS, held_out_predictions, most_frequent
from dncx.explore.goal_contents import contents_of_episode, goal_contents
from dncx.explore.probe import accuracies, accuracy_by_step
from dncx.networks.build import make_network
from dncx.networks.config import network_config
from dncx.settings.training import ModelSettings
from dncx.tasks.shrdlu.task import MiniShrdlu
from dncx.training.batches import keys_for
from dncx.training.gradient import respond

EPISODES, SLOTS, WORD = 300, 6, 9  # the same everywhere, so that the classifier compiles once
TASK = MiniShrdlu(last_lesson=3)  # three goals of one or two constraints each


def network(**settings):
    config = network_config(ModelSettings(hidden_size=8, **settings), TASK.input_size, 7)
    return make_network(config, nnx.Rngs(0))


@pytest.fixture(scope="module")
def played():
    """Outputs and episodes of a network whose moves are as good as random."""

    def play(key):
        episode = TASK.sample(key, EPISODES)
        return respond(network(), TASK, episode, keys_for(episode, key), training=False)

    return jax.jit(play)(jax.random.key(0))


def first_moves(episode):
    told = np.asarray(episode.extra.states.problem.num_told)[:, 0]
    return np.asarray(episode.extra.actions)[np.arange(EPISODES), told]


def contents_with(played, words):
    """Contents if step t writes its word [E, T, W] to slot t, and nothing else is in memory."""
    outputs, episode = played
    steps = words.shape[1]
    weights = np.eye(steps, SLOTS, dtype=np.float32)
    written = np.tri(steps, dtype=np.float32)[:, :, None] * weights[None]  # [t, step, slot]
    memory = np.einsum("tsn,esw->etnw", written, words)
    of_episode = functools.partial(contents_of_episode, TASK)
    keys = jax.random.split(jax.random.key(1), EPISODES)
    contents = jax.jit(jax.vmap(of_episode))(
        keys,
        outputs,
        episode,
        memory,
        np.broadcast_to(weights[:, None], (EPISODES, steps, 1, SLOTS)),
    )
    return jax.device_get(contents)


def steps_of_goals(episode):
    """The letters told at each step, "" as -1, and the letters asked for."""
    problem = jax.tree.map(lambda x: np.asarray(x[:, 0]), episode.extra.states.problem)
    told = np.arange(problem.told.shape[1]) < problem.num_told[:, None]
    return np.where(told, problem.told[:, :, 0], -1), problem.letter


def test_contents_are_what_was_written_for_a_goal(played):
    letters, asked = steps_of_goals(played[1])
    words = np.random.default_rng(0).normal(size=(*letters.shape, WORD)).astype(np.float32)
    contents = contents_with(played, words)
    for number, (row, letter) in enumerate(zip(letters, asked, strict=True)):
        (steps,) = np.nonzero(row == letter)
        assert contents.written[number] == steps[-1]
        assert contents.num_goals[number] == len(set(row) - {-1})
        for step in range(contents.num_told[number]):
            so_far = sum(words[number, s] for s in steps if s <= step) / len(steps)
            np.testing.assert_allclose(
                contents.content[number, step], so_far + np.zeros(WORD), atol=1e-6
            )
        means = [words[number, row == x].mean(axis=0) for x in set(row) - {-1, letter}]
        assert min(np.abs(contents.other[number] - mean).max() for mean in means) < 1e-6
        seen = np.asarray(played[1].inputs)[number, steps].mean(axis=0)
        np.testing.assert_allclose(contents.observed[number], seen, atol=1e-6)
    np.testing.assert_array_equal(contents.first_move, first_moves(played[1]))


def test_a_plan_in_memory_is_found_and_only_there(played):
    """The words of the goal that is asked for are its move, those of others another move."""
    letters, asked = steps_of_goals(played[1])
    random = np.random.default_rng(0)
    moves = np.where(letters == asked[:, None], first_moves(played[1])[:, None],
                     random.integers(7, size=letters.shape))  # fmt: skip
    words = np.eye(7, WORD, dtype=np.float32)[moves]
    contents = contents_with(
        played, words + random.normal(scale=0.05, size=words.shape).astype(np.float32)
    )
    (found, *_) = accuracies(contents, seed=0)
    assert found.num_episodes == EPISODES
    assert found.content > 0.97
    assert found.most_frequent < 0.6
    assert abs(found.another_goal - found.most_frequent) < 0.1
    assert abs(found.shuffled - found.most_frequent) < 0.1
    by_step = {at.step: at for at in accuracy_by_step(contents)}
    assert by_step[0].content == found.content
    assert by_step[0].num_episodes == EPISODES
    assert by_step[1].content > 0.95  # it stays there
    assert by_step[-2].content < by_step[-2].most_frequent + 0.1  # it is not there before
    plots.planned_move({"steps": [vars(at) for at in by_step.values()]}).draw_without_rendering()


def test_nothing_is_found_in_random_words(played):
    shape = (*steps_of_goals(played[1])[0].shape, WORD)
    words = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (found, *_) = accuracies(contents_with(played, words), seed=0)
    assert abs(found.content - found.most_frequent) < 0.1
    with pytest.raises(UsageError, match="no steps"):
        plots.planned_move({"steps": ()})


def test_examples_are_predicted_by_others_only():
    random = np.random.default_rng(0)
    classes = random.integers(7, size=EPISODES)
    # With so many features, a classifier that saw an example would know its class.
    features = random.normal(size=(EPISODES, TASK.input_size)).astype(np.float32)
    assert (held_out_predictions(features, classes, 7) == classes).mean() < 0.25
    features = np.eye(7, WORD, dtype=np.float32)[classes] * 1e-3 + 7.0  # of any scale
    assert (held_out_predictions(features, classes, 7) == classes).all()
    absent = np.arange(EPISODES) < 150  # half of the examples have wrong classes, and do not count
    mixed = np.where(absent, (classes + 1) % 7, classes)
    right = held_out_predictions(features, mixed, 7, ~absent) == mixed
    assert right[~absent].all()
    assert not right[absent].any()


def test_the_most_frequent_class_is_that_of_other_folds():
    classes = np.array([0] * NUM_FOLDS + [1, 0, 0, 0, 0] + [1] * NUM_FOLDS)
    # Fold 0 has 0, 1, 1: the others have 8 zeros and 4 ones; any other fold leaves 7 and 5.
    np.testing.assert_array_equal(most_frequent(classes, 2), np.zeros(15))
    classes[0] = 1
    last = np.arange(15) >= 10
    np.testing.assert_array_equal(most_frequent(classes, 2, last), np.ones(15))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a tiny agent that has learned nothing."""
    run = tmp_path_factory.mktemp("runs") / "agent"
    tiny = ["--hidden_size=8", "--memory_size=6", f"--word_size={WORD}", "--num_read_heads=1",
            "--batch_size=4", "--num_training_iterations=1", "--last_lesson=2"]  # fmt: skip
    assert main(["train", "mini-shrdlu", "--method=imitation", f"--run_dir={run}", *tiny]) == 0
    return run


def test_the_command(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["probe", str(run), f"--num_episodes={EPISODES}", "--last_lesson=2", "--seed=3"]
    assert main([*line, "--out=one.json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "one.json").read_text())
    assert sum(found["moves"]) == found["accuracies"][0]["num_episodes"] == EPISODES
    assert f"{found['accuracies'][0]['content']:.1%}" in printed
    assert found["task"]["last_lesson"] == 2
    assert all(0 <= at["content"] <= 1 for at in found["steps"])
    assert main([*line, "--out=one.json"]) == 2
    assert "one.json exists" in capsys.readouterr().err
    assert main([*line, "--out=two.json"]) == 0
    assert json.loads((tmp_path / "two.json").read_text()) == found


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--num_episodes=99", "num_episodes=99"),
        ("--num_goals=1", "num_goals=1"),
        ("--seed=-1", "seed=-1"),
        ("--checkpoint=7", "checkpoint=7"),
        ("--learning_rate=1", "--learning_rate"),
        ("--method=ppo", "training only"),
        ("--out=missing/x.json", "missing"),
    ],
)
def test_bad_input(run, flag, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["probe", str(run), flag]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_other_tasks_and_networks_are_refused(capsys):
    assert main(["probe", "traversal"]) == 2
    assert "traversal: dncx probe needs a run of the task mini-shrdlu" in capsys.readouterr().err
    with pytest.raises(UsageError, match="does not have the memory of a DNC"):
        goal_contents(TASK, network(model="lstm"), 100, seed=1)
