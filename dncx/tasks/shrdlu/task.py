"""Mini-SHRDLU: hear several goals, then move blocks until the one that is asked for is reached.

One episode with K constraints in all, of which the goal that is asked for needs L moves:

    steps     K                                       1                       L + 5
    inputs    one constraint each, with the letter    the go cue, with the    the board
              of its goal; the board                  letter; the board
    action    ignored                                 the first move          a move

A goal is a set of constraints ("3 above 5"), named by one of 26 letters. An action moves the block
on top of a column to another column, or passes. A move from an empty column, or to a full one, is
invalid and changes nothing. An episode always has L + 6 moves: the network passes at its goal.

The paper leaves these points open:

* The reward. A constraint of the goal counts 1 when it becomes satisfied and -1 when it no longer
  is. So the sum is the number satisfied at the end, at whatever time this happens. With
  `reward="every_move"` each satisfied constraint counts after every move, with "end" only after the
  last one.
* The costs. An invalid move costs 0.05, so that even an episode of invalid moves (13 at most) costs
  less than one constraint is worth. Leaving a goal that was reached costs 1, as much as a
  constraint, each time.
* Redundant constraints; see `without_redundant`. They and those that the start satisfies are pruned
  after the draw, so a goal may have fewer constraints than were drawn. The other reading, in which
  the lesson's number is what is left, has no goals for some cells of the paper's table: one move
  adds three constraints at most, but the table has one move with six constraints; and of six
  constraints between six blocks, one is always redundant.
* The order: goal after goal, so that a network can learn to keep a goal's constraints together.
* The board is shown at every step, because the paper finds the first move in memory already while
  the goals are told. The go cue and its letter are shown once, so the goal must be remembered.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32

from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.playing import Played, Playing
from dncx.tasks.acting.settings import check_acting
from dncx.tasks.base import Episode
from dncx.tasks.curriculum import Gate, draw_lessons
from dncx.tasks.shrdlu.boards import (
    EMPTY,
    MOST_BLOCKS,
    MOVES,
    NUM_ACTIONS,
    PASS,
    SIZE,
    all_boards,
)
from dncx.tasks.shrdlu.constraints import NO_CONSTRAINT, in_words, num_satisfied
from dncx.tasks.shrdlu.goals import (
    Problem,
    Tables,
    draw_problem,
    exists,
    moves_left,
    tables,
)
from dncx.tasks.shrdlu.inventory import MOST_CONSTRAINTS, MOST_MOVES, world
from dncx.tasks.shrdlu.lessons import LESSONS, Lesson
from dncx.tasks.shrdlu.observations import NOTHING, NUM_LETTERS, OBSERVATION_SIZE, encode
from dncx.tasks.shrdlu.settings import MiniShrdluSettings, Reward

NOT_YET = -1
_BOARDS_PER_LINE = 8


class State(NamedTuple):
    """An episode before a step."""

    problem: Problem
    board: Int32[Array, ""]  # its number in `all_boards`
    step: Int32[Array, ""]
    arrived: Int32[Array, ""]  # the moves after which the goal was first reached, or NOT_YET


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniShrdlu(MiniShrdluSettings, Playing):
    """The paper's block puzzle; the arguments are `MiniShrdluSettings`.

    Raises:
      ValueError: if there is no such lesson or reward, if a number is out of its range or a cost
        negative, or if there are no goals with these numbers.

    Source: Nature 2016, Methods, "Mini-SHRDLU", and Extended Data Table 6.
    """

    num_actions: ClassVar[int] = NUM_ACTIONS
    observation_size: ClassVar[int] = OBSERVATION_SIZE

    lesson: int = 0
    """The current lesson; 0: the last one."""
    earlier_share: float = 0.0
    """The share of episodes from earlier lessons."""

    def __post_init__(self) -> None:
        check_acting(self)
        if not 1 <= self.last_lesson <= len(LESSONS):
            raise ValueError(
                f"last_lesson={self.last_lesson}: there are lessons 1 to {len(LESSONS)}"
            )
        if not 0 <= self.lesson <= self.last_lesson:
            raise ValueError(f"lesson {self.lesson}: there are lessons 1 to {self.last_lesson}")
        if not 0 <= self.earlier_share <= 1:
            raise ValueError(f"earlier_share={self.earlier_share}: must be in [0, 1]")
        if self.reward not in get_args(Reward):
            raise ValueError(f"reward={self.reward}: must be one of {', '.join(get_args(Reward))}")
        for name in ("invalid_cost", "undo_cost"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value}: must be a finite number of at least 0")
        if not 0 <= self.spare_moves <= 10_000:
            raise ValueError(f"spare_moves={self.spare_moves}: must be 0 to 10000")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value and not least <= value <= most:
                raise ValueError(
                    f"{name}={value}: must be {least} to {most}; 0 means the lesson's number"
                )
        if any(getattr(self, name) for name in _RANGES) and not exists(self.lessons[-1]):
            given = ", ".join(f"{name}={getattr(self, name)}" for name in _RANGES)
            raise ValueError(f"{given}: lesson {len(self.lessons)} has no goal with these numbers")

    @property
    def max_steps(self) -> int:
        """The steps of the longest episode."""
        most = self.most
        return most.max_goals * most.max_constraints + most.max_moves + self.spare_moves

    @property
    def return_bounds(self) -> tuple[float, float]:
        """All moves invalid or undone, and all constraints satisfied at once."""
        moves = self.most.max_moves + self.spare_moves
        best = self.most.max_constraints * (moves if self.reward == "every_move" else 1)
        return -moves * max(self.invalid_cost, self.undo_cost), float(best)

    @property
    def num_lessons(self) -> int:
        return self.last_lesson

    @property
    def gate(self) -> Gate:
        """85 % of the constraints of 160 episodes are satisfied at the end, as in the paper."""
        return Gate("unsatisfied", at_most=0.15, every=400, episodes=160, earlier_share=0.1)

    def at_lesson(self, number: int, earlier_share: float = 0.0) -> "MiniShrdlu":
        """See `Course.at_lesson`."""
        if not 1 <= number <= self.last_lesson:
            raise ValueError(f"lesson {number}: there are lessons 1 to {self.last_lesson}")
        return dataclasses.replace(self, lesson=number, earlier_share=earlier_share)

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """The table up to the current lesson, with the settings that replace its numbers.

        A lesson without any goal of the given numbers is replaced by the next one with such goals.
        """
        given = {
            f"{bound}_{name.removeprefix('num_')}": getattr(self, name)
            for name in _RANGES
            for bound in ("min", "max")
            if getattr(self, name)
        }
        rows = [row._replace(**given) for row in LESSONS[: self.last_lesson]]
        for index in reversed(range(len(rows) - 1)) if given else ():
            rows[index] = rows[index] if exists(rows[index]) else rows[index + 1]
        return tuple(rows[: self.lesson or self.last_lesson])

    @property
    def most(self) -> Lesson:
        """The largest possible value of each bound, which determines the shapes."""
        return Lesson(*map(max, zip(*self._drawn, strict=True)))

    @property
    def _drawn(self) -> tuple[Lesson, ...]:
        """The lessons of which episodes are drawn."""
        return self.lessons if self.earlier_share else self.lessons[-1:]

    @property
    def _blocks(self) -> tuple[int, int]:
        """The smallest and the largest number of blocks, which determine the tables."""
        return min(row.min_blocks for row in self._drawn), self.most.max_blocks

    @property
    def _tables(self) -> Tables:
        return tables(*self._blocks)

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " F"], State]:
        """See `Environment.reset`."""
        lesson_key, key = jax.random.split(key)
        rows: Any = draw_lessons(lesson_key, self.lessons, len(self.lessons), self.earlier_share, 1)
        bounds = Lesson(*(column[0] for column in rows))
        board, problem = draw_problem(
            key, self._tables, bounds, self.most, self.shuffle_constraints
        )
        state = State(problem, board, jnp.int32(0), jnp.int32(NOT_YET))
        return self._observation(state), state

    def acts(self, state: State) -> Bool[Array, ""]:
        """See `HasPassiveSteps.acts`: from the go cue on."""
        return state.step >= state.problem.num_told

    def step(self, key: Array, state: State, action: Int[Array, ""], params: Any) -> Transition:
        """See `Environment.step`."""
        now, problem, acting = self._next(state, action), state.problem, self.acts(state)
        before, after = (self._num_satisfied(problem, s.board) for s in (state, now))
        done = now.step >= problem.num_told + problem.fewest + self.spare_moves
        gain = {
            "change": after - before,
            "every_move": after,
            "end": jnp.where(done, after, 0),
        }[self.reward]
        size = _size(problem)
        undone = (before == size) & (after < size)
        invalid = (now.board == state.board) & (action != PASS)
        reward = gain.astype(jnp.float32)
        reward -= self.invalid_cost * invalid.astype(jnp.float32)
        reward -= self.undo_cost * undone.astype(jnp.float32)
        return Transition(self._observation(now), now, jnp.where(acting, reward, 0), done)

    def _next(self, state: State, action: Int[Array, ""]) -> State:
        """The state after an action."""
        acting, problem = self.acts(state), state.problem
        board = jnp.where(acting, self._tables.after[state.board, action], state.board)
        reached = acting & (self._num_satisfied(problem, board) == _size(problem))
        moves = state.step + 1 - problem.num_told
        first = reached & (state.arrived == NOT_YET)
        return State(problem, board, state.step + 1, jnp.where(first, moves, state.arrived))

    def _num_satisfied(self, problem: Problem, board: Int32[Array, ""]) -> Int32[Array, ""]:
        return num_satisfied(self._tables.by_board, board, problem.goal)

    def _observation(self, state: State) -> Float[Array, " F"]:
        """What the network sees before a step."""
        problem, told = state.problem, ~self.acts(state)
        row = problem.told[jnp.minimum(state.step, len(problem.told) - 1)]
        go = (state.step == problem.num_told) | (self.repeat_cue & ~told)
        asked = jnp.where(go, problem.letter, NOTHING)
        grid = jnp.asarray(all_boards(*self._blocks).grids)[state.board]
        shown = self.board_while_told | ~told
        return encode(
            jnp.where(told, row[0], asked),
            jnp.where(told, row[1:], NOTHING),
            go,
            jnp.where(shown, grid, jnp.int8(EMPTY)),
        )

    def optimal_actions(self, state: State) -> Bool[Array, " 7"]:
        """The actions with which a shortest way to the goal begins: PASS at a goal.

        A way may lead to any board that satisfies the goal. While the goals are told, these are the
        best first moves.
        """
        table, goal = self._tables, state.problem.goal
        here = moves_left(table, state.board, goal)
        after = table.after[state.board]
        there = jax.vmap(lambda board: moves_left(table, board, goal))(after)
        stay = jnp.arange(NUM_ACTIONS) == PASS
        return jnp.where(here == 0, stay, there < here)

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Errors at the ends of the episodes.

        unsatisfied: share of the constraints that are not satisfied.
        unsolved: share of the episodes with such a constraint.
        not_optimal: the same, and those that reached their goal with more than the fewest moves;
          a pass or an invalid move counts, too.
        """
        end = jax.vmap(self._end)(episode.extra)
        size = jax.vmap(_size)(end.problem)
        left = size - jax.vmap(self._num_satisfied)(end.problem, end.board)
        slow = end.arrived != end.problem.fewest
        return {
            "unsatisfied": left.sum().astype(jnp.float32) / size.sum().astype(jnp.float32),
            "unsolved": (left > 0).mean(dtype=jnp.float32),
            "not_optimal": ((left > 0) | slow).mean(dtype=jnp.float32),
        }

    def _end(self, played: Played) -> State:
        """The state after the last action of one episode."""
        last = played.live.sum() - 1
        return self._next(jax.tree.map(lambda x: x[last], played.states), played.actions[last])

    def observed(self, state: State) -> str:
        """The constraint that is told; or the go cue and the columns, each from the bottom."""
        problem, step = state.problem, int(state.step)
        if step < problem.num_told:
            letter, *statement = (int(number) for number in problem.told[step])
            return f"goal {_name(letter)}: {in_words(*statement)}"
        columns = all_boards(*self._blocks).grids[int(state.board)]
        board = "|".join("".join(str(x + 1) for x in column if x != EMPTY) for column in columns)
        go = f"go {_name(int(problem.letter))}, " if step == problem.num_told else ""
        return f"{go}board {board}"

    def action_name(self, action: int) -> str:
        """A move with its columns, which count from 1, or "pass"."""
        return "pass" if action == PASS else "{}>{}".format(*(x + 1 for x in MOVES[action]))

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The goals of the first episode of a batch, and the boards with the moves between them."""
        played: Played = jax.tree.map(lambda array: np.asarray(array[0]), episode.extra)
        problem: Problem = jax.tree.map(lambda array: array[0], played.states.problem)
        boards, true, _ = world(*self._blocks)
        moves = slice(int(problem.num_told), int(played.live.sum()))
        before, actions = played.states.board[moves], played.actions[moves]
        end = boards.after[before[-1], actions[-1]]
        pictures = _pictures(
            boards.grids[[*before, end]], [*map(self.action_name, actions.tolist())]
        )
        goal = problem.goal[problem.goal != NO_CONSTRAINT]
        reached = int(np.isin(goal, true.by_board[end]).sum())
        said = f"{reached} of {len(goal)} constraints satisfied at the end"
        return "\n".join([*_goal_lines(problem), *pictures, said])


_RANGES = {
    "num_goals": (1, NUM_LETTERS),
    "num_blocks": (2, MOST_BLOCKS),
    "num_constraints": (1, MOST_CONSTRAINTS),
    "num_moves": (1, MOST_MOVES),
}


def _size(problem: Problem) -> Int32[Array, ""]:
    """The number of constraints of the goal to reach."""
    return (problem.goal != NO_CONSTRAINT).sum(dtype=jnp.int32)


def _name(letter: int) -> str:
    return chr(ord("A") + letter)


def _goal_lines(problem: Problem) -> Iterator[str]:
    """A line per goal, in the order in which they are told."""
    told = problem.told[: int(problem.num_told)].tolist()
    for letter in dict.fromkeys(row[0] for row in told):
        said = ", ".join(in_words(*row[1:]) for row in told if row[0] == letter)
        moves = f"  <- in {int(problem.fewest)} moves" if letter == int(problem.letter) else ""
        yield f"goal {_name(letter)}: {said}{moves}"


def _pictures(boards: Int[np.ndarray, "N 3 3"], names: list[str]) -> Iterator[str]:
    """The boards next to each other, each followed by the move from it."""
    for first in range(0, len(boards), _BOARDS_PER_LINE):
        yield ""
        for up in reversed(range(SIZE)):
            parts = []
            for index in range(first, min(first + _BOARDS_PER_LINE, len(boards))):
                row = " ".join("." if x == EMPTY else str(x + 1) for x in boards[index][:, up])
                name = names[index] if up == 1 and index < len(names) else ""
                parts.append(f"{row} {name:^4} ")
            yield "".join(parts).rstrip()
    yield ""
