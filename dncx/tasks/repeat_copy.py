"""Repeat copy: see a pattern of bits and a number, then repeat the pattern that number of times.

The sequence of one example, with K bits, pattern length L and r repeats (L (r + 1) + 3 steps):

    step        0        1..L      L+1       L+2 .. L+1+Lr     L+2+Lr
    inputs      start    pattern   r/10      0                 0
    targets     0        0         0         pattern, r times  end
    mask        0        0         0         1                 1

Inputs have K + 2 channels (bits, start marker, number), targets K + 1 (bits, end marker).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.base import Episode
from dncx.tasks.bits import BitScoring
from dncx.tasks.settings import RepeatCopySettings, check_counts, check_ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatCopy(RepeatCopySettings, BitScoring):
    """The original's task, drawn on the device; the arguments are `RepeatCopySettings`.

    Lengths, repeats and bits (fair coins) are drawn for every sequence; all batches are padded
    with zeros to `time_steps`.

    Raises:
      ValueError: if a number is below 1, or a minimum is above its maximum.

    Source: google-deepmind/dnc, repeat_copy.py.
    """

    in_bits: ClassVar[bool] = False

    norm_max: int = 10
    """The number of repeats r is shown as r / norm_max, for any range of r."""

    def __post_init__(self) -> None:
        check_counts(self)
        check_ranges(self)
        if self.time_steps >= 2**31:
            raise ValueError(
                f"max_length={self.max_length}, max_repeats={self.max_repeats}: sequences would "
                f"have {self.time_steps} steps, 2^31 or more"
            )

    @property
    def input_size(self) -> int:
        return self.num_bits + 2

    @property
    def output_size(self) -> int:
        return self.num_bits + 1

    @property
    def loss_unit(self) -> str:
        return "nats per sequence"

    @property
    def time_steps(self) -> int:
        """Steps of the longest sequence."""
        return self.max_length * (self.max_repeats + 1) + 3

    @property
    def slots_needed(self) -> int:
        """The vectors of the longest pattern."""
        return self.max_length

    def sample(self, key: Array, batch_size: int) -> Episode:
        """See `Task.sample`."""

        def draw(key: Array) -> Episode:
            bits_key, length_key, repeats_key = jax.random.split(key, 3)
            bits = jax.random.bernoulli(bits_key, 0.5, (self.max_length, self.num_bits))
            length = jax.random.randint(length_key, (), self.min_length, self.max_length + 1)
            repeats = jax.random.randint(repeats_key, (), self.min_repeats, self.max_repeats + 1)
            return self.episode(bits.astype(jnp.float32), length, repeats)

        return jax.vmap(draw)(jax.random.split(key, batch_size))

    def episode(
        self, pattern: Float[Array, "L K"], length: Int[Array, ""], repeats: Int[Array, ""]
    ) -> Episode:
        """One sequence, without a batch axis; only the first `length` rows are used."""
        step = jnp.arange(self.time_steps)
        shown = (step >= 1) & (step <= length)
        answer_start, answer_end = length + 2, length + 2 + length * repeats
        answering = (answer_start <= step) & (step < answer_end)

        def rows(index: Array, where: Array) -> Array:
            return jnp.where(where[:, None], jnp.take(pattern, index, axis=0, mode="clip"), 0)

        def channel(values: Array) -> Array:
            return values.astype(jnp.float32)[:, None]

        number = jnp.where(step == length + 1, repeats.astype(jnp.float32) / self.norm_max, 0)
        inputs = [rows(step - 1, shown), channel(step == 0), channel(number)]
        targets = [rows((step - answer_start) % length, answering), channel(step == answer_end)]
        return Episode(
            inputs=jnp.concatenate(inputs, axis=-1),
            targets=jnp.concatenate(targets, axis=-1),
            mask=(answering | (step == answer_end)).astype(jnp.float32),
        )
