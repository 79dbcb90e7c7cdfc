"""Copy: see a sequence of bits, then repeat it; or do so for a series of sequences.

One sequence with K bits and length L takes 2 L + 1 steps; the next one begins right after it:

    step        0 .. L-1    L           L+1 .. 2L
    inputs      vectors     delimiter   0
    targets     0           0           vectors
    mask        0           0           1

Inputs have K + 1 channels (bits, delimiter), targets K.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.base import Episode
from dncx.tasks.bits import BitScoring
from dncx.tasks.settings import CopySettings, check_counts, check_ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy(CopySettings, BitScoring):
    """The copy task of the Neural Turing Machine, and the Nature paper's series of copies.

    A length is drawn for every sequence of a series. With `num_sequences=10`, 5 vectors each and
    a memory of 10 slots, the network must free what it has recalled (the paper's memory reuse).

    Raises:
      ValueError: if a number is below 1, or a minimum is above its maximum.

    Source: Graves, Wayne, Danihelka 2014, section 4.1; Nature paper, Extended Data Fig. 1.
    """

    def __post_init__(self) -> None:
        check_counts(self)
        check_ranges(self)
        if self.time_steps >= 2**31:
            raise ValueError(
                f"max_length={self.max_length}, num_sequences={self.num_sequences}: a series would "
                f"have {self.time_steps} steps, 2^31 or more"
            )

    @property
    def input_size(self) -> int:
        return self.num_bits + 1

    @property
    def output_size(self) -> int:
        return self.num_bits

    @property
    def loss_unit(self) -> str:
        return "bits per series" if self.num_sequences > 1 else "bits per sequence"

    @property
    def time_steps(self) -> int:
        """Steps of the longest series."""
        return self.num_sequences * (2 * self.max_length + 1)

    @property
    def slots_needed(self) -> int:
        """The vectors of the longest sequence; a sequence can be freed after it was recalled."""
        return self.max_length

    def sample(self, key: Array, batch_size: int) -> Episode:
        """See `Task.sample`."""

        def draw(key: Array) -> Episode:
            bits_key, length_key = jax.random.split(key)
            shape = (self.num_sequences, self.max_length, self.num_bits)
            bits = jax.random.bernoulli(bits_key, 0.5, shape).astype(jnp.float32)
            low, high = self.min_length, self.max_length + 1
            return self.episode(bits, jax.random.randint(length_key, shape[:1], low, high))

        return jax.vmap(draw)(jax.random.split(key, batch_size))

    def episode(self, vectors: Float[Array, "S L K"], lengths: Int[Array, " S"]) -> Episode:
        """One series, without a batch axis; vectors beyond the lengths are not used."""
        step = jnp.arange(self.time_steps)
        ends = jnp.cumsum(2 * lengths + 1)
        sequence = jnp.searchsorted(ends, step, side="right")
        inside = sequence < self.num_sequences
        sequence = jnp.minimum(sequence, self.num_sequences - 1)
        length = lengths[sequence]
        place = step - (ends[sequence] - 2 * length - 1)
        shown, answered = inside & (place < length), inside & (place > length)
        vector = jnp.where(answered, place - length - 1, place)
        rows = vectors[sequence, jnp.clip(vector, 0, self.max_length - 1)]
        delimiter = (inside & (place == length))[:, None].astype(rows.dtype)
        return Episode(
            inputs=jnp.concatenate([jnp.where(shown[:, None], rows, 0), delimiter], axis=-1),
            targets=jnp.where(answered[:, None], rows, 0),
            mask=answered.astype(jnp.float32),
        )
