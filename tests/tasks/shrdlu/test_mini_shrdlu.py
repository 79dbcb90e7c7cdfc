"""The environment: episodes against their lessons, rewards by hand, optimal play against search."""

import dataclasses
from collections import Counter

import blocks_by_hand as by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncx.errors import UsageError
from dncx.settings.presets import DEFAULTS, PRESETS
from dncx.tasks.acting.environment import Environment, HasPassiveSteps, acts
from dncx.tasks.base import Describable, Interactive
from dncx.tasks.curriculum import Course, Gate
from dncx.tasks.registry import make_task
from dncx.tasks.shrdlu.boards import EMPTY, PASS, all_boards
from dncx.tasks.shrdlu.constraints import NO_CONSTRAINT, NUMBERS
from dncx.tasks.shrdlu.goals import Problem
from dncx.tasks.shrdlu.lessons import LESSONS
from dncx.tasks.shrdlu.observations import OBSERVATION_SIZE, board_of
from dncx.tasks.shrdlu.settings import MiniShrdluSettings
from dncx.tasks.shrdlu.task import NOT_YET, MiniShrdlu, State

BATCH = 64
KEY = jax.random.key(0)  # of steps, which draw nothing

# Extended Data Table 6: goals, blocks, constraints, depth.
TABLE = """
2-2 3-3 1-1 1-1 | 2-3 3-4 1-2 1-1 | 3-3 4-4 1-2 1-2 | 3-4 4-5 2-2 1-2 | 4-4 5-5 2-2 2-2
4-5 5-6 2-3 2-2 | 5-5 6-6 2-3 2-3 | 5-6 6-6 3-3 2-3 | 6-6 6-6 3-3 3-3 | 6-7 6-6 3-4 3-3
7-7 6-6 3-4 3-4 | 7-8 6-6 4-4 3-4 | 8-8 6-6 4-4 4-4 | 8-9 6-6 4-5 4-4 | 9-9 6-6 4-5 4-5
9-10 6-6 5-5 4-5 | 10-10 6-6 5-5 5-5 | 10-10 6-6 5-6 5-5 | 10-10 6-6 5-6 5-6
10-10 6-6 6-6 5-6 | 10-10 6-6 6-6 6-6 | 10-10 6-6 6-6 6-6 | 10-10 6-6 6-6 6-7
10-10 6-6 6-6 6-7 | 10-10 6-6 6-6 7-7 | 10-10 6-6 1-6 1-7
"""

reset = jax.jit(
    lambda task, key, batch: jax.vmap(task.reset, (0, None))(jax.random.split(key, batch), ()),
    static_argnums=(0, 2),
)
step = jax.jit(lambda task, state, action: task.step(KEY, state, action, ()), static_argnums=0)
best = jax.jit(lambda task, states: jax.vmap(task.optimal_actions)(states), static_argnums=0)


def one(tree, index):
    return jax.tree.map(lambda array: np.asarray(array[index]), tree)


@pytest.fixture(scope="module")
def last():
    """The last lesson, and states at the start of its episodes."""
    task = MiniShrdlu()
    return task, reset(task, jax.random.key(1), BATCH)[1]


def test_it_is_everything_that_it_says():
    task = MiniShrdlu()
    for contract in (Environment, HasPassiveSteps, Interactive, Course, Describable):
        assert isinstance(task, contract)
    assert (task.num_lessons, task.num_actions, task.output_size) == (26, 7, 8)
    assert MiniShrdlu(separate_value=True).output_size == 8
    assert task.gate == Gate("unsatisfied", 0.15, every=400, episodes=160, earlier_share=0.1)
    assert task.max_steps == 10 * 6 + 7 + 6
    assert task.at_lesson(1).max_steps == 2 + 1 + 6


def test_lessons_are_those_of_the_paper():
    rows = TABLE.strip().replace("\n", " | ").split(" | ")
    numbers = [tuple(int(x) for pair in row.split() for x in pair.split("-")) for row in rows]
    assert [tuple(lesson) for lesson in LESSONS] == numbers


# Episodes


def asked_of(problem):
    return by_hand.told(problem)[chr(ord("A") + problem.letter)]


