"""Loss, scores and texts of bAbI's episodes, which need only the vocabulary."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int32

from dncx.tasks.babi.settings import AuxiliaryWord
from dncx.tasks.babi.vocabulary import QUESTION, SIGNS, STOP
from dncx.tasks.base import Episode, Words

NUM_TASKS = 20


class Asked(NamedTuple):
    """`Episode.extra` of bAbI."""

    task: Int32[Array, " B"]  # from 1; 0 marks a row without a story
    question: Int32[Array, "B T"]  # its number within the story at steps of answers; else 0


class Tally(NamedTuple):
    """Counts by task (the first is task 1) or by story; counts of batches can be added."""

    questions: Int32[Array, " N"]
    wrong_questions: Int32[Array, " N"]
    words: Int32[Array, " N"]
    wrong_words: Int32[Array, " N"]


class _Line(NamedTuple):
    """A sentence. For a question also the right answer and the model's; otherwise both are ""."""

    sentence: str
    answer: str
    given: str

    def __str__(self) -> str:
        text = f"{self.sentence} = {self.answer}" if self.answer else self.sentence
        return text if self.given == self.answer else f"{text}   WRONG: {self.given}"


class _Lines(NamedTuple):
    """The lines of a story."""

    title: str
    lines: list[_Line]


class BabiScoring:
    """The common part of the task and its buckets.

    With an auxiliary loss, the network has twice as many outputs in training: first those for the
    answers, then those that predict a word of the story at every step: the next one, or the present
    one (as github.com/taewonpark/DAM does at random steps). Only the first are scored, shown and
    saved.

    Attributes:
      auxiliary_word: the word to predict.
    """

    auxiliary_word: AuxiliaryWord

    @property
    def tokens(self) -> tuple[str, ...]:
        """The symbols and words of the inputs and outputs, in order."""
        raise NotImplementedError

    @property
    def auxiliary_weight(self) -> float:
        """The weight of predicting a word at every step; 0: the network does not predict."""
        return 0.0

    @property
    def input_size(self) -> int:
        return len(self.tokens)

    @property
    def output_size(self) -> int:
        return len(self.tokens) * (2 if self.auxiliary_weight else 1)

    @property
    def num_answer_outputs(self) -> int:
        """See `HasAuxiliaryOutputs.num_answer_outputs`."""
        return len(self.tokens)

    @property
    def loss_unit(self) -> str:
        return "nats per story"

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """Softmax cross-entropy, summed over the words of a story's answers; the mean of stories.

        Each word has the same weight, regardless of the number of answers in its story. Rows
        without a story count as stories of loss 0. The auxiliary loss is added: the cross-entropy
        of the predictions, summed over the words of the story. Outputs of a saved model have no
        predictions.
        """
        targets = episode.targets.astype(outputs.dtype)
        nats = optax.losses.softmax_cross_entropy(self._answers(outputs), targets)
        loss = (nats * episode.mask.astype(outputs.dtype)).sum(axis=-1)
        if self.auxiliary_weight and outputs.shape[-1] > self.num_answer_outputs:
            words = episode.inputs.astype(outputs.dtype)  # all zeros after the story
            predicted = outputs[..., self.num_answer_outputs :]
            if self.auxiliary_word == "next":
                words, predicted = words[:, 1:], predicted[:, :-1]
            nats = optax.losses.softmax_cross_entropy(predicted, words)
            loss += self.auxiliary_weight * nats.sum(axis=-1)
        return loss.mean()

    def _answers(self, outputs: Float[Array, "B T O"]) -> Float[Array, "B T words"]:
        return outputs[..., : self.num_answer_outputs]

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Shares of wrong questions and of wrong words; one wrong word makes a question wrong."""
        counts = _count(self._answers(outputs), episode)
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

        return Tally(*map(by_task, _count(self._answers(outputs), episode)))

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The story, one sentence per line, with the right answers and the model's wrong ones."""
        first = next(self._stories(outputs, episode))
        return "\n  ".join([first.title, *map(str, first.lines)])

    def wrong_answers(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> Iterator[tuple[str, str]]:
        """See `ListsWrongAnswers`: the task; the facts before a question, and the question."""
        for title, lines in self._stories(outputs, episode):
            for number, line in enumerate(lines):
                if line.given != line.answer:
                    facts = [before for before in lines[:number] if not before.answer]
                    yield title, "\n  ".join([title, *map(str, [*facts, line])])

    def _stories(self, outputs: Float[Array, "B T O"], episode: Episode) -> Iterator[_Lines]:
        """The stories of a batch, line by line."""
        tasks = np.asarray(episode.extra.task)
        rows = (episode.inputs, episode.targets, episode.mask, self._answers(outputs))
        for task, *row in zip(tasks, *map(np.asarray, rows), strict=True):
            if task:
                yield _Lines(f"task {task}", self._lines(*row))

    def _lines(
        self, inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray, logits: np.ndarray
    ) -> list[_Line]:
        steps = int(inputs.any(axis=-1).sum())
        shown = inputs[:steps].argmax(axis=-1)
        lines, start = [], 0
        for end in np.flatnonzero((shown == STOP) | (shown == QUESTION)):
            sentence = self._spell(shown[start:end], " ") + SIGNS[shown[end]]
            start = end + 1
            while start < steps and mask[start]:
                start += 1
            answer, given = (
                self._spell(rows[end + 1 : start].argmax(axis=-1), ",")
                for rows in (targets, logits)
            )
            lines.append(_Line(sentence, answer, given))
        return lines

    def _spell(self, tokens: np.ndarray, between: str) -> str:
        return between.join(self.tokens[token] for token in tokens)

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """See `Describable.words`: the words of the story, and the answers at their steps."""
        shown = np.any(np.asarray(episode.inputs[0]), axis=-1)
        due = np.asarray(episode.mask[0]) > 0

        def spell(rows: Array, where: np.ndarray) -> tuple[str, ...]:
            tokens = np.asarray(rows[0]).argmax(axis=-1)
            return tuple(
                self.tokens[token] if here else ""
                for token, here in zip(tokens, where, strict=True)
            )

        return Words(
            spell(episode.inputs, shown),
            spell(episode.targets, due),
            spell(self._answers(outputs), due),
        )


def _count(outputs: Float[Array, "B T words"], episode: Episode) -> Tally:
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
    """`Asked.question`: at the steps of answers, the number of "?" before."""
    so_far = jnp.cumsum((tokens == QUESTION).astype(jnp.int32), axis=1)
    return jnp.where(asked, so_far, 0)
