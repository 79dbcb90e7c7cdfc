"""The encoding of all graph tasks: triples of labels as digits, and phases as steps.

A label is an integer from 0 to 999. A triple (source, edge, destination) is nine digits, each
one-hot over 10: 90 channels. A blank label is zeros. Inputs have two more channels: one is 1 at
the first step of each phase after the graph's description, the other at each step of an answer.
Outputs are nine 10-way softmaxes. Source: Nature 2016, Methods, "Graph tasks".
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dncx.tasks.base import Episode

LABELS = 1000
BLANK = -1
TRIPLE_SIZE = 90
INPUT_SIZE = TRIPLE_SIZE + 2
# The reserved pattern that ends an answer, which the paper does not specify. Here source and
# destination are the same node, so that no edge of any graph can be mistaken for it.
END = (LABELS - 1,) * 3


class Steps(NamedTuple):
    """Steps of one sequence; within a phase the steps that exist come first.

    Attributes:
      exist: whether there is such a step.
      shown: labels of the input triple.
      expected: labels of the target triple.
      opens: whether it is the first step of a phase.
      answers: whether it is a step of an answer.
    """

    exist: Bool[Array, " T"]
    shown: Int[Array, "T 3"]
    expected: Int[Array, "T 3"]
    opens: Bool[Array, " T"]
    answers: Bool[Array, " T"]


def encode(labels: Int[Array, "*rows 3"]) -> Float[Array, "*rows 90"]:
    """Triples as one-hot digits; BLANK gives zeros."""
    digits = jnp.stack([labels // 100, labels // 10 % 10, labels % 10], axis=-1)
    digits = jnp.where(labels[..., None] == BLANK, BLANK, digits)
    return jax.nn.one_hot(digits, 10, dtype=jnp.float32).reshape(*labels.shape[:-1], TRIPLE_SIZE)


def decode(channels: Float[Array, "*rows 90"]) -> Int[Array, "*rows 3"]:
    """The most likely digits, as labels."""
    digits = channels.reshape(*channels.shape[:-1], 3, 3, 10).argmax(axis=-1)
    return (100 * digits[..., 0] + 10 * digits[..., 1] + digits[..., 2]).astype(jnp.int32)


def digit_log_probs(outputs: Float[Array, "*rows 90"]) -> Float[Array, "*rows 90"]:
    """log p of each digit, from nine softmaxes."""
    digits = outputs.reshape(*outputs.shape[:-1], 9, 10)
    return jax.nn.log_softmax(digits, axis=-1).reshape(outputs.shape)


def digit_cross_entropy(
    outputs: Float[Array, "B T 90"], targets: Float[Array, "B T 90"], mask: Float[Array, "B T"]
) -> Float[Array, ""]:
    """Nats per sequence: -log p of the nine digits, summed over the steps that count."""
    targets, mask = targets.astype(outputs.dtype), mask.astype(outputs.dtype)
    nats = -(targets * digit_log_probs(outputs)).sum(axis=-1)
    return (nats * mask).sum(axis=-1).mean()


def triple_scores(
    outputs: Float[Array, "B T 90"], targets: Float[Array, "B T 90"], mask: Float[Array, "B T"]
) -> dict[str, Float[Array, ""]]:
    """Shares of sequences with a wrong triple, and of wrong triples among those that count."""
    wrong = (decode(outputs) != decode(targets)).any(axis=-1) & (mask > 0)
    return {
        "sequence_error": wrong.any(axis=-1).astype(jnp.float32).mean(),
        "triple_error": wrong.sum().astype(jnp.float32) / mask.sum(),
    }


def question(shown: Int[Array, "T 3"], count: Int[Array, ""] | int) -> Steps:
    """A phase that shows the first `count` triples."""
    step = jnp.arange(len(shown))
    never = jnp.zeros_like(step, bool)
    return Steps(step < count, shown, jnp.full_like(shown, BLANK), step == 0, never)


def planning(steps: int) -> Steps:
    """A phase without input."""
    return question(jnp.full((steps, 3), BLANK, jnp.int32), steps)


def answer(expected: Int[Array, "T 3"], count: Int[Array, ""] | int) -> Steps:
    """A phase without input, whose targets are the first `count` triples."""
    steps = question(jnp.full_like(expected, BLANK), count)
    return steps._replace(expected=expected, answers=jnp.ones_like(steps.exist))


def sequence(
    key: Array,
    triples: Int[Array, "E 3"],
    exist: Bool[Array, " E"],
    phases: Sequence[Steps],
    extra: Any,
) -> Episode:
    """One sequence, without a batch axis: the triples that exist in random order, then the phases.

    Steps that do not exist are moved to the end as zeros, so that no gap is left between phases.
    """
    description = question(triples, len(triples))
    description = description._replace(exist=exist, opens=jnp.zeros_like(exist))
    steps: Steps = jax.tree.map(lambda *parts: jnp.concatenate(parts), description, *phases)
    later = jnp.arange(len(steps.exist) - len(exist), dtype=jnp.float32) + 1
    place = jnp.concatenate([jax.random.uniform(key, exist.shape, jnp.float32), later])
    order = jnp.argsort(jnp.where(steps.exist, place, jnp.inf))
    steps = jax.tree.map(lambda column: column[order], steps)
    answers = steps.answers & steps.exist
    marks = jnp.stack([steps.opens & steps.exist, answers], axis=-1).astype(jnp.float32)
    return Episode(
        inputs=jnp.concatenate(
            [encode(jnp.where(steps.exist[:, None], steps.shown, BLANK)), marks], axis=-1
        ),
        targets=encode(jnp.where(answers[:, None], steps.expected, BLANK)),
        mask=answers.astype(jnp.float32),
        extra=extra,
    )