def check_episode(task, bounds, state):
    """A state at the start of an episode of a lesson; returns numbers that the lesson bounds."""
    boards = all_boards(*task._blocks)
    board, goals = by_hand.columns(boards, state.board), by_hand.told(state.problem)
    num_blocks = len("".join(board))
    assert bounds.min_goals <= len(goals) <= bounds.max_goals
    assert bounds.min_blocks <= num_blocks <= bounds.max_blocks
    for said in goals.values():
        assert 1 <= len(said) <= bounds.max_constraints
        assert not set(said) & by_hand.true_of(board)
        assert {int(w) for words in said for w in words.split() if w.isdigit()} <= {
            *range(1, num_blocks + 1)
        }
    asked = asked_of(state.problem)
    assert len(asked) == (state.problem.goal != NO_CONSTRAINT).sum()
    assert bounds.min_moves <= state.problem.fewest <= bounds.max_moves
    return len(goals), num_blocks, int(state.problem.fewest), len(asked)


def test_goals_need_the_moves_that_the_last_lesson_asks_for(last):
    task, states = last
    found = [check_episode(task, LESSONS[25], one(states, index)) for index in range(BATCH)]
    for index in range(12):
        state, graph = one(states, index), by_hand.ways(6, 6)
        board = by_hand.columns(all_boards(6, 6), state.board)
        assert by_hand.fewest(graph, board, asked_of(state.problem)) == state.problem.fewest
    goals, blocks, moves, told = map(set, zip(*found, strict=True))
    assert (goals, blocks, moves) == ({10}, {6}, {1, 2, 3, 4, 5, 6, 7})
    assert {1, 2, 3, 4} <= told  # six were drawn for some, and pruned


def test_lessons_bound_what_is_drawn():
    """Lesson 6, alone: 4 or 5 goals, 5 or 6 blocks."""
    task = MiniShrdlu().at_lesson(6)
    _, states = reset(task, jax.random.key(2), 128)
    found = [check_episode(task, LESSONS[5], one(states, index)) for index in range(128)]
    goals, blocks, moves, _ = (Counter(column) for column in zip(*found, strict=True))
    assert set(moves) == {2}
    for counts in (goals, blocks):
        assert len(counts) == 2
        assert min(counts.values()) > 40


def test_earlier_lessons_are_mixed_in():
    task = MiniShrdlu().at_lesson(3, earlier_share=0.5)
    _, states = reset(task, jax.random.key(3), 600)
    boards = all_boards(*task._blocks)
    blocks = Counter(boards.num_blocks[boards.shapes[np.asarray(states.board)]].tolist())
    assert set(blocks) == {3, 4}
    assert 0.3 < blocks[3] / 600 < 0.45  # 3 in 8: all of lesson 1, and half of lesson 2


def test_each_board_is_as_likely_as_any_other():
    task = MiniShrdlu(last_lesson=1)
    _, states = reset(task, jax.random.key(4), 6000)
    counts = np.bincount(states.board, minlength=60)
    assert len(counts) == 60
    assert 60 < counts.min() <= counts.max() < 150
    wordings = Counter(states.problem.told[:, 0, 2].tolist())
    assert min(wordings.values()) > 1000  # of four
    letters = np.bincount(states.problem.letter, minlength=26)
    assert letters.min() > 150
    assert (states.problem.told[:, 0, 0] != states.problem.told[:, 1, 0]).all()


@pytest.mark.second_step
def test_numbers_can_be_fixed():
    """A cell of the paper's table: one constraint that needs seven moves."""
    task = MiniShrdlu(num_constraints=1, num_moves=7, num_goals=12)
    _, states = reset(task, jax.random.key(5), 8)
    for index in range(8):
        state = one(states, index)
        assert state.problem.fewest == 7
        assert {len(said) for said in by_hand.told(state.problem).values()} == {1}
        assert len(by_hand.told(state.problem)) == 12


