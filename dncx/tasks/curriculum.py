"""Lessons: a task that becomes harder as the network learns."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dncx.tasks.base import Objective, Task

LessonT = TypeVar("LessonT")


class Gate(NamedTuple):
    """The criterion for ending a lesson, and the share of earlier lessons in later ones."""

    score: str  # a name in the task's scores
    at_most: float  # the largest value of that score at which the lesson counts as learned
    every: int  # iterations between checks
    episodes: int  # fresh episodes per check, all from the current lesson
    earlier_share: float = 0.1  # of the training episodes, drawn uniformly from earlier lessons


@runtime_checkable
class Course(Task, Protocol):
    """A task with lessons, numbered from 1. The task itself is the last lesson.

    If it has a field `last_lesson`, `dncx eval` sets it to the lesson that a run has reached.
    """

    @property
    def num_lessons(self) -> int:
        """Number of the last lesson."""
        ...

    @property
    def gate(self) -> Gate:
        """The criterion for the next lesson."""
        ...

    def at_lesson(self, number: int, earlier_share: float = 0.0) -> Task:
        """A lesson as a task, with a share of its episodes from earlier lessons."""
        ...


def lesson_of(task: Objective, number: int, *, mixed: bool = False) -> Objective:
    """A lesson of a task; the task itself if it has no lessons.

    Args:
      task: the task.
      number: the lesson, from 1.
      mixed: whether some episodes are from earlier lessons, as in training.
    """
    if not isinstance(task, Course):
        return task
    return task.at_lesson(number, task.gate.earlier_share if mixed else 0.0)


def draw_lessons(
    key: Array, lessons: Sequence[LessonT], number: int, earlier_share: float, batch_size: int
) -> LessonT:
    """A lesson for each episode of a batch, chosen inside jit.

    Args:
      key: random key of the choices.
      lessons: all lessons, as named tuples of integers.
      number: the current lesson, from 1.
      earlier_share: the share of episodes from earlier lessons, which are equally likely; 0.1 in
        the paper.
      batch_size: number of episodes.

    Returns:
      One named tuple of arrays [batch_size].
    """
    earlier_key, which_key = jax.random.split(key)
    earlier = jax.random.bernoulli(earlier_key, earlier_share, (batch_size,)) & (number > 1)
    which = jax.random.randint(which_key, (batch_size,), 0, max(1, number - 1))
    chosen = jnp.where(earlier, which, number - 1)
    rows: Any = lessons
    columns = zip(*rows, strict=True)
    kind: Any = type(lessons[0])
    return kind(*(jnp.asarray(column)[chosen] for column in columns))
