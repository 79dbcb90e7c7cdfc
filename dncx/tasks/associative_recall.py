"""Associative recall: see a list of items, then one of them again, and return the next item.

With K bits, items of L vectors and n items (n (L + 1) + 2 L + 2 steps):

    step        0           1 .. L       ...   n(L+1)      + 1 .. L      + L+1       + L+2 .. 2L+1
    inputs      delimiter   first item   ...   query mark  queried item  query mark  0
    targets     0           0            ...   0           0             0           the next item
    mask        0           0            ...   0           0             0           1

Inputs have K + 2 channels (bits, delimiter, query mark), targets K.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.base import Episode
from dncx.tasks.bits import BitScoring
from dncx.tasks.settings import AssociativeRecallSettings, check_counts, check_ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssociativeRecall(AssociativeRecallSettings, BitScoring):
    """The associative recall task of the Neural Turing Machine; the last item is never queried.

    Raises:
      ValueError: if a number is below 1, a minimum is above its maximum, or there are fewer than
        two items.

    Source: Graves, Wayne, Danihelka 2014, section 4.3.
    """

    def __post_init__(self) -> None:
        check_counts(self)
        check_ranges(self)
        if self.min_items < 2:
            raise ValueError(
                f"min_items={self.min_items}: must be at least 2, as the answer is the next item"
            )
        if self.time_steps >= 2**31:
            raise ValueError(
                f"max_items={self.max_items}, item_length={self.item_length}: sequences would have "
                f"{self.time_steps} steps, 2^31 or more"
            )

    @property
    def input_size(self) -> int:
        return self.num_bits + 2

    @property
    def output_size(self) -> int:
        return self.num_bits

    @property
    def loss_unit(self) -> str:
        return "bits per sequence"

    @property
    def time_steps(self) -> int:
        """Steps of the longest sequence."""
        return self.max_items * (self.item_length + 1) + 2 * self.item_length + 2

    @property
    def slots_needed(self) -> int:
        """The vectors of the longest list."""
        return self.max_items * self.item_length

    def sample(self, key: Array, batch_size: int) -> Episode:
        """See `Task.sample`."""

        def draw(key: Array) -> Episode:
            bits_key, count_key, query_key = jax.random.split(key, 3)
            shape = (self.max_items, self.item_length, self.num_bits)
            items = jax.random.bernoulli(bits_key, 0.5, shape).astype(jnp.float32)
            count = jax.random.randint(count_key, (), self.min_items, self.max_items + 1)
            return self.episode(items, count, jax.random.randint(query_key, (), 0, count - 1))

        return jax.vmap(draw)(jax.random.split(key, batch_size))

    def episode(
        self, items: Float[Array, "I L K"], count: Int[Array, ""], queried: Int[Array, ""]
    ) -> Episode:
        """One sequence, without a batch axis; only the first `count` items are used."""
        step = jnp.arange(self.time_steps)
        part, place = step // (self.item_length + 1), step % (self.item_length + 1)
        mark, vector = place == 0, jnp.maximum(place - 1, 0)
        shown, query, answer = part < count, part == count, part == count + 1
        which = jnp.where(shown, part, jnp.where(query, queried, queried + 1))
        rows = items[jnp.clip(which, 0, self.max_items - 1), vector]
        seen, answered = (shown | query) & ~mark, answer & ~mark
        marks = jnp.stack([shown & mark, (query | answer) & mark], axis=-1)
        return Episode(
            inputs=jnp.concatenate(
                [jnp.where(seen[:, None], rows, 0), marks.astype(rows.dtype)], axis=-1
            ),
            targets=jnp.where(answered[:, None], rows, 0),
            mask=answered.astype(jnp.float32),
        )
