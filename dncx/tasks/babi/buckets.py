"""Buckets of stories with similar lengths, so that batches contain little padding."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int16, Int32

from dncx.tasks.babi.stories import Story
from dncx.tasks.babi.vocabulary import NOTHING

# The search below keeps a table of this size squared. Official stories have at most 1,400 words.
MOST_LENGTHS = 2048


class Stories(NamedTuple):
    """Stories padded to one length; a row without a story has task 0 and NOTHING at all steps."""

    task: Int32[Array | np.ndarray, " B"]
    tokens: Int16[Array | np.ndarray, "B T"]
    answers: Int16[Array | np.ndarray, "B T"]


def pad(stories: Sequence[Story], width: int, rows: int = 0) -> Stories:
    """The stories as arrays.

    Args:
      stories: stories that are at most as long as the width.
      width: number of steps.
      rows: number of rows, if there are fewer stories; the remaining rows are empty.
    """
    shape = (max(rows, len(stories)), width)
    padded = Stories(
        np.zeros(shape[:1], np.int32),
        np.full(shape, NOTHING, np.int16),
        np.full(shape, NOTHING, np.int16),
    )
    for row, story in enumerate(stories):
        padded.task[row] = story.task
        padded.tokens[row, : story.length] = story.tokens
        padded.answers[row, : story.length] = story.answers
    return padded


def best_widths(
    lengths: Sequence[int], count: int, weights: Sequence[float] | None = None
) -> tuple[int, ...]:
    """The at most `count` widths that need the least padding; the last is the longest length.

    This is a dynamic programme over the distinct lengths l₁ < l₂ < ..., where nⱼ stories are at
    most lⱼ long: cost(b, j) = minᵢ cost(b - 1, i) + (nⱼ - nᵢ) lⱼ is the least number of steps of
    the stories up to lⱼ in b buckets. If there are more than MOST_LENGTHS distinct lengths, they
    are rounded up.

    Args:
      lengths: the lengths of the stories.
      count: number of widths.
      weights: the relative frequency of each story; by default all are equal.
    """
    sizes = np.asarray(lengths, np.int64)
    coarse = -(-sizes.max() // MOST_LENGTHS)
    sizes = np.minimum(-(-sizes // coarse) * coarse, sizes.max())
    distinct, which = np.unique(sizes, return_inverse=True)
    counts = np.bincount(which, weights)
    ends = np.concatenate([[0], distinct])
    up_to = np.concatenate([[0], np.cumsum(counts)])
    steps = ((up_to - up_to[:, None]) * ends).astype(np.float64)  # of one bucket from i to j
    steps[np.tril_indices_from(steps)] = np.inf
    cost = np.where(np.arange(len(ends)) == 0, 0, np.inf)
    befores = []  # for each number of buckets and each end of the last one, where it begins
    for _ in range(min(count, len(distinct))):
        total = cost[:, None] + steps
        befores.append(total.argmin(axis=0))
        cost = total.min(axis=0)
    widths, end = [], len(ends) - 1
    for before in reversed(befores):
        widths.append(int(ends[end]))
        end = before[end]
    return tuple(reversed(widths))


def share_out(stories: Sequence[Story], widths: Sequence[int]) -> list[list[Story]]:
    """The stories of each width, in their order; each story gets the smallest width that fits."""
    where = np.searchsorted(widths, [story.length for story in stories])
    shared: list[list[Story]] = [[] for _ in widths]
    for story, bucket in zip(stories, where, strict=True):
        shared[bucket].append(story)
    return shared
