"""The environments of POPGym and the T-maze: their rules, the best play, a network that acts."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx
from popgym_rules import (
    FACE_DOWN,
    autoencode,
    concentration,
    count_recall,
    repeat_first,
    repeat_previous,
    t_maze,
)

from dncx import DNC, DNCConfig
from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.explore.tracing import trace_task
from dncx.settings.presets import DEFAULTS
from dncx.tasks.acting.cards import COLOURS, RANKS, SUITS, deal, full_deck
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.acting.settings import LEVELS as LEVEL_NAMES
from dncx.tasks.base import Describable, Interactive
from dncx.tasks.registry import TASKS, make_task
from dncx.training.batches import keys_for
from dncx.training.gradient import respond

# By task and level: the number of cards, the kinds of cards, and k or the length of the corridor.
SIZES = {
    "repeat-previous": {"easy": (52, 4, 4), "medium": (104, 4, 32), "hard": (156, 4, 64)},
    "repeat-first": {"easy": (52, 4, 0), "medium": (416, 4, 0), "hard": (832, 4, 0)},
    "autoencode": {"easy": (52, 4, 0), "medium": (104, 4, 0), "hard": (156, 4, 0)},
    "count-recall": {"easy": (52, 2, 0), "medium": (104, 4, 0), "hard": (208, 13, 0)},
    "concentration": {"easy": (52, 2, 0), "medium": (104, 2, 0), "hard": (52, 13, 0)},
    "t-maze": {"easy": (0, 0, 10), "medium": (0, 0, 50), "hard": (0, 0, 300)},
}
STEPS = {
    "repeat-previous": (51, 103, 155),
    "repeat-first": (51, 415, 831),
    "autoencode": (103, 207, 311),
    "count-recall": (51, 103, 207),
    "concentration": (104, 208, 104),
    "t-maze": (11, 51, 301),
}
ACTIONS = {
    "repeat-previous": (4, 4, 4),
    "repeat-first": (4, 4, 4),
    "autoencode": (4, 4, 4),
    "count-recall": (27, 27, 17),
    "concentration": (52, 104, 52),
    "t-maze": (4, 4, 4),
}
QUICK = {
    "repeat-previous": "medium",
    "repeat-first": "easy",
    "autoencode": "easy",
    "count-recall": "easy",
    "concentration": "easy",
    "t-maze": "easy",
}
OTHERS = [(n, level) for n, levels in SIZES.items() for level in levels if level != QUICK[n]]
LEVELS = [*QUICK.items(), *later(*OTHERS)]
TO_REMEMBER = [case for case in LEVELS if "concentration" not in str(case)]


class Played(NamedTuple):
    """An episode."""

    observations: Any  # [T + 1, F]
    actions: Any  # [T]
    rewards: Any
    ends: Any
    states: Any  # after each action


@functools.cache
def made(name, level, **more):
    """A task, and a compiled function (keys [B], actions [B, T]) -> `Played` for a batch."""
    task = TASKS[name](level=level, **more)

    def play(key, actions):
        key, own = jax.random.split(key)
        first, state = task.reset(own, task.params)

        def act(state, step):
            now = task.step(step[0], state, step[1], task.params)
            return now.state, now

        keys = jax.random.split(key, task.max_steps)
        now = jax.lax.scan(act, state, (keys, actions))[1]
        observations = jnp.concatenate([first[None], now.observation])
        return Played(observations, actions, now.reward, now.done, now.state)

    return task, jax.jit(jax.vmap(play))


def episodes(name, level, actions, seed=0, **more):
    """One episode for each row of actions."""
    actions = np.asarray(actions, np.int32)
    batch = made(name, level, **more)[1](
        jax.random.split(jax.random.key(seed), len(actions)), actions
    )
    batch = jax.tree.map(np.asarray, batch)
    return [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(len(actions))]


def at_random(name, level, seed, batch=3, **more):
    """Actions without a look at the observations; in the T-maze, most go to the right."""
    task = made(name, level, **more)[0]
    shares = [0.7, 0.1, 0.1, 0.1] if name == "t-maze" else None
    shape = batch, task.max_steps
    return np.random.default_rng(seed).choice(task.num_actions, size=shape, p=shares)


def perfect(name, level, seed, **more):
    """Episodes in which each action is that of `Player`, who knows the observations before it."""
    task, choose = made(name, level, **more)[0], getattr(Player(), name.replace("-", "_"))
    actions = np.zeros((4, task.max_steps), np.int32)
    for _ in range(4):  # until the actions fit the observations that they lead to
        played = episodes(name, level, actions, seed, **more)
        before = actions
        actions = np.array([
            [choose(level, one.observations[: t + 1]) for t in range(task.max_steps)]
            for one in played
        ])  # fmt: skip
    assert (actions == before).all()
    return played


def numbers(name, level, observation):
    """An observation as the numbers in its one-hot vectors."""
    if name == "t-maze":
        return observation.tolist()
    kinds = SIZES[name][level][1]
    first = 2 if name == "autoencode" else kinds
    parts = [observation[:first], *observation[first:].reshape(-1, kinds)]
    assert all(set(part) <= {0, 1} and part.sum() <= 1 for part in parts)
    return [int(part.argmax()) if part.any() else FACE_DOWN for part in parts]


def rules(name, level, seen, actions, last, **more):
    """What the rules say of an episode; its cards are those that were seen."""
    kinds, number = SIZES[name][level][1:]
    if name == "t-maze":
        return t_maze(int(last.goal), actions, number, 1 if more.get("maze") == "active" else 0)
    if name == "concentration":
        layout, rest = last.kinds.tolist(), np.repeat(np.arange(kinds), last.left).tolist()
        layout = [kind if kind >= 0 else rest.pop() for kind in layout]
        assert not rest
        is_deck(layout, name, level)
        return concentration(layout, actions)
    if name == "autoencode":
        deck = [suit for _, suit in seen[: SIZES[name][level][0]]]
    else:
        deck = [one[0] for one in seen]
    is_deck(deck, name, level)
    if name == "count-recall":
        queries = [query for _, query in seen]
        is_deck(queries, name, level)
        return count_recall(deck, queries, actions)
    if name == "repeat-previous":
        return repeat_previous(deck, actions, number)
    return {"repeat-first": repeat_first, "autoencode": autoencode}[name](deck, actions)


def is_deck(deck, name, level):
    size, kinds, _ = SIZES[name][level]
    assert np.bincount(deck, minlength=kinds).tolist() == [size // kinds] * kinds


def agrees(name, level, episode, **more):
    """Compares an episode with the rules; the number of its steps."""
    seen = [numbers(name, level, one) for one in episode.observations]
    last = jax.tree.map(lambda x: x[-1], episode.states)
    expected = [*rules(name, level, seen, episode.actions.tolist(), last, **more)]
    sights, rewards, ends = zip(*expected, strict=True)
    steps = ends.index(True) + 1
    assert seen[1 : steps + 1] == [*map(list, sights[:steps])]
    np.testing.assert_allclose(episode.rewards[:steps], rewards[:steps], atol=1e-6)
    assert episode.ends[:steps].tolist() == [*ends[:steps]]
    return steps


def in_words(name, level, episode, time):
    """An observation as `observed` should describe it."""
    seen = numbers(name, level, episode.observations[time])
    kinds = {2: COLOURS, 4: SUITS, 13: RANKS, 0: ()}[SIZES[name][level][1]]
    if name == "t-maze":
        sign = {0: "corridor", 1: "sign: up", -1: "sign: down"}[seen[1]]
        return f"junction, {('centre', 'up', 'down')[int(seen[1])]}" if seen[0] else sign
    if name == "concentration":
        paired = episode.states.paired[time - 1]
        turned = [
            f"{i} {kinds[kind]}" for i, kind in enumerate(seen) if kind >= 0 and not paired[i]
        ]
        return ", ".join([*turned, f"{paired.sum() // 2} pairs"])
    if name == "count-recall":
        return f"{kinds[seen[0]]}; how many {kinds[seen[1]]}?"
    if name == "autoencode":
        size = SIZES[name][level][0]
        mode = "watch" if seen[0] else "recall, last card:"
        return f"{mode} {kinds[seen[1]]}" if time < size else "recall"
    return kinds[seen[0]]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_random_play_follows_the_rules(name, level):
    """Observations, rewards and ends are those of the rules; returns lie within the bounds."""
    task = made(name, level)[0]
    place = [*SIZES[name]].index(level)
    assert (task.max_steps, task.num_actions) == (STEPS[name][place], ACTIONS[name][place])
    returns = []
    for episode in episodes(name, level, at_random(name, level, seed=1)):
        assert agrees(name, level, episode) == task.max_steps
        assert episode.observations.shape[1:] == (task.observation_size,)
        assert episode.observations.dtype == np.float32
        returns.append(episode.rewards.sum())
    for number in (0, 1, 48, 49, 50):  # the last episode in words
        if number < task.max_steps:
            said = task.observed(jax.tree.map(lambda x, n=number: x[n], episode.states))
            assert said == in_words(name, level, episode, number + 1)
    worst, best = task.return_bounds
    assert worst - 1e-5 <= min(returns) < max(returns) <= best + 1e-5


def test_play_among_few_cards_follows_the_rules():
    """Cards that are turned again, also those that stay face up and the same one twice."""
    for episode in episodes("concentration", "easy", np.random.default_rng(2).choice(7, (3, 104))):
        agrees("concentration", "easy", episode)
        assert {*np.round(episode.rewards * 104)} == {-2, -1, 0, 4}
        assert episode.rewards.sum() >= -1 - 1e-5


@pytest.mark.parametrize("level", ["easy", *later("medium", "hard")])
def test_the_active_t_maze_follows_the_rules(level):
    actions = at_random("t-maze", level, seed=3, maze="active")
    actions[0] = 0
    actions[0, [0, 3, 4, 5]] = 2  # back to the sign twice
    for episode in episodes("t-maze", level, actions, maze="active"):
        assert agrees("t-maze", level, episode, maze="active") == SIZES["t-maze"][level][2] + 3


class Player:
    """Perfect play, from what was seen."""

    def repeat_previous(self, level, seen):
        k = SIZES["repeat-previous"][level][2]
        return seen[-k].argmax() if len(seen) >= k else 0

    def repeat_first(self, level, seen):
        return seen[0].argmax()

    def autoencode(self, level, seen):
        size = SIZES["autoencode"][level][0]
        return seen[2 * size - 1 - len(seen)][2:].argmax() if len(seen) >= size else 0

    def count_recall(self, level, seen):
        kinds = SIZES["count-recall"][level][1]
        query = seen[-1][kinds:].argmax()
        return sum(int(one[:kinds].argmax() == query) for one in seen)

    def t_maze(self, level, seen):
        if seen[-1][0]:
            return {1: 1, -1: 3}[next((sign for _, sign in seen if sign), 1)]
        return 0 if any(sign for _, sign in seen) else 2


@pytest.mark.parametrize(("name", "level"), TO_REMEMBER)
def test_perfect_play_reaches_the_best_return(name, level):
    best = made(name, level)[0].return_bounds[1]
    for episode in perfect(name, level, seed=5):
        assert episode.rewards.sum() == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("maze", ["active", "passive"])
def test_the_best_and_the_worst_play_in_the_t_maze(maze):
    played = perfect("t-maze", "easy", seed=1, maze=maze)
    assert {int(one.states.goal[0]) for one in played} == {1, -1}
    for one in played:
        assert one.rewards.tolist() == [0] * (len(one.rewards) - 1) + [1]
    task = made("t-maze", "easy", maze=maze)[0]
    (worst,) = episodes("t-maze", "easy", [[2] * task.max_steps], maze=maze)
    assert worst.rewards.sum() == pytest.approx(task.return_bounds[0])


@pytest.mark.parametrize("level", ["hard", *later("easy", "medium")])
def test_lucky_play_of_concentration_reaches_the_best_return(level):
    """The second card of a turn is drawn anew until it fits the first."""
    task = TASKS["concentration"](level=level)

    @jax.jit
    def play():
        def turn(state, place):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(0), place), 256)
            many = jax.vmap(lambda key: task.step(key, state, place, ()))(keys)
            now = jax.tree.map(lambda x: x[many.reward.argmax()], many)
            return now.state, (now.reward, now.done)

        state = task.reset(jax.random.key(0), ())[1]
        return jax.lax.scan(turn, state, jnp.arange(task.num_cards))[1]

    rewards, ends = play()
    assert rewards.sum() == pytest.approx(task.return_bounds[1], abs=1e-5)
    assert ends.tolist() == [False] * (task.num_cards - 1) + [True]


def test_unlucky_play_of_concentration_reaches_the_worst_return():
    (episode,) = episodes("concentration", "easy", [[9] * 104])
    assert episode.rewards.sum() == pytest.approx(-1, abs=1e-5)


def test_a_deck_is_well_shuffled():
    """First cards are uniform; a second one has the suit of the first in 12 of 51 cases."""
    keys = jax.random.split(jax.random.key(0), (20_000, 2))
    full = full_deck(52, 4)
    first, left = jax.vmap(lambda key: deal(key, full))(keys[:, 0])
    second, _ = jax.vmap(deal)(keys[:, 1], left)
    np.testing.assert_allclose(np.bincount(first) / 20_000, 0.25, atol=0.0125)  # 4 deviations
    assert abs((first == second).mean() - 12 / 51) < 0.0125


def network_for(task, seed=0):
    config = DNCConfig(memory_size=4, word_size=3, num_read_heads=1, hidden_size=5)
    return DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(seed))


@pytest.mark.parametrize("name", ["t-maze", *later(*(n for n in SIZES if n != "t-maze"))])
def test_an_untrained_network_plays(name):
    task = TASKS[name]()
    assert is_environment(task)
    assert isinstance(task, Interactive)
    assert isinstance(task, Describable)
    network, opening = network_for(task), task.sample(jax.random.key(0), 3)
    keys = keys_for(opening, jax.random.key(0))
    play = jax.jit(lambda training: respond(network, task, opening, keys, training=training),
                   static_argnums=0)  # fmt: skip
    outputs, episode = play(False)
    assert outputs.shape == (3, task.max_steps, task.output_size)
    assert episode.inputs.shape == (3, task.max_steps, task.input_size)
    logits = np.asarray(outputs)[..., : task.num_actions]
    assert (np.asarray(episode.extra.actions) == logits.argmax(axis=-1)).all()
    assert (np.asarray(episode.mask) == 1).all()
    returns = np.asarray(episode.extra.rewards).sum(axis=1)
    worst, best = task.return_bounds
    score = float(task.score(outputs, episode)["missing_return"])
    assert score == pytest.approx((best - returns.mean()) / (best - worst), abs=1e-5)
    assert -1e-6 <= score <= 1 + 1e-6
    assert float(task.loss(outputs, episode)) == pytest.approx(-returns.mean(), abs=1e-6)

    words = task.words(outputs, episode)
    assert {len(part) for part in words} == {task.max_steps}
    assert all(words.inputs)
    first = [task.action_name(int(action)) for action in episode.extra.actions[0]]
    assert list(words.outputs) == first
    shown = task.render(outputs, episode).splitlines()
    assert f": {first[0]}, " in shown[0]
    said = re.fullmatch(rf"return (\S+) in {task.max_steps} steps", shown[-1])
    assert float(said[1]) == pytest.approx(returns[0], abs=1e-2)

    drawn = play(True)[1].extra.actions
    assert len(np.unique(drawn)) > 1
    assert not np.array_equal(drawn, episode.extra.actions)


def test_an_episode_can_be_traced():
    """There is no opening: the first step of the trace is the first observation."""
    task = TASKS["t-maze"]()
    trace = trace_task(task, network_for(task), num_episodes=2)
    for one in trace.episodes:
        assert one.memory.shape == (11, 4, 3)
        assert one.words.inputs[0] in ("sign: up", "sign: down")
        assert abs(one.inputs[0]).tolist() == [0, 1]
        assert one.words.outputs[0] in ("right", "up", "left", "down")
        assert one.mask.all()
        assert 0 <= one.scores["missing_return"] <= 1


@pytest.mark.parametrize("name", SIZES)
def test_bad_settings_are_refused(name, without_type_checks, capsys):
    with pytest.raises(ValueError, match=r"level=hardest: must be easy, medium or hard"):
        TASKS[name](level="hardest")
    with pytest.raises(UsageError, match="discount=2"):
        make_task(name, {"discount": 2.0})
    assert main(["train", name, "--level=medum"]) == 2
    assert "did you mean medium?" in capsys.readouterr().err


def test_an_unknown_maze_is_refused(without_type_checks):
    with pytest.raises(ValueError, match="maze=round"):
        TASKS["t-maze"](maze="round")


def test_the_default_memory_is_large_enough():
    for name in SIZES:
        slots = DEFAULTS[name].model.memory_size
        assert slots >= getattr(make_task(name, DEFAULTS[name].task), "slots_needed", 0)
    needed = {level: TASKS["repeat-previous"](level=level).slots_needed for level in LEVEL_NAMES}
    assert needed == {"easy": 4, "medium": 32, "hard": 64}
