"""All goals that can be drawn, by the board from which they start; tables computed with NumPy.

A goal is drawn as in the paper: a board some moves away from the start, and some of the constraints
that this board satisfies. Constraints that the start satisfies are pruned. A draw counts only if no
board that is nearer to the start satisfies what is left, so the goal needs exactly these moves.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int32, UInt8

from dncx.tasks.shrdlu.boards import Boards, all_boards
from dncx.tasks.shrdlu.constraints import (
    MOST_ADJACENT,
    NO_CONSTRAINT,
    Satisfied,
    satisfied,
)

MOST_CONSTRAINTS = 6  # drawn for a goal
MOST_MOVES = 7  # that a goal may need

_SUBSETS = np.arange(2**MOST_ADJACENT)  # of a board's constraints, as bits
_MEMBERS = (_SUBSETS[:, None] >> np.arange(MOST_ADJACENT) & 1).astype(bool)
_SIZES = _MEMBERS.sum(axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Inventory:
    """The goals of the first board of each shape; other boards rename the blocks.

    Attributes:
      goals: the constraints of each goal that the start does not satisfy, then NO_CONSTRAINT.
      firsts: the first goal for a shape, a number of constraints drawn, and a number of moves, both
        counted from 0.
      counts: the number of such goals; they follow each other.
    """

    goals: UInt8[np.ndarray, "N 6"]
    firsts: Int32[np.ndarray, "S 7 8"]
    counts: Int32[np.ndarray, "S 7 8"]


@functools.cache
def world(min_blocks: int, max_blocks: int) -> tuple[Boards, Satisfied, Inventory]:
    """The tables for these numbers of blocks, computed once per process."""
    boards = all_boards(min_blocks, max_blocks)
    true = satisfied(boards)
    return boards, true, _inventory(boards, true)


def _inventory(boards: Boards, true: Satisfied) -> Inventory:
    shape = len(boards.firsts), MOST_CONSTRAINTS + 1, MOST_MOVES + 1
    found = [_goals_of(boards, true, start) for start in range(shape[0])]
    counts = np.zeros(shape, np.int32)
    for start, (_, drawn, moves) in enumerate(found):
        np.add.at(counts[start], (drawn, moves), 1)
    firsts = np.cumsum(counts.reshape(-1)) - counts.reshape(-1)
    goals = [rows[np.lexsort((moves, drawn))] for rows, drawn, moves in found]
    return Inventory(np.concatenate(goals), firsts.reshape(shape).astype(np.int32), counts)


def _goals_of(
    boards: Boards, true: Satisfied, start: int
) -> tuple[UInt8[np.ndarray, "N 6"], Int32[np.ndarray, " N"], Int32[np.ndarray, " N"]]:
    """The goals of one shape's first board, with the numbers of constraints drawn and of moves."""
    distances = boards.distances[start].astype(np.int32)
    (near,) = np.nonzero(distances <= MOST_MOVES)
    near = near[np.argsort(distances[near], kind="stable")]
    facts = true.by_board[near].astype(np.int32)
    exist = facts != NO_CONSTRAINT
    new = exist & ~np.isin(facts, facts[0])  # the nearest board is the start
    values = np.where(new, np.left_shift(np.uint64(1), facts.astype(np.uint64)), np.uint64(0))
    # Each subset of a board's constraints as a set of 60 bits, without those true at the start.
    keys = np.zeros((len(near), 1), np.uint64)
    for each in values.T:
        keys = np.concatenate([keys, keys | each[:, None]], axis=1)
    board, subset = np.nonzero((2 ** exist.sum(axis=1)[:, None] > _SUBSETS) & (keys > 0))
    # The boards are sorted, so the first one to have a set is the nearest that satisfies it.
    _, earliest, which = np.unique(keys[board, subset], return_index=True, return_inverse=True)
    moves = distances[near][board]
    usable = (moves[earliest][which] == moves) & (_SIZES[subset] <= MOST_CONSTRAINTS)
    board, subset, moves = board[usable], subset[usable], moves[usable]
    told = new[board] & _MEMBERS[subset]
    order = np.argsort(~told, axis=1, kind="stable")[:, :MOST_CONSTRAINTS]
    goals = np.where(told, facts[board], NO_CONSTRAINT)
    return (
        np.take_along_axis(goals, order, axis=1).astype(np.uint8),
        _SIZES[subset].astype(np.int32),
        moves,
    )
