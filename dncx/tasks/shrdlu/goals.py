"""The draw of an episode: a start, several goals with letters, and the one to reach."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, UInt8, UInt32

from dncx.tasks.shrdlu.boards import MOST_BLOCKS, UNREACHABLE
from dncx.tasks.shrdlu.constraints import (
    NO_CONSTRAINT,
    NUM_CONSTRAINTS,
    STATEMENTS,
    goal_bits,
    renamed,
    unpacked,
    without_redundant,
)
from dncx.tasks.shrdlu.inventory import MOST_CONSTRAINTS, MOST_MOVES, world
from dncx.tasks.shrdlu.lessons import Lesson

NUM_LETTERS = 26


class Tables(NamedTuple):
    """The tables of `Boards`, `Satisfied` and `Inventory` that episodes need."""

    num_blocks: Int32[Array, " S"]
    first_boards: Int32[Array, " S"]
    shapes: Int32[Array, " B"]
    orders: Int32[Array, "B 6"]
    places: Int32[Array, "B 6"]
    after: Int32[Array, "B 7"]
    distances: UInt8[Array, "S B"]
    by_board: UInt8[Array, "B 7"]
    bits: UInt32[Array, "61 words"]
    goals: UInt8[Array, "N 6"]
    first_goals: Int32[Array, "S 7 8"]
    num_goals: Int32[Array, "S 7 8"]


class Problem(NamedTuple):
    """What an episode tells and asks.

    Attributes:
      told: (letter, block, relation, block) at each step; rows past `num_told` mean nothing.
      num_told: the number of constraints told.
      letter: the letter of the goal to reach.
      goal: its constraints, and NO_CONSTRAINT.
      fewest: the fewest moves to it.
    """

    told: Int32[Array, "K 4"]
    num_told: Int32[Array, ""]
    letter: Int32[Array, ""]
    goal: Int32[Array, " C"]
    fewest: Int32[Array, ""]


def tables(min_blocks: int, max_blocks: int) -> Tables:
    """The tables for these numbers of blocks as constants of a program."""
    boards, true, inventory = world(min_blocks, max_blocks)
    return Tables(
        *map(
            jnp.asarray,
            (
                boards.num_blocks,
                boards.firsts,
                boards.shapes,
                boards.orders,
                boards.places,
                boards.after,
                boards.distances,
                true.by_board,
                true.bits,
                inventory.goals,
                inventory.firsts,
                inventory.counts,
            ),
        )
    )


@functools.cache
def exists(bounds: Lesson) -> bool:
    """Whether there is any goal within the bounds of a lesson."""
    boards, _, inventory = world(bounds.min_blocks, bounds.max_blocks)
    return bool(inventory.counts[:, _within(bounds)].any())


def draw_problem(
    key: Array, tables: Tables, bounds: Lesson, most: Lesson, shuffled: bool
) -> tuple[Int32[Array, ""], Problem]:
    """The start of an episode, and its goals.

    The number of blocks is drawn first, then one of their boards for which the lesson has goals.
    A goal has one of the lesson's pairs of (constraints drawn, fewest moves) that exist for this
    board; all are equally likely, and so are all goals of a pair. The goals of an episode are drawn
    independently, so two may be the same. A constraint is told in one of its two wordings.

    Args:
      key: random key of the draws.
      tables: of boards with the numbers of blocks in `most`.
      bounds: the lesson, as arrays.
      most: the largest values of all lessons that may be drawn, which determine the shapes.
      shuffled: whether the constraints of all goals are told in random order.
    """
    board_key, number_key, letter_key, goal_key, order_key, choice_key = jax.random.split(key, 6)
    allowed = _within(bounds)[None] & (tables.num_goals > 0)
    start = _draw_start(board_key, tables, bounds, allowed.any(axis=(1, 2)))
    number = jax.random.randint(number_key, (), bounds.min_goals, bounds.max_goals + 1)
    letters = jax.random.permutation(letter_key, NUM_LETTERS)[: most.max_goals]
    draw = functools.partial(_draw_goal, tables=tables, start=start, allowed=allowed)
    goals, told, fewest = jax.vmap(draw)(jax.random.split(goal_key, most.max_goals))
    goals, told = goals[:, : most.max_constraints], told[:, : most.max_constraints]
    there = (goals != NO_CONSTRAINT) & (jnp.arange(most.max_goals) < number)[:, None]
    named = jnp.concatenate(
        [jnp.broadcast_to(letters[:, None, None], (*goals.shape, 1)), told], axis=2
    )
    order = jnp.arange(goals.size, dtype=jnp.int32)
    if shuffled:
        order = jax.random.permutation(order_key, order)
    order = jnp.argsort(jnp.where(there.reshape(-1), order, goals.size))
    chosen = jax.random.randint(choice_key, (), 0, number)
    return start, Problem(
        told=named.reshape(-1, 4)[order],
        num_told=there.sum(dtype=jnp.int32),
        letter=letters[chosen],
        goal=goals[chosen],
        fewest=fewest[chosen],
    )


def moves_left(tables: Tables, board: Int[Array, ""], goal: Int32[Array, " C"]) -> Int32[Array, ""]:
    """The fewest moves from a board to one that satisfies the goal.

    The board's blocks are renamed so that they lie in order, and the goal's with them.
    """
    there = goal_bits(tables.bits, renamed(goal, tables.places[board]))
    distances = tables.distances[tables.shapes[board]]
    reached = unpacked(there, len(distances))
    return jnp.where(reached, distances, jnp.uint8(UNREACHABLE)).min().astype(jnp.int32)


def _within(bounds: Lesson) -> Any:
    """Which numbers of constraints and moves are within the bounds [7, 8]."""
    constraints, moves = np.indices((MOST_CONSTRAINTS + 1, MOST_MOVES + 1), np.int32)
    return (
        (bounds.min_constraints <= constraints)
        & (constraints <= bounds.max_constraints)
        & (bounds.min_moves <= moves)
        & (moves <= bounds.max_moves)
    )


def _draw_start(
    key: Array, tables: Tables, bounds: Lesson, has_goals: Bool[Array, " S"]
) -> Int32[Array, ""]:
    """A board, each with the same probability among those with its number of blocks."""
    number_key, shape_key, order_key = jax.random.split(key, 3)
    possible = has_goals & (tables.num_blocks >= bounds.min_blocks)
    possible &= tables.num_blocks <= bounds.max_blocks
    numbers = jnp.arange(MOST_BLOCKS + 1, dtype=jnp.int32)
    same = tables.num_blocks[:, None] == numbers[None]
    number = _draw_among(number_key, (same & possible[:, None]).any(axis=0))
    shape = _draw_among(shape_key, possible & (tables.num_blocks == number))
    orders = jnp.asarray(np.cumprod([1, *range(1, MOST_BLOCKS + 1)]), jnp.int32)[number]
    return tables.first_boards[shape] + jax.random.randint(order_key, (), 0, orders)


def _draw_goal(
    key: Array, tables: Tables, start: Int32[Array, ""], allowed: Bool[Array, "S 7 8"]
) -> tuple[Int32[Array, " 6"], Int32[Array, "6 3"], Int32[Array, ""]]:
    """A goal for a start, its constraints in words, and the fewest moves to it."""
    pair_key, goal_key, order_key, wording_key = jax.random.split(key, 4)
    shape = tables.shapes[start]
    pair = _draw_among(pair_key, allowed[shape].reshape(-1))
    drawn, fewest = jnp.divmod(pair, jnp.int32(allowed.shape[2]))
    count = tables.num_goals[shape, drawn, fewest]
    index = tables.first_goals[shape, drawn, fewest] + jax.random.randint(goal_key, (), 0, count)
    goal = tables.goals[index].astype(jnp.int32)
    goal = without_redundant(tables.bits, jax.random.permutation(order_key, goal))
    goal = goal[jnp.argsort(goal == NO_CONSTRAINT)]
    goal = renamed(goal, tables.orders[start])
    wording = jax.random.randint(wording_key, goal.shape, 0, 2)
    told = jnp.asarray(STATEMENTS)[jnp.minimum(goal, NUM_CONSTRAINTS - 1), wording]
    return goal, told, fewest


def _draw_among(key: Array, possible: Bool[Array, " N"]) -> Int32[Array, ""]:
    """The index of a true value; all are equally likely."""
    before = jnp.cumsum(possible, dtype=jnp.int32)
    chosen = jax.random.randint(key, (), 0, before[-1])
    return jnp.argmax(before > chosen).astype(jnp.int32)
