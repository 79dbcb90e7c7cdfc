"""The origins of what is read: how much of a read word was written at each earlier step.

Writing is linear in the write vector: a step adds w vᵀ to the memory and scales what was there by
1 - w eᵀ (and by the retention, if freed content is wiped). So the memory is a sum with one term per
step, and so is a read word. This also holds for blurred weightings, for which no single slot gives
the answer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from dncx.errors import UsageError
from dncx.explore.record import EpisodeTrace

ENDS = (".", "?")  # the signs that end a sentence
# The sum of float32 terms differs from the memory by rounding only, relative to its largest number.
_ROUNDING = 1e-3


class Sentence(NamedTuple):
    """A sentence of a story; the steps of answers belong to no sentence.

    Attributes:
      first, last: its first and last step; the last is the step of the sign that ends it.
      text: its words and its sign.
    """

    first: int
    last: int
    text: str


def read_origins(
    episode: EpisodeTrace, steps: Sequence[int] | None = None
) -> Float32[np.ndarray, "S R T"]:
    """The share of each read word that was written at each step.

    The word r_t that a head reads at step t is the sum of c_s over the steps s, where c_s is the
    part of it that comes from the write of step s. The share of s is c_s · r_t / |r_t|²; the shares
    sum to 1. A share is negative if c_s points away from r_t. If r_t is zero, its shares are 0.

    Args:
      episode: an episode that began with an empty memory.
      steps: the S steps of the reads, in ascending order; None: all.

    Raises:
      ValueError: if the steps are not those of the episode, in ascending order.
      UsageError: if the memory is not the sum of the writes in the trace: it did not start empty,
        or it follows other equations.
    """
    wanted = list(range(episode.num_steps) if steps is None else steps)
    if wanted != sorted(set(wanted) & set(range(episode.num_steps))):
        raise ValueError(
            f"steps={wanted}: must be some of 0 to {episode.num_steps - 1}, in ascending order"
        )
    parts = np.zeros_like(episode.memory)
    shares = np.zeros((len(wanted), episode.num_read_heads, episode.num_steps), np.float32)
    for step in range(1 + max(wanted, default=-1)):
        weights, erase = episode.write_weights[step], episode.erase_vectors[step]
        if episode.retention is not None:
            parts[:step] *= episode.retention[step][:, None]
        parts[:step] *= np.prod(1 - weights[:, :, None] * erase[:, None, :], axis=0)
        parts[step] = weights.T @ episode.write_vectors[step]
        if step in wanted:
            so_far = parts[: step + 1]
            _check_memory(episode, step, so_far.sum(axis=0))
            found = np.einsum(
                "rn,snw,rw->rs", episode.read_weights[step], so_far, episode.read_words[step],
                optimize=True,
            )  # fmt: skip
            shares[wanted.index(step), :, : step + 1] = found / _squares(episode, step)[:, None]
    return shares


def _check_memory(episode: EpisodeTrace, step: int, memory: np.ndarray) -> None:
    if not np.allclose(memory, episode.memory[step], atol=_ROUNDING * np.abs(memory).max()):
        raise UsageError(f"the memory at step {step} is not the sum of the writes so far")


def _squares(episode: EpisodeTrace, steps: Any) -> np.ndarray:
    """The squared lengths of the read words, for a division: at least the smallest float32."""
    squares = (episode.read_words[steps] ** 2).sum(axis=-1)
    return np.maximum(squares, np.finfo(np.float32).tiny)


def all_heads(
    episode: EpisodeTrace, steps: Sequence[int] | None = None
) -> Float32[np.ndarray, "S T"]:
    """The share of each step in what all heads together read at a step.

    Each head is weighted by the squared length of its word. Arguments and errors: see
    `read_origins`.
    """
    shares = read_origins(episode, steps)
    squares = _squares(episode, slice(None) if steps is None else list(steps))
    return np.einsum("tr,trs->ts", squares / squares.sum(axis=1, keepdims=True), shares)


def sentences(episode: EpisodeTrace) -> list[Sentence]:
    """The sentences of a story in words, in order.

    Raises:
      UsageError: if the trace has no words.
    """
    if episode.words is None:
        raise UsageError("this trace has no words, so it has no sentences")
    found, start, said = [], 0, episode.words.inputs
    answers = np.zeros(len(said)) if episode.mask is None else episode.mask
    for step, word in enumerate(said):
        if answers[step]:
            start = step + 1
        elif word in ENDS:
            found.append(Sentence(start, step, " ".join(said[start:step]) + word))
            start = step + 1
    return found


def by_sentence(shares: np.ndarray, story: list[Sentence]) -> np.ndarray:
    """The shares [..., T], summed over the steps of each sentence: [..., sentences]."""
    sums = [shares[..., part.first : part.last + 1].sum(axis=-1) for part in story]
    return np.stack(sums, axis=-1)
