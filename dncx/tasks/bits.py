"""The common part of all tasks with bits: loss, scores, and sequences as lines of bits."""

import math
from typing import ClassVar

import numpy as np
import optax
from jaxtyping import Array, Float

from dncx.tasks.base import Episode, Words

# Added to the number of steps that count, so that an empty mask gives 0; the original's value.
EMPTY_MASK = float(np.finfo(np.float32).eps)


def masked_cross_entropy(
    logits: Float[Array, "B T O"],
    targets: Float[Array, "B T O"],
    mask: Float[Array, "B T"],
    *,
    time_average: bool = False,
    in_bits: bool = False,
) -> Float[Array, ""]:
    """-log p(targets) of independent bits, summed over channels and over the steps of the mask.

    Args:
      logits: log-odds that each bit is 1.
      targets: the bits, 0 or 1.
      mask: 1 where a step counts.
      time_average: divide each sequence's sum by its number of steps that count.
      in_bits: give bits instead of nats.

    Returns:
      The mean over the batch.
    """
    targets, mask = targets.astype(logits.dtype), mask.astype(logits.dtype)
    nats = optax.losses.sigmoid_binary_cross_entropy(logits, targets)
    per_sequence = (nats.sum(axis=-1) * mask).sum(axis=-1)
    if time_average:
        per_sequence = per_sequence / (mask.sum(axis=-1) + EMPTY_MASK)
    mean = per_sequence.mean()
    return mean / math.log(2) if in_bits else mean


class BitScoring:
    """Scores of logits of independent bits: a task with bits, without its sizes and episodes."""

    in_bits: ClassVar[bool] = True  # whether the loss is in bits instead of nats
    about: ClassVar[str] = (
        "In samples, each group of digits is one step, and each digit is one channel (.3 is 0.3). "
        "Targets and outputs are 0 at steps that do not count."
    )

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """Sigmoid cross-entropy, summed over channels and steps; the mean over the batch."""
        return masked_cross_entropy(outputs, episode.targets, episode.mask, in_bits=self.in_bits)

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Shares of wrong bits among the bits that count, and of sequences with a wrong bit."""
        wrong = ((outputs > 0) != (episode.targets > 0.5)) & (episode.mask > 0)[..., None]
        counted = episode.mask.sum() * outputs.shape[-1]
        return {
            "bit_error": wrong.sum().astype(counted.dtype) / counted,
            "sequence_error": wrong.any(axis=(1, 2)).astype(counted.dtype).mean(),
        }

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """One word of bits per step, printed as in the original."""
        steps = int(np.flatnonzero(np.asarray(episode.mask[0]))[-1]) + 1
        names = ("observation", "target", "model output")
        lines = zip(names, _words(outputs, episode), strict=True)
        return "\n".join(f"{name:>13} {' '.join(words[:steps])}" for name, words in lines)

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """See `Describable.words`: bits; "" if there is no input, or the output does not count."""
        shown = np.any(np.asarray(episode.inputs[0]), axis=-1)
        counts = np.asarray(episode.mask[0]) > 0

        def keep(words: list[str], where: np.ndarray) -> tuple[str, ...]:
            return tuple(word if there else "" for word, there in zip(words, where, strict=True))

        inputs, targets, answers = _words(outputs, episode)
        return Words(keep(inputs, shown), keep(targets, counts), keep(answers, counts))


def _words(outputs: Float[Array, "B T O"], episode: Episode) -> list[list[str]]:
    """Inputs, targets and rounded answers of the first sequence, one word per step."""
    inputs, targets, mask, logits = (
        np.asarray(x[0], np.float64)
        for x in (episode.inputs, episode.targets, episode.mask, outputs)
    )
    answers = mask[:, None] * np.heaviside(logits, 0)
    return [[_word(row) for row in array] for array in (inputs, targets, answers)]


def _word(row: np.ndarray) -> str:
    """0 and 1 as digits, other numbers in tenths: '00000.2' is five zeros and 2/10."""
    return "".join(
        f"{value:.0f}" if value in (0, 1) else f"{value:.1f}".lstrip("0") for value in row
    )
