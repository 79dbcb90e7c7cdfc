"""The lessons of Mini-SHRDLU: Nature 2016, Extended Data Table 6."""

from typing import NamedTuple


class Lesson(NamedTuple):
    """Bounds of the numbers that an episode draws, both included."""

    min_goals: int
    max_goals: int
    min_blocks: int
    max_blocks: int
    min_constraints: int  # drawn for a goal, before some are pruned
    max_constraints: int
    min_moves: int  # that a goal needs
    max_moves: int


LESSONS = (
    Lesson(2, 2, 3, 3, 1, 1, 1, 1),
    Lesson(2, 3, 3, 4, 1, 2, 1, 1),
    Lesson(3, 3, 4, 4, 1, 2, 1, 2),
    Lesson(3, 4, 4, 5, 2, 2, 1, 2),
    Lesson(4, 4, 5, 5, 2, 2, 2, 2),
    # Rows 6 to 10 are not fully legible in our copy of the table. Numbers that could not be read
    # are those that continue the rows around them.
    Lesson(4, 5, 5, 6, 2, 3, 2, 2),
    Lesson(5, 5, 6, 6, 2, 3, 2, 3),
    Lesson(5, 6, 6, 6, 3, 3, 2, 3),
    Lesson(6, 6, 6, 6, 3, 3, 3, 3),
    Lesson(6, 7, 6, 6, 3, 4, 3, 3),
    Lesson(7, 7, 6, 6, 3, 4, 3, 4),
    Lesson(7, 8, 6, 6, 4, 4, 3, 4),
    Lesson(8, 8, 6, 6, 4, 4, 4, 4),
    Lesson(8, 9, 6, 6, 4, 5, 4, 4),
    Lesson(9, 9, 6, 6, 4, 5, 4, 5),
    Lesson(9, 10, 6, 6, 5, 5, 4, 5),
    Lesson(10, 10, 6, 6, 5, 5, 5, 5),
    Lesson(10, 10, 6, 6, 5, 6, 5, 5),
    Lesson(10, 10, 6, 6, 5, 6, 5, 6),
    Lesson(10, 10, 6, 6, 6, 6, 5, 6),
    Lesson(10, 10, 6, 6, 6, 6, 6, 6),
    Lesson(10, 10, 6, 6, 6, 6, 6, 6),  # the table has it twice
    Lesson(10, 10, 6, 6, 6, 6, 6, 7),
    Lesson(10, 10, 6, 6, 6, 6, 6, 7),  # and this one
    Lesson(10, 10, 6, 6, 6, 6, 7, 7),
    Lesson(10, 10, 6, 6, 1, 6, 1, 7),
)
