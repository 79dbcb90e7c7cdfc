"""The question answering task of the paper (Graves et al. 2016, Methods).

A story is one sequence, a word or sign a step, one-hot over the vocabulary (the paper's has 159
tokens). A question's "?" is followed by one "-" for each word of its answer; an answer is due there
and nowhere else. `stories` describes the encoding, `files` where the data come from.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dncx.tasks.babi.buckets import Stories, best_widths, pad, share_out
from dncx.tasks.babi.data import Data, Split, load
from dncx.tasks.babi.report import results, table
from dncx.tasks.babi.scoring import Asked, BabiScoring, Tally, numbers_of_questions
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.babi.stories import Story
from dncx.tasks.babi.vocabulary import NOTHING, tokens_of
from dncx.tasks.base import Episode


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bucket(BabiScoring):
    """Training stories padded to one length, as a task."""

    stories: Stories
    vocabulary: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    @property
    def tokens(self) -> tuple[str, ...]:
        """See `BabiScoring.tokens`."""
        return self.vocabulary

    def sample(self, key: Array, batch_size: int) -> Episode:
        """Stories drawn uniformly, with replacement."""
        count = self.stories.task.shape[0]
        index = jax.random.randint(key, (batch_size,), 0, count)
        chosen = jax.tree.map(lambda array: array[index], self.stories)
        return episode_of(chosen, self.input_size)


def episode_of(stories: Stories, size: int) -> Episode:
    """The stories as sequences of one-hot vectors of `size` numbers."""
    asked = jnp.asarray(stories.answers) != NOTHING
    tokens = jnp.asarray(stories.tokens, jnp.int32)
    return Episode(
        inputs=jax.nn.one_hot(tokens, size, dtype=jnp.float32),
        targets=jax.nn.one_hot(stories.answers, size, dtype=jnp.float32),
        mask=asked.astype(jnp.float32),
        extra=Asked(jnp.asarray(stories.task), numbers_of_questions(tokens, asked)),
    )


_episode_of = jax.jit(episode_of, static_argnums=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Babi(BabiSettings, BabiScoring):
    """The joint task; the arguments are `BabiSettings`. All data are read at once.

    With `vocabulary="data"`, `vocabulary_words` are those of the data unless they are given.

    Raises:
      ValueError: if a setting is out of its range, or the data are missing, incomplete or
        malformed.

    Source: Graves et al. 2016; the data: Weston et al. 2015, arXiv:1502.05698.
    """

    def __post_init__(self) -> None:
        if self.vocabulary == "data":
            object.__setattr__(self, "vocabulary_words", self.data.words)
        else:
            _ = self.data

    @functools.cached_property
    def data(self) -> Data:
        """The stories, and what is missing."""
        return load(self)

    @property
    def tokens(self) -> tuple[str, ...]:
        """See `BabiScoring.tokens`."""
        return self._tokens

    @functools.cached_property
    def _tokens(self) -> tuple[str, ...]:
        return tokens_of(self.data.words)

    @functools.cached_property
    def widths(self) -> tuple[int, ...]:
        """Steps of each bucket: those that pad training least, the last as long as any story.

        With `longest`, the stories that are longer than those of training get one more bucket.
        """
        widths = best_widths([s.length for s in self.data.splits["train"]], self.num_buckets)
        longest = max(story.length for split in self.data.splits.values() for story in split)
        if longest == widths[-1]:
            return widths
        return (*(widths if self.longest else widths[:-1]), longest)

    def in_buckets(self, split: Split) -> tuple[tuple[int, list[Story]], ...]:
        """(steps, stories) of each bucket that is not empty."""
        shared = share_out(self.data.splits[split], self.widths)
        pairs = zip(self.widths, shared, strict=True)
        return tuple((width, stories) for width, stories in pairs if stories)

    @functools.cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """See `Bucketed.buckets`: the stories for training."""
        return tuple(
            Bucket(stories=jax.tree.map(jnp.asarray, pad(stories, width)), vocabulary=self.tokens)
            for width, stories in self.in_buckets("train")
        )

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """See `Bucketed.shares`."""
        total = len(self.data.splits["train"])
        return tuple(len(stories) / total for _, stories in self.in_buckets("train"))

    @functools.cached_property
    def padding(self) -> float:
        """Share of the steps of training that come after the end of a story."""
        pairs = self.in_buckets("train")
        steps = sum(width * len(stories) for width, stories in pairs)
        return 1 - sum(story.length for _, stories in pairs for story in stories) / steps

    def episodes(self, split: Split, batch_size: int) -> Iterator[Episode]:
        """Every story of a split once; the last batch of a bucket is filled with empty rows."""
        for width, stories in self.in_buckets(split):
            for start in range(0, len(stories), batch_size):
                batch = stories[start : start + batch_size]
                stacked = jax.tree.map(jnp.asarray, pad(batch, width, batch_size))
                yield _episode_of(stacked, self.input_size)

    def results(self, tally: Tally) -> dict[str, Any]:
        """See `HasEvalSplits.results`: errors by task in per cent, with those of the paper."""
        return results(tally, self.data.gaps, self.notes)

    def report(self, results: dict[str, Any]) -> str:
        """See `HasEvalSplits.report`."""
        return table(results)

    @property
    def about(self) -> str:
        """A summary of the training data."""
        count, lengths = len(self.data.splits["train"]), len(self.buckets)
        line = (
            f"{count:,} training stories of {len(self.data.words)} different words, in {lengths} "
            f"lengths: {self.padding:.1%} padding"
        )
        return "\n".join([line, *self.notes])

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks about the data that belong to every result."""
        notes = [f"incomplete: {gap}" for gap in self.data.gaps]
        if self.data.left_out:
            notes.append(
                f"{self.data.left_out:,} training stories of more than {self.longest:,} words are "
                f"left out, {len(self.data.splits['train']):,} are kept"
            )
        return tuple(notes)
