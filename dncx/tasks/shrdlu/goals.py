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
from dncx.tasks.shrdlu.observations import NUM_LETTERS

_FOR_START, _FOR_GOAL = 3, 2 + 2 * MOST_CONSTRAINTS  # random numbers


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
    *_, inventory = world(bounds.min_blocks, bounds.max_blocks)
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
    # One array of random bits for the whole episode: each further draw takes a second to compile.
    needed = _FOR_START + 2 + NUM_LETTERS + most.max_goals * _FOR_GOAL
    size = most.max_goals * most.max_constraints
    bits = jax.random.bits(key, (needed + size,))
    for_start, for_number, for_letters, for_goals, for_order = jnp.split(
        bits, np.cumsum([_FOR_START, 2, NUM_LETTERS, most.max_goals * _FOR_GOAL])
    )
    allowed = _within(bounds)[None] & (tables.num_goals > 0)
    start = _draw_start(for_start, tables, bounds, allowed.any(axis=(1, 2)))
    number = bounds.min_goals + _below(for_number[0], bounds.max_goals - bounds.min_goals + 1)
    letters = jnp.argsort(for_letters)[: most.max_goals].astype(jnp.int32)
    draw = functools.partial(_draw_goal, tables=tables, start=start, allowed=allowed)
    goals, told, fewest = jax.vmap(draw)(for_goals.reshape(most.max_goals, _FOR_GOAL))
    goals, told = goals[:, : most.max_constraints], told[:, : most.max_constraints]
    there = (goals != NO_CONSTRAINT) & (jnp.arange(most.max_goals) < number)[:, None]
    named = jnp.broadcast_to(letters[:, None, None], (*goals.shape, 1))
    order = for_order >> 1 if shuffled else jnp.arange(size, dtype=jnp.uint32)
    last = jnp.uint32(2**32 - 1)
    order = jnp.argsort(jnp.where(there.reshape(-1), order, last))
    chosen = _below(for_number[1], number)
    return start, Problem(
        told=jnp.concatenate([named, told], axis=2).reshape(-1, 4)[order],
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
    bits: UInt32[Array, " 3"], tables: Tables, bounds: Lesson, has_goals: Bool[Array, " S"]
) -> Int32[Array, ""]:
    """A board, each with the same probability among those with its number of blocks."""
    possible = has_goals & (tables.num_blocks >= bounds.min_blocks)
    possible &= tables.num_blocks <= bounds.max_blocks
    numbers = jnp.arange(MOST_BLOCKS + 1, dtype=jnp.int32)
    same = tables.num_blocks[:, None] == numbers[None]
    number = _draw_among(bits[0], (same & possible[:, None]).any(axis=0))
    shape = _draw_among(bits[1], possible & (tables.num_blocks == number))
    orders = jnp.asarray(np.cumprod([1, *range(1, MOST_BLOCKS + 1)]), jnp.int32)[number]
    return tables.first_boards[shape] + _below(bits[2], orders)


def _draw_goal(
    bits: UInt32[Array, " 14"],
    tables: Tables,
    start: Int32[Array, ""],
    allowed: Bool[Array, "S 7 8"],
) -> tuple[Int32[Array, " 6"], Int32[Array, "6 3"], Int32[Array, ""]]:
    """A goal for a start, its constraints as statements, and the fewest moves to it."""
    shape, for_order, for_wording = tables.shapes[start], bits[2:8], bits[8:]
    pair = _draw_among(bits[0], allowed[shape].reshape(-1))
    drawn, fewest = jnp.divmod(pair, jnp.int32(allowed.shape[2]))
    index = _below(bits[1], tables.num_goals[shape, drawn, fewest])
    goal = tables.goals[tables.first_goals[shape, drawn, fewest] + index].astype(jnp.int32)
    goal = without_redundant(tables.bits, goal[jnp.argsort(for_order)])
    goal = goal[jnp.argsort(goal == NO_CONSTRAINT)]
    goal = renamed(goal, tables.orders[start])
    wording = (for_wording & 1).astype(jnp.int32)
    told = jnp.asarray(STATEMENTS)[jnp.minimum(goal, NUM_CONSTRAINTS - 1), wording]
    return goal, told, fewest


def _below(bits: UInt32[Array, ""], limit: Int[Array, ""] | int) -> Int32[Array, ""]:
    """A number from 0 to limit - 1, at most 2^17: no probability is off by more than 1 in 2^15."""
    return (bits % jnp.asarray(limit, jnp.uint32)).astype(jnp.int32)


def _draw_among(bits: UInt32[Array, ""], possible: Bool[Array, " N"]) -> Int32[Array, ""]:
    """The index of a true value; all are equally likely."""
    before = jnp.cumsum(possible, dtype=jnp.int32)
    return jnp.argmax(before > _below(bits, before[-1])).astype(jnp.int32)
