"""Which answers are right; the same for a batch of any length."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int32

from dncx.tasks.babi.vocabulary import QUESTION, SLOT, TOKENS
from dncx.tasks.base import Episode, Words

NUM_TASKS = 20


class Asked(NamedTuple):
    """`Episode.extra` of bAbI."""

    task: Int32[Array, " B"]  # from 1; 0 is a row without a story
    question: Int32[
        Array, "B T"
    ]  # its number within the story, from 1, where an answer is due; else 0


class Tally(NamedTuple):
    """Counts, by task (the first is task 1) or by story; add those of batches."""

    questions: Int32[Array, " N"]
    wrong_questions: Int32[Array, " N"]
    words: Int32[Array, " N"]
    wrong_words: Int32[Array, " N"]


class Judge:
    """The part of the task that needs no data."""

    @property
    def input_size(self) -> int:
        return len(TOKENS)

    @property
    def output_size(self) -> int:
        return len(TOKENS)

    @property
    def loss_unit(self) -> str:
        return "nats per story"

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """Softmax cross-entropy, summed over the words of a story's answers: the mean of stories.

        Each word weighs the same, however many its story asks for. Rows without a story count as
        stories of loss 0.
        """
        targets = episode.targets.astype(outputs.dtype)
        nats = optax.losses.softmax_cross_entropy(outputs, targets)
        return (nats * episode.mask.astype(outputs.dtype)).sum(axis=-1).mean()

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Shares of wrong questions (a question with a wrong word is wrong) and wrong words."""
        counts = _count(outputs, episode)
        questions, wrong_questions, words, wrong_words = (
            count.sum().astype(jnp.float32) for count in counts
        )
        return {
            "question_error": wrong_questions / jnp.maximum(questions, 1),
            "word_error": wrong_words / jnp.maximum(words, 1),
        }

    def tally(self, outputs: Float[Array, "B T O"], episode: Episode) -> Tally:
        """Counts of each of the 20 tasks."""

        def by_task(counts: Int32[Array, " B"]) -> Int32[Array, " 20"]:
            task = episode.extra.task
            return jax.ops.segment_sum(counts, task, num_segments=NUM_TASKS + 1)[1:]

        return Tally(*map(by_task, _count(outputs, episode)))

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The story a sentence a line; answers after "=", and the model's where it is another."""
        inputs, targets, mask, logits = (
            np.asarray(x[0], np.float32)
            for x in (episode.inputs, episode.targets, episode.mask, outputs)
        )
        steps = int(inputs.any(axis=-1).sum())
        lines, words = [f"task {int(episode.extra.task[0])}"], []
        for token in range(steps):
            if inputs[token].argmax() == SLOT:
                continue
            words.append(TOKENS[inputs[token].argmax()])
            if words[-1] not in (".", "?"):
                continue
            sentence = " ".join(words[:-1]) + words[-1]
            words.clear()
            end = token + 1
            while end < steps and mask[end]:
                end += 1
            answers, given = (
                ",".join(TOKENS[i] for i in array[token + 1 : end].argmax(axis=-1))
                for array in (targets, logits)
            )
            if answers:
                sentence += f" = {answers}"
            if given != answers:
                sentence += f"   WRONG: {given}"
            lines.append(sentence)
        return "\n  ".join(lines)

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """See `Spoken.words`: the story's words, and answers where they are due."""
        shown = np.any(np.asarray(episode.inputs[0]), axis=-1)
        due = np.asarray(episode.mask[0]) > 0

        def say(rows: Array, where: np.ndarray) -> tuple[str, ...]:
            tokens = np.asarray(rows[0]).argmax(axis=-1)
            return tuple(TOKENS[t] if said else "" for t, said in zip(tokens, where, strict=True))

        return Words(say(episode.inputs, shown), say(episode.targets, due), say(outputs, due))


def _count(outputs: Float[Array, "B T O"], episode: Episode) -> Tally:
    """Counts of each story."""
    right = outputs.argmax(axis=-1) == episode.targets.argmax(axis=-1)
    asked = episode.mask > 0
    wrong = (asked & ~right).astype(jnp.int32)
    question = episode.extra.question

    def of_questions(wrong: Int32[Array, " T"], question: Int32[Array, " T"]) -> Array:
        return jax.ops.segment_sum(wrong, question, num_segments=question.shape[0] + 1)

    return Tally(
        questions=question.max(axis=1),
        wrong_questions=(jax.vmap(of_questions)(wrong, question) > 0).sum(axis=1, dtype=jnp.int32),
        words=asked.sum(axis=1, dtype=jnp.int32),
        wrong_words=wrong.sum(axis=1, dtype=jnp.int32),
    )


def numbers_of_questions(
    tokens: Int32[Array, "B T"], asked: Bool[Array, "B T"]
) -> Int32[Array, "B T"]:
    """`Asked.question`: how many "?" came before, at the steps of answers."""
    so_far = jnp.cumsum((tokens == QUESTION).astype(jnp.int32), axis=1)
    return jnp.where(asked, so_far, 0)