@pytest.mark.second_step
def test_constraints_in_random_order():
    mixed = MiniShrdlu(shuffle_constraints=True, last_lesson=7)
    for task in (mixed, dataclasses.replace(mixed, shuffle_constraints=False)):
        problem = reset(task, jax.random.key(6), BATCH)[1].problem
        letters = [row[:n] for row, n in zip(problem.told[..., 0], problem.num_told, strict=True)]
        changes = [int((x[1:] != x[:-1]).sum()) for x in letters]
        goal_by_goal = all(
            n == len(set(x.tolist())) - 1 for n, x in zip(changes, letters, strict=True)
        )
        assert goal_by_goal is not task.shuffle_constraints


# One episode by hand

TASK = MiniShrdlu(num_blocks=3, last_lesson=1)


def by_words(*said):
    relations = {"above": 0, "below": 1, "left": 2, "right": 3}
    words = [phrase.split() for phrase in said]
    return [(int(a[0]) - 1, relations[a[1]], int(a[-1]) - 1) for a in words]


def episode_by_hand(board=("12", "", "3")):
    """Goal B: 2 above 3; goal D, which is asked for: 1 left of 2, 2 left of 3; one move."""
    told = [(1, *by_words("2 above 3")[0])]
    told += [(3, *statement) for statement in by_words("1 left of 2", "3 right of 2")]
    goal = [int(NUMBERS[r, a, b]) for _, a, r, b in told[1:]]
    problem = Problem(
        told=jnp.asarray(told, jnp.int32),
        num_told=jnp.int32(3),
        letter=jnp.int32(3),
        goal=jnp.asarray([*goal, NO_CONSTRAINT], jnp.int32),
        fewest=jnp.int32(1),
    )
    index = by_hand.numbered(all_boards(3, 3))[board]
    return State(problem, jnp.int32(index), jnp.int32(0), jnp.int32(NOT_YET))


def follow(task, moves, state=None):
    """The rewards and the observations of an episode; nothing is done while goals are told."""
    state = episode_by_hand() if state is None else state
    rewards, seen = [], []
    for name in ["1>3"] * 3 + moves:
        made = step(task, state, jnp.int32(by_hand.ACTIONS.index(name)))
        rewards.append(round(float(made.reward), 4))
        seen.append(np.asarray(made.observation))
        state, done = made.state, bool(made.done)
    return rewards, seen, state, done


def test_actions_do_nothing_while_goals_are_told():
    state = episode_by_hand()
    for told in (True, True, True, False):
        assert bool(TASK.acts(state)) is not told
        assert bool(acts(TASK, state)) is not told
        made = step(TASK, state, jnp.int32(0))
        assert (int(made.state.board) == int(state.board)) is told
        assert told is False or made.reward == 0
        state = made.state


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        # an invalid move, the goal, a move that leaves it and satisfies nothing, and back
        ("change", [-0.25, 2, -2 - 5, 2, 0, 0, 0]),
        ("every_move", [-0.25, 2, 0 - 5, 2, 2, 2, 2]),
        ("end", [-0.25, 0, 0 - 5, 0, 0, 0, 2]),
    ],
)
def test_rewards(reward, expected):
    task = dataclasses.replace(TASK, reward=reward, invalid_cost=0.25, undo_cost=5.0)
    moves = ["2>1", "1>2", "2>3", "3>2", "pass", "pass", "pass"]
    rewards, _, state, done = follow(task, moves)
    assert rewards == [0, 0, 0, *expected]
    assert done
    assert state.arrived == 2
    assert not follow(task, moves[:-1])[-1]
    worst, highest = task.return_bounds
    assert worst <= sum(rewards)
    assert highest == {"change": 1, "every_move": 7, "end": 1}[reward]  # of the lesson's goals


def test_half_a_goal_counts_half():
    state = episode_by_hand(("", "21", "3"))  # 2 left of 3
    state = state._replace(step=jnp.int32(3))
    made = step(TASK, state, jnp.int32(by_hand.ACTIONS.index("2>1")))
    assert made.reward == 1
    assert made.state.arrived == 1


