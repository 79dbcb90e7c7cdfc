"""The question answering task of the paper (Graves et al. 2016, Methods).

A story is one sequence, with one word or symbol per step, one-hot over the vocabulary (the paper's
has 159 tokens). A question's "?" is followed by one "-" for each word of its answer; only there the
network must answer. `stories` describes the encoding, `files` the source of the data.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.babi.buckets import Stories, best_widths, pad, share_out
from dncx.tasks.babi.data import Data, Split, load
from dncx.tasks.babi.report import results, table
from dncx.tasks.babi.scoring import Asked, BabiScoring, Tally, numbers_of_questions
from dncx.tasks.babi.settings import AuxiliaryWord, BabiSettings
from dncx.tasks.babi.stories import Story
from dncx.tasks.babi.vocabulary import NOTHING, tokens_of
from dncx.tasks.base import Episode

# The probability of a task is proportional to its number of stories to this power. In en-10k, tasks
# 4, 16 and 19 have 9,000 training stories each, most others 1,800. These three tasks together get
# about half of the draws, 30 % with "mixed", and 15 % with "uniform".
POWERS = {"stories": 1.0, "mixed": 0.5, "uniform": 0.0}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bucket(BabiScoring):
    """Training stories padded to one length, as a task.

    Attributes:
      stories: all of one length.
      vocabulary: see `BabiScoring.tokens`.
      chances: relative probability of each story; None: all are equally likely.
      auxiliary_loss: see `BabiScoring.auxiliary_weight`.
      auxiliary_word: see `BabiSettings`.
    """

    stories: Stories
    vocabulary: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    auxiliary_loss: float = dataclasses.field(default=0.0, metadata={"static": True})
    auxiliary_word: AuxiliaryWord = dataclasses.field(default="next", metadata={"static": True})
    chances: Any = None  # Float[Array, " B"] | None; jax.jit also makes trees of other leaves

    @property
    def tokens(self) -> tuple[str, ...]:
        """See `BabiScoring.tokens`."""
        return self.vocabulary

    @property
    def auxiliary_weight(self) -> float:
        """See `BabiScoring.auxiliary_weight`."""
        return self.auxiliary_loss

    def sample(self, key: Array, batch_size: int) -> Episode:
        """Stories drawn by their probabilities, with replacement."""
        index = self._drawn(key, batch_size)
        chosen = jax.tree.map(lambda array: array[index], self.stories)
        return episode_of(chosen, self.input_size)

    def _drawn(self, key: Array, number: int) -> Int[Array, " number"]:
        count = self.stories.task.shape[0]
        if self.chances is None:
            return jax.random.randint(key, (number,), 0, count)
        return jax.random.choice(key, count, (number,), p=self.chances / self.chances.sum())


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

    With `vocabulary="data"`, `vocabulary_words` are taken from the data unless they are given.

    Raises:
      ValueError: if a setting is out of range, or the data are missing, incomplete or malformed.

    Source: Graves et al. 2016; the data: Weston et al. 2015, arXiv:1502.05698.
    """

    def __post_init__(self) -> None:
        if self.vocabulary == "data":
            object.__setattr__(self, "vocabulary_words", self.data.words)
        else:
            _ = self.data

    @functools.cached_property
    def data(self) -> Data:
        """The stories, and the missing files."""
        return load(self)

    @property
    def tokens(self) -> tuple[str, ...]:
        """See `BabiScoring.tokens`."""
        return self._tokens

    @property
    def auxiliary_weight(self) -> float:
        """See `BabiScoring.auxiliary_weight`."""
        return self.auxiliary_loss

    @functools.cached_property
    def _tokens(self) -> tuple[str, ...]:
        return tokens_of(self.data.words)

    @functools.cached_property
    def widths(self) -> tuple[int, ...]:
        """Steps of each bucket, with the least padding in training; the last fits every story.

        With `longest`, stories that are longer than those in training get one more bucket.
        """
        stories = self.data.splits["train"]
        widths = best_widths(
            [story.length for story in stories], self.num_buckets, self._chances(stories)
        )
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
    def _chance_by_task(self) -> dict[int, float]:
        """Relative probability of each story of a task; a task has (its stories)^power in total."""
        counts = Counter(story.task for story in self.data.splits["train"])
        power = POWERS[self.task_sampling]
        return {task: count ** (power - 1) for task, count in counts.items()}

    def _chances(self, stories: Sequence[Story]) -> list[float]:
        return [self._chance_by_task[story.task] for story in stories]

    @functools.cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """See `Bucketed.buckets`: the stories for training."""
        equal = self.task_sampling == "stories"
        return tuple(
            Bucket(
                stories=jax.tree.map(jnp.asarray, pad(stories, width)),
                vocabulary=self.tokens,
                auxiliary_loss=self.auxiliary_loss,
                auxiliary_word=self.auxiliary_word,
                chances=None if equal else jnp.asarray(self._chances(stories), jnp.float32),
            )
            for width, stories in self.in_buckets("train")
        )

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """See `Bucketed.shares`."""
        total = sum(self._chances(self.data.splits["train"]))
        return tuple(sum(self._chances(stories)) / total for _, stories in self.in_buckets("train"))

    @functools.cached_property
    def padding(self) -> float:
        """Share of training steps that come after the end of a story."""
        pairs = [
            (width, story, self._chance_by_task[story.task])
            for width, stories in self.in_buckets("train")
            for story in stories
        ]
        steps = sum(width * chance for width, _, chance in pairs)
        return 1 - sum(story.length * chance for _, story, chance in pairs) / steps

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
