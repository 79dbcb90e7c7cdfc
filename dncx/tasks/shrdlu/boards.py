"""The board of Mini-SHRDLU, three columns of at most three numbered blocks; all boards in tables.

    .  2  .
    .  4  1     blocks fall to the lowest free place of a column
    3  5  6

A board is a shape (the heights of its columns) and an order of the blocks: column by column, each
from the bottom, here 3, 5 4 2, 6 1. Boards are numbered by shape, then by order; blocks, columns
and places count from 0.

A new numbering of the blocks changes no distance. So the fewest moves between any two boards follow
from those that start at boards whose blocks lie in order, one for each shape. With six blocks there
are 7,200 boards and 10 shapes.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np
from jaxtyping import Int, Int8, Int32, UInt8

SIZE = 3  # columns, and places of a column
MOST_BLOCKS = 6
EMPTY = -1
UNREACHABLE = 255  # moves to a board with another number of blocks
MOVES = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))  # actions: (from column, to column)
PASS = len(MOVES)  # the last action
NUM_ACTIONS = len(MOVES) + 1

Heights = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Boards:
    """All boards with min_blocks to max_blocks blocks: B boards of S shapes, as NumPy arrays.

    Attributes:
      num_blocks: the number of blocks in each shape.
      firsts: the first board of each shape, whose blocks lie in order.
      shapes: the shape of each board.
      orders: the block at each place, counted as above; the missing blocks come last.
      places: the place of each block, the inverse of `orders`.
      grids: the block in each cell [column, height], or EMPTY.
      after: the board after each action: the same one after an invalid move and after PASS.
      distances: the fewest moves from the first board of each shape, or UNREACHABLE.
    """

    num_blocks: Int32[np.ndarray, " S"]
    firsts: Int32[np.ndarray, " S"]
    shapes: Int32[np.ndarray, " B"]
    orders: Int32[np.ndarray, "B 6"]
    places: Int32[np.ndarray, "B 6"]
    grids: Int8[np.ndarray, "B 3 3"]
    after: Int32[np.ndarray, "B 7"]
    distances: UInt8[np.ndarray, "S B"]

    def __len__(self) -> int:
        return len(self.shapes)

    def moves_between(self, start: int, end: int) -> int:
        """The fewest moves from one board to another, or UNREACHABLE."""
        first, last = self.shapes[start], self.shapes[end]
        if self.num_blocks[first] != self.num_blocks[last]:
            return UNREACHABLE
        order = self.places[start][self.orders[end]]
        renamed = self.firsts[last] + _ranks(order[None], int(self.num_blocks[last]))[0]
        return int(self.distances[first, renamed])


@functools.cache
def all_boards(min_blocks: int, max_blocks: int) -> Boards:
    """The tables of all boards, computed once per process: 0.1 s for 2 to 6 blocks.

    Raises:
      ValueError: if there can be no such boards.
    """
    if not 1 <= min_blocks <= max_blocks <= MOST_BLOCKS:
        raise ValueError(
            f"boards with {min_blocks} to {max_blocks} blocks: must be 1 to {MOST_BLOCKS}"
        )
    numbers = range(min_blocks, max_blocks + 1)
    heights = [shape for number in numbers for shape in _heights(number)]
    orders = [_orders(sum(shape)) for shape in heights]
    sizes = [len(rows) for rows in orders]
    firsts = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    after = np.concatenate(
        [
            _after(shape, rows, dict(zip(heights, firsts, strict=True)))
            for shape, rows in zip(heights, orders, strict=True)
        ]
    )
    grids = [_grids(shape, rows) for shape, rows in zip(heights, orders, strict=True)]
    everything = np.concatenate(orders)
    return Boards(
        num_blocks=np.array([sum(shape) for shape in heights], np.int32),
        firsts=firsts,
        shapes=np.repeat(np.arange(len(heights), dtype=np.int32), sizes),
        orders=everything,
        places=np.argsort(everything, axis=1).astype(np.int32),
        grids=np.concatenate(grids),
        after=after,
        distances=np.stack([_distances(after, first) for first in firsts.tolist()]),
    )


def _heights(num_blocks: int) -> list[Heights]:
    """The heights of the columns of all shapes."""
    every = itertools.product(range(SIZE + 1), repeat=SIZE)
    return [heights for heights in every if sum(heights) == num_blocks]


def _orders(num_blocks: int) -> Int32[np.ndarray, "orders 6"]:
    """All orders of the blocks, each followed by the missing blocks."""
    rows = np.array(list(itertools.permutations(range(num_blocks))), np.int32)
    missing = np.arange(num_blocks, MOST_BLOCKS, dtype=np.int32)
    return np.concatenate([rows, np.broadcast_to(missing, (len(rows), len(missing)))], axis=1)


def _ranks(orders: Int[np.ndarray, "N 6"], num_blocks: int) -> Int32[np.ndarray, " N"]:
    """The number of each order among all orders of its blocks, which are sorted."""
    smaller = np.triu(orders[:, :, None] > orders[:, None, :]).sum(axis=2)  # blocks behind each
    weights = [math.factorial(max(num_blocks - 1 - place, 0)) for place in range(MOST_BLOCKS)]
    return (smaller @ np.array(weights)).astype(np.int32)


def _grids(heights: Heights, orders: Int32[np.ndarray, "N 6"]) -> Int8[np.ndarray, "N 3 3"]:
    """The cells of the boards of one shape."""
    grids = np.full((len(orders), SIZE, SIZE), EMPTY, np.int8)
    cells = [(column, up) for column in range(SIZE) for up in range(heights[column])]
    for place, (column, up) in enumerate(cells):
        grids[:, column, up] = orders[:, place]
    return grids


def _after(
    heights: Heights, orders: Int32[np.ndarray, "N 6"], firsts: dict[Heights, np.int32]
) -> Int32[np.ndarray, "N 7"]:
    """The boards after each action, from those of one shape."""
    same = firsts[heights] + np.arange(len(orders), dtype=np.int32)
    after = [same] * NUM_ACTIONS
    for action, (source, target) in enumerate(MOVES):
        if heights[source] and heights[target] < SIZE:
            then = list(heights)
            then[source] -= 1
            then[target] += 1
            # The block on top of a column is the last of those up to this column.
            places = list(range(MOST_BLOCKS))
            moved = places.pop(sum(heights[: source + 1]) - 1)
            places.insert(sum(then[: target + 1]) - 1, moved)
            after[action] = firsts[tuple(then)] + _ranks(orders[:, places], sum(heights))
    return np.stack(after, axis=1).astype(np.int32)


def _distances(after: Int32[np.ndarray, "B 7"], start: int) -> UInt8[np.ndarray, " B"]:
    """The fewest moves from one board to each, by breadth-first search."""
    found = np.full(len(after), UNREACHABLE, np.uint8)
    reached = np.array([start])
    for moves in itertools.count():
        if not len(reached):
            return found
        found[reached] = moves
        beyond = np.unique(after[reached])
        reached = beyond[found[beyond] == UNREACHABLE]
    raise AssertionError
