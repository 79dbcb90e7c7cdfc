"""Stories of like length together, so that little of a batch is padding."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int32, UInt8

from dncx.tasks.babi.stories import Story
from dncx.tasks.babi.vocabulary import NOTHING

MOST_LENGTHS = 2048  # their square is kept; the official stories have fewer than 1,400 words


class Stories(NamedTuple):
    """Stories padded to one length; rows without any story have NOTHING at all steps, task 0."""

    task: Int32[Array | np.ndarray, " B"]
    tokens: UInt8[Array | np.ndarray, "B T"]
    answers: UInt8[Array | np.ndarray, "B T"]


def pad(stories: Sequence[Story], width: int, rows: int = 0) -> Stories:
    """The stories as arrays.

    Args:
      stories: none longer than the width.
      width: steps.
      rows: at least this many; those left over are empty.
    """
    shape = (max(rows, len(stories)), width)
    padded = Stories(
        np.zeros(shape[:1], np.int32),
        np.full(shape, NOTHING, np.uint8),
        np.full(shape, NOTHING, np.uint8),
    )
    for row, story in enumerate(stories):
        padded.task[row] = story.task
        padded.tokens[row, : story.length] = story.tokens
        padded.answers[row, : story.length] = story.answers
    return padded


def best_widths(lengths: Sequence[int], count: int) -> tuple[int, ...]:
    """The widths, at most so many and the last the longest, that leave the least padding.

    A dynamic programme over the lengths l₁ < l₂ < .. that occur, nⱼ stories being at most lⱼ long:
    cost(b, j) = minᵢ cost(b - 1, i) + (nⱼ - nᵢ) lⱼ, the steps of the first j in b buckets.
    Lengths beyond MOST_LENGTHS are rounded up so that there are no more than so many.
    """
    sizes = np.asarray(lengths, np.int64)
    coarse = -(-sizes.max() // MOST_LENGTHS)
    sizes = np.minimum(-(-sizes // coarse) * coarse, sizes.max())
    distinct, counts = np.unique(sizes, return_counts=True)
    ends = np.concatenate([[0], distinct])
    up_to = np.concatenate([[0], np.cumsum(counts)])
    steps = ((up_to - up_to[:, None]) * ends).astype(np.float64)  # of one bucket from i to j
    steps[np.tril_indices_from(steps)] = np.inf
    cost = np.where(np.arange(len(ends)) == 0, 0, np.inf)
    befores = []
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
    """The stories of each width: each where it fits most closely, in their order."""
    where = np.searchsorted(widths, [story.length for story in stories])
    shared: list[list[Story]] = [[] for _ in widths]
    for story, bucket in zip(stories, where, strict=True):
        shared[bucket].append(story)
    return shared
