"""Repeat copy: see a pattern of bits and a number, then give the pattern that many times.

The sequence of one example, with K bits, pattern length L and r repeats (L (r + 1) + 3 steps):

    step        0        1..L      L+1       L+2 .. L+1+Lr     L+2+Lr
    inputs      start    pattern   r/10      0                 0
    targets     0        0         0         pattern, r times  end
    mask        0        0         0         1                 1

Inputs have K + 2 channels (bits, start marker, number), targets K + 1 (bits, end marker).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dncx.tasks.base import Episode
from dncx.tasks.settings import RepeatCopySettings

# Added to the number of steps that count, so that an empty mask gives 0 (the original's value).
EMPTY_MASK = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatCopy(RepeatCopySettings):
    """The original's task, drawn on the device; the arguments are `RepeatCopySettings`.

    Lengths, repeats and bits (fair coins) are drawn for every sequence; all batches are padded
    with zeros to `time_steps`.

    Raises:
      ValueError: a number below 1, or a minimum above its maximum.

    Source: google-deepmind/dnc, repeat_copy.py.
    """

    norm_max: int = 10
    """The number of repeats is shown as r / norm_max, whatever the range it is drawn from."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 1 <= value < 2**31:
                raise ValueError(f"{name}={value}: must be at least 1, below 2^31")
        for what in ("length", "repeats"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low > high:
                raise ValueError(f"min_{what}={low} is above max_{what}={high}")
        if self.time_steps >= 2**31:
            raise ValueError(f"max_length, max_repeats: sequences of {self.time_steps} steps")

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
        """One sequence, without a batch axis; rows of `pattern` from `length` on are not used."""
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

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """Nats a sequence: sigmoid cross-entropy of the logits, summed over channels and steps."""
        return masked_cross_entropy(outputs, episode.targets, episode.mask)

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Shares of wrong bits (of those that count) and of sequences with a wrong bit."""
        wrong = ((outputs > 0) != (episode.targets > 0.5)) & (episode.mask > 0)[..., None]
        counted = episode.mask.sum() * self.output_size
        return {
            "bit_error": wrong.sum().astype(jnp.float32) / counted,
            "sequence_error": wrong.any(axis=(1, 2)).astype(jnp.float32).mean(),
        }

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """Channels as rows of bits, step after step, as the original prints them."""
        inputs, targets, mask, logits = (
            np.asarray(x[0], np.float64)
            for x in (episode.inputs, episode.targets, episode.mask, outputs)
        )
        steps = int(mask.nonzero()[0][-1]) + 1
        answers = np.round(mask[:, None] / (1 + np.exp(-logits)))
        lines = [
            f"{name:>13} {' '.join(_bits(row) for row in array[:steps])}"
            for name, array in (
                ("observation", inputs),
                ("target", targets),
                ("model output", answers),
            )
        ]
        return "\n".join(lines)


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
      logits: of the bits being 1.
      targets: the bits, 0 or 1.
      mask: 1 where a step counts.
      time_average: divide each sequence's sum by the number of its steps that count.
      in_bits: in bits instead of nats.

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


def _bits(row: np.ndarray) -> str:
    """'0', '1', and other numbers as tenths: '00000.2' is four zeros, a zero and 2/10."""
    return "".join(
        f"{value:.0f}" if value in (0, 1) else f"{value:.1f}".lstrip("0") for value in row
    )
