"""An independent Mini-SHRDLU for the tests: a board is a tuple of columns, each a string."""

import functools

import networkx
import numpy as np

from dncx.tasks.shrdlu.boards import all_boards
from dncx.tasks.shrdlu.constraints import in_words

ACTIONS = ["1>2", "1>3", "2>1", "2>3", "3>1", "3>2", "pass"]


def columns(boards, index):
    """A board of the tables; blocks count from 1: ("3", "542", "61")."""
    return tuple("".join(str(x + 1) for x in column if x >= 0) for column in boards.grids[index])


def numbered(boards):
    """The number of each board in the tables."""
    return {columns(boards, index): index for index in range(len(boards))}


def move(board, action):
    if action == "pass":
        return board
    source, target = int(action[0]) - 1, int(action[2]) - 1
    if not board[source] or len(board[target]) == 3:
        return board
    then = list(board)
    then[target] += then[source][-1]
    then[source] = then[source][:-1]
    return tuple(then)


def statements(board):
    """All that is true of a board, in words."""
    where = {block: (x, y) for x, column in enumerate(board) for y, block in enumerate(column)}
    found = set()
    for a, (x, y) in where.items():
        for b, place in where.items():
            beside = {
                (x, y - 1): "above",
                (x, y + 1): "below",
                (x + 1, y): "left of",
                (x - 1, y): "right of",
            }
            if place in beside:
                found.add(f"{a} {beside[place]} {b}")
    return found


@functools.cache
def ways(min_blocks, max_blocks):
    """The graph of all moves between boards."""
    boards = all_boards(min_blocks, max_blocks)
    found = [columns(boards, index) for index in range(len(boards))]
    graph = networkx.Graph()
    graph.add_nodes_from(found)
    graph.add_edges_from((board, move(board, action)) for board in found for action in ACTIONS)
    return graph


def fewest(graph, board, said):
    """The fewest moves to a board of which all statements are true."""
    distances = networkx.single_source_shortest_path_length(graph, board)
    return min(moves for end, moves in distances.items() if set(said) <= true_of(end))


true_of = functools.cache(statements)


def told(problem):
    """The statements of each goal, by letter, in the order in which they are told."""
    goals = {}
    for letter, *statement in np.asarray(problem.told)[: int(problem.num_told)].tolist():
        goals.setdefault(chr(ord("A") + letter), []).append(in_words(*statement))
    return goals
