"""Constraints: one block lies next to another one. A goal is a set of them.

"3 above 5" and "5 below 3" are one constraint in two wordings, so six blocks have 60 constraints:
30 pairs above each other and 30 side by side. A block is above another one if it lies on it, and
left of another one if it lies at the same height in the column to the left.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, UInt8, UInt32

from dncx.tasks.shrdlu.boards import EMPTY, MOST_BLOCKS, SIZE, Boards

RELATIONS = ("above", "below", "left of", "right of")
CONVERSE = (1, 0, 3, 2)  # of each relation: a above b is b below a
MOST_ADJACENT = 7  # constraints that a board satisfies, at most


def _statements() -> np.ndarray:
    pairs = [(a, b) for a in range(MOST_BLOCKS) for b in range(MOST_BLOCKS) if a != b]
    first = [(a, relation, b) for relation in (0, 2) for a, b in pairs]
    return np.array([[said, (said[2], CONVERSE[said[1]], said[0])] for said in first], np.int32)


# The two wordings of each constraint: (block, relation, block) [constraint, wording, 3].
STATEMENTS = _statements()
NUM_CONSTRAINTS = len(STATEMENTS)
NO_CONSTRAINT = NUM_CONSTRAINTS  # in goals with fewer constraints; every board satisfies it


def _numbers() -> np.ndarray:
    numbers = np.full((len(RELATIONS), MOST_BLOCKS, MOST_BLOCKS), NO_CONSTRAINT, np.int32)
    for number, wordings in enumerate(STATEMENTS):
        for a, relation, b in wordings:
            numbers[relation, a, b] = number
    return numbers


NUMBERS = _numbers()  # the constraint that a statement names [relation, block, block]


class Satisfied(NamedTuple):
    """The boards that satisfy each constraint, in two forms; NumPy arrays.

    Attributes:
      by_board: the constraints that each board satisfies, followed by NO_CONSTRAINT.
      bits: the boards that satisfy each constraint, 32 to a number, the first in the lowest bit;
        the last row, for NO_CONSTRAINT, has all boards.
    """

    by_board: UInt8[np.ndarray, "B 7"]
    bits: UInt32[np.ndarray, "61 words"]


def satisfied(boards: Boards) -> Satisfied:
    """Evaluates all constraints on all boards."""
    grids = boards.grids.astype(np.int32)
    found = np.zeros((len(boards), NUM_CONSTRAINTS + 1), bool)
    for column in range(SIZE):
        for up in range(SIZE):
            cell = grids[:, column, up]
            if up + 1 < SIZE:
                _mark(found, 0, grids[:, column, up + 1], cell)
            if column + 1 < SIZE:
                _mark(found, 2, cell, grids[:, column + 1, up])
    order = np.argsort(~found, axis=1, kind="stable")[:, :MOST_ADJACENT]
    true = np.take_along_axis(found, order, axis=1)
    found[:, NO_CONSTRAINT] = True
    padded = np.pad(found.T, [(0, 0), (0, -len(boards) % 32)]).copy(order="C")
    bits = np.packbits(padded, axis=1, bitorder="little").view("<u4")
    return Satisfied(np.where(true, order, NO_CONSTRAINT).astype(np.uint8), bits.astype(np.uint32))


def _mark(found: np.ndarray, relation: int, a: np.ndarray, b: np.ndarray) -> None:
    """Marks the constraints between the blocks of two cells, on the boards that have both."""
    (both,) = np.nonzero((a != EMPTY) & (b != EMPTY))
    found[both, NUMBERS[relation, a[both], b[both]]] = True


def goal_bits(bits: UInt32[Array, "61 words"], goal: Int[Array, " C"]) -> UInt32[Array, " words"]:
    """The boards that satisfy all constraints of a goal, in the form of `Satisfied.bits`."""
    return functools.reduce(jnp.bitwise_and, [bits[goal[index]] for index in range(len(goal))])


def unpacked(bits: UInt32[Array, " words"], num_boards: int) -> Bool[Array, " B"]:
    """One truth value per board."""
    each = (bits[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None]) & 1
    return each.reshape(-1)[:num_boards] > 0


def without_redundant(
    bits: UInt32[Array, "61 words"], goal: Int32[Array, " C"]
) -> Int32[Array, " C"]:
    """The goal with NO_CONSTRAINT in the place of each redundant constraint.

    A constraint is redundant if the others imply it: the same boards satisfy the goal without it.
    They are tested in their order, each against the others that are left. The paper prunes
    redundant constraints and does not define them.
    """
    whole = goal_bits(bits, goal)
    for index in range(len(goal)):
        rest = goal.at[index].set(NO_CONSTRAINT)
        goal = jnp.where((goal_bits(bits, rest) == whole).all(), rest, goal)
    return goal


def num_satisfied(
    by_board: UInt8[Array, "B 7"], board: Int[Array, ""], goal: Int32[Array, " C"]
) -> Int32[Array, ""]:
    """The number of a goal's constraints that a board satisfies."""
    true = (goal[:, None] == by_board[board].astype(jnp.int32)[None]).any(axis=1)
    return (true & (goal != NO_CONSTRAINT)).sum(dtype=jnp.int32)


def renamed(goal: Int32[Array, " C"], names: Int32[Array, " 6"]) -> Int32[Array, " C"]:
    """A goal for blocks with other numbers; `names` has the new number of each block."""
    a, relation, b = jnp.asarray(STATEMENTS[:, 0].T)[:, jnp.minimum(goal, NUM_CONSTRAINTS - 1)]
    number = jnp.asarray(NUMBERS)[relation, names[a], names[b]]
    return jnp.where(goal == NO_CONSTRAINT, goal, number)


def in_words(block: int, relation: int, other: int) -> str:
    """A statement for people, who count blocks from 1: "3 above 5"."""
    return f"{block + 1} {RELATIONS[relation]} {other + 1}"
