"""The lessons of the graph tasks: Nature 2016, Extended Data Tables 3 to 5."""

from typing import NamedTuple


class Lesson(NamedTuple):
    """Bounds of the numbers that an episode draws, both included.

    In a graph with at most `max_degree` nodes, the largest out-degree is the number of the other
    nodes (lessons that begin with 3 or 4 nodes).
    """

    min_nodes: int
    max_nodes: int
    min_degree: int
    max_degree: int
    min_length: int
    max_length: int


TRAVERSAL = (
    Lesson(3, 10, 2, 4, 1, 1),
    Lesson(3, 10, 2, 4, 1, 2),
    Lesson(5, 10, 2, 4, 1, 3),
    Lesson(5, 10, 2, 4, 1, 4),
    Lesson(10, 15, 2, 4, 1, 4),
    Lesson(10, 15, 2, 4, 1, 5),
    Lesson(10, 20, 2, 4, 1, 5),
    Lesson(10, 20, 2, 4, 1, 6),
    Lesson(10, 30, 2, 4, 1, 6),
    Lesson(10, 30, 2, 4, 1, 7),
    Lesson(10, 30, 2, 4, 1, 8),
    Lesson(10, 30, 2, 4, 1, 9),
    Lesson(10, 40, 2, 6, 1, 10),
    Lesson(10, 40, 2, 6, 1, 20),
)
INFERENCE = (
    Lesson(3, 3, 2, 2, 2, 2),
    Lesson(3, 5, 2, 2, 2, 2),
    Lesson(4, 6, 2, 4, 2, 2),
    Lesson(4, 6, 2, 4, 2, 2),  # the table has it twice
    Lesson(6, 12, 2, 4, 2, 2),
    Lesson(12, 18, 2, 4, 2, 2),
    Lesson(4, 6, 2, 4, 2, 3),
    Lesson(6, 12, 2, 4, 2, 3),
    Lesson(12, 18, 2, 4, 2, 3),
    Lesson(4, 6, 2, 4, 2, 4),
    Lesson(4, 6, 2, 4, 2, 4),  # and this one
    Lesson(6, 12, 2, 4, 2, 4),
    Lesson(12, 18, 2, 4, 2, 4),
    Lesson(4, 6, 2, 4, 2, 5),
    Lesson(6, 12, 2, 4, 2, 5),
    Lesson(12, 18, 2, 4, 2, 5),
    Lesson(20, 25, 2, 4, 2, 5),
)
SHORTEST_PATH = (
    Lesson(5, 10, 1, 2, 2, 2),
    Lesson(5, 20, 1, 2, 2, 2),
    Lesson(10, 20, 1, 2, 2, 2),
    Lesson(10, 20, 1, 2, 2, 3),
    Lesson(10, 20, 1, 3, 2, 3),
    Lesson(10, 20, 2, 3, 2, 3),
    Lesson(10, 20, 2, 3, 2, 4),
    Lesson(10, 20, 2, 4, 2, 4),
    Lesson(10, 25, 2, 4, 2, 4),
    Lesson(10, 25, 2, 4, 2, 5),
    Lesson(10, 25, 2, 4, 2, 5),  # the table has it twice
    Lesson(15, 25, 2, 4, 2, 5),
    Lesson(15, 25, 2, 5, 2, 5),
    Lesson(20, 25, 2, 5, 2, 5),
    Lesson(20, 25, 2, 6, 2, 5),
)