def test_observations():
    """The three constraints, the go cue at the first move, then the board alone."""
    state = episode_by_hand()
    first = np.asarray(TASK._observation(state))
    _, seen, *_ = follow(TASK, ["1>2", "2>3"])
    assert first.shape == (OBSERVATION_SIZE,)
    assert OBSERVATION_SIZE == 26 + 6 + 4 + 6 + 1 + 54
    assert np.flatnonzero(first[:43]).tolist() == [1, 26 + 1, 32 + 0, 36 + 2]
    assert np.flatnonzero(seen[0][:43]).tolist() == [3, 26 + 0, 32 + 2, 36 + 1]
    assert np.flatnonzero(seen[1][:43]).tolist() == [3, 26 + 2, 32 + 3, 36 + 1]
    assert np.flatnonzero(seen[2][:43]).tolist() == [3, 42]
    assert not seen[3][:43].any()
    assert board_of(first).tolist() == [[0, 1, EMPTY], [EMPTY] * 3, [2, EMPTY, EMPTY]]
    assert board_of(seen[3]).tolist() == [[0, EMPTY, EMPTY], [1, EMPTY, EMPTY], [2, EMPTY, EMPTY]]
    assert np.flatnonzero(first[43:]).tolist() == [0, 6 + 1, 6 * 6 + 2]


def test_observations_with_other_settings():
    _, plain, *_ = follow(TASK, ["1>2", "2>3"])
    _, seen, *_ = follow(dataclasses.replace(TASK, board_while_told=False), ["1>2", "2>3"])
    assert not any(row[43:].any() for row in seen[:2])
    np.testing.assert_array_equal(seen[2:], plain[2:])
    _, seen, *_ = follow(dataclasses.replace(TASK, repeat_cue=True), ["1>2", "2>3"])
    assert [np.flatnonzero(row[:43]).tolist() for row in seen[2:]] == [[3, 42]] * 3


# Play


def test_optimal_actions_are_those_of_plain_search(last):
    task, states = last
    boards, graph = all_boards(6, 6), by_hand.ways(6, 6)
    actions = best(task, states)
    for index in range(5):
        state = one(states, index)
        board = by_hand.columns(boards, state.board)
        said = asked_of(state.problem)
        after = [
            by_hand.fewest(graph, by_hand.move(board, action), said) for action in by_hand.ACTIONS
        ]
        nearer = [moves < state.problem.fewest for moves in after]
        assert actions[index].tolist() == nearer
        assert not nearer[PASS]


@pytest.fixture(scope="module")
def optimal(last):
    """Whole episodes of the last lesson, with the first optimal action at each step."""
    task, _ = last

    @jax.jit
    def run(key):
        opening = task.sample(key, BATCH)

        def answer(states, inputs):
            actions = jax.vmap(task.optimal_actions)(states)
            after = jax.vmap(task.step, (None, 0, 0, None))(KEY, states, actions.argmax(1), ())
            outputs = jnp.pad(actions.astype(jnp.float32), [(0, 0), (0, 1)])
            return after.state, outputs

        keys = jax.random.split(key, BATCH)
        outputs, episode = task.converse(answer, opening.extra[1], opening, keys, False)
        return outputs, episode, task.score(outputs, episode)

    return task, *run(jax.random.key(7))


def test_optimal_play_reaches_every_goal_in_the_fewest_moves(optimal):
    task, outputs, episode, scores = optimal
    assert scores == {"unsatisfied": 0, "unsolved": 0, "not_optimal": 0}
    problem = one(episode.extra.states.problem, slice(None))
    sizes = (problem.goal[:, 0] != NO_CONSTRAINT).sum(axis=1)
    np.testing.assert_allclose(np.asarray(episode.extra.rewards).sum(axis=1), sizes)
    np.testing.assert_allclose(task.loss(outputs, episode), -sizes.mean(), rtol=1e-6)


def test_only_moves_count_in_an_episode(optimal):
    _, _, episode, _ = optimal
    problem = one(episode.extra.states.problem, slice(None))
    told, moves = problem.num_told[:, 0], problem.fewest[:, 0] + 6
    for row, live, before, count in zip(
        np.asarray(episode.mask), episode.extra.live, told, moves, strict=True
    ):
        assert np.flatnonzero(row).tolist() == [*range(before, before + count)]
        assert int(live.sum()) == before + count
    assert not np.asarray(episode.extra.rewards)[~np.asarray(episode.mask, bool)].any()


def test_an_episode_in_words(optimal):
    task, outputs, episode, _ = optimal
    words, state = task.words(outputs, episode), one(episode.extra.states, (0, 0))
    goals, before = by_hand.told(state.problem), int(state.problem.num_told)
    said = [f"goal {name}: {one}" for name, many in goals.items() for one in many]
    assert list(words.inputs[:before]) == said
    board = "|".join(by_hand.columns(all_boards(6, 6), state.board))
    asked = chr(ord("A") + state.problem.letter)
    assert words.inputs[before] == f"go {asked}, board {board}"
    moves = [move for move in words.outputs if move]
    fewest = int(state.problem.fewest)
    assert moves[fewest:] == ["pass"] * 6
    assert "pass" not in moves[:fewest]
    shown = task.render(outputs, episode)
    assert f"goal {asked}: {', '.join(goals[asked])}  <- in {fewest} moves" in shown
    size = len(goals[asked])
    assert shown.endswith(f"{size} of {size} constraints satisfied at the end")
    bottom = " ".join(column[0] if column else "." for column in board.split("|"))
    assert any(line.startswith(bottom) for line in shown.splitlines())


def test_scores_of_a_network_that_passes():
    task = MiniShrdlu(last_lesson=1)

    @jax.jit
    def run(key):
        opening = task.sample(key, 8)
        idle = jax.nn.one_hot(jnp.full(8, PASS), 8)
        keys = jax.random.split(key, 8)
        played = task.converse(lambda state, _: (state, idle), (), opening, keys, False)
        return played[1], task.score(*played)

    episode, scores = run(jax.random.key(8))
    assert scores == {"unsatisfied": 1, "unsolved": 1, "not_optimal": 1}
    assert not episode.extra.rewards.any()


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last_lesson": 27}, "last_lesson=27: there are lessons 1 to 26"),
        ({"last_lesson": 0}, "last_lesson=0: there are lessons 1 to 26"),
        ({"invalid_cost": -1.0}, "invalid_cost=-1.0: must be a finite number of at least 0"),
        ({"undo_cost": float("nan")}, "undo_cost=nan: must be"),
        ({"spare_moves": -1}, "spare_moves=-1: must be 0 to 10000"),
        ({"num_goals": 27}, "num_goals=27: must be 1 to 26; 0 means the lesson's number"),
        ({"num_blocks": 1}, "num_blocks=1: must be 2 to 6"),
        ({"num_constraints": 7}, "num_constraints=7: must be 1 to 6"),
        ({"num_moves": 8}, "num_moves=8: must be 1 to 7"),
        ({"num_blocks": 2, "num_moves": 7}, "lesson 26 has no goal with these numbers"),
        ({"epochs": 0}, "epochs=0: must be at least 1"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        make_task("mini-shrdlu", settings)


def test_an_unknown_reward(without_type_checks):
    with pytest.raises(UsageError, match="reward=never: must be one of change, every_move, end"):
        make_task("mini-shrdlu", {"reward": "never"})


def test_a_lesson_out_of_range():
    with pytest.raises(ValueError, match="lesson 3: there are lessons 1 to 2"):
        MiniShrdlu(last_lesson=2).at_lesson(3)


def test_a_lesson_without_such_goals_is_the_next_one_with_them():
    """Three moves need more than the few blocks of the first lessons."""
    lessons = MiniShrdlu(num_moves=7, num_constraints=1).lessons
    assert lessons[0].min_blocks > 3
    assert lessons[25].min_blocks == 6
    assert {(row.min_moves, row.max_constraints) for row in lessons} == {(7, 1)}


def test_the_presets():
    default, paper = DEFAULTS["mini-shrdlu"], PRESETS["nature-mini-shrdlu"].settings
    assert default.task == MiniShrdluSettings()
    task, model, run = paper.task, paper.model, paper.run
    assert (task.method, task.gae_lambda, task.entropy_cost) == ("policy_gradient", 0.75, 0.5)
    assert task.separate_value
    assert (model.hidden_size, model.num_layers, model.num_read_heads) == (250, 2, 3)
    assert (model.memory_size, model.word_size) == (32, 100)
    assert (run.batch_size, paper.optimizer.learning_rate) == (32, 3e-5)
