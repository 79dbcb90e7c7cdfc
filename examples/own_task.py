"""A task of one's own: see a sequence of bits and give it back in reverse.

python examples/own_task.py train --max_length=8 --num_training_iterations=5000
python examples/own_task.py eval runs/reverse --sweep length=4,8,16 --sweep memory_size=16,32
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dncx.cli import leave, task_main
from dncx.tasks.base import Episode
from dncx.tasks.bits import BitJudge


@dataclasses.dataclass(frozen=True)
class Reverse(BitJudge):
    """See a sequence of bits and give it back in reverse.

    Of a `dncx.tasks.base.Task`, `loss`, `score` and `render` are `BitJudge`'s.
    """

    name: ClassVar[str] = "reverse"
    loss_unit: ClassVar[str] = "bits per sequence"

    num_bits: int = 4
    """Bits of each vector."""
    min_length: int = 1
    """Fewest vectors of a sequence."""
    max_length: int = 8
    """Most vectors of a sequence."""

    def __post_init__(self):
        if not 1 <= self.min_length <= self.max_length:
            raise ValueError(f"min_length={self.min_length}: must lie in 1..{self.max_length}")

    @property
    def input_size(self):
        return self.num_bits + 1  # the bits, and a mark after the last vector

    @property
    def output_size(self):
        return self.num_bits

    def sample(self, key, batch_size):
        """Runs inside jit: shapes are fixed, and lengths differ by masks."""
        bits_key, length_key = jax.random.split(key)
        shape = (batch_size, self.max_length, self.num_bits)
        vectors = jax.random.bernoulli(bits_key, 0.5, shape).astype(jnp.float32)
        low, high = self.min_length, self.max_length + 1
        lengths = jax.random.randint(length_key, (batch_size, 1), low, high)
        step = jnp.arange(2 * self.max_length + 1)[None]
        shown, answering = step < lengths, (step > lengths) & (step <= 2 * lengths)
        which = jnp.where(shown, step, 2 * lengths - step).clip(0, self.max_length - 1)
        rows = jnp.take_along_axis(vectors, which[..., None], axis=1)
        mark = (step == lengths).astype(jnp.float32)
        return Episode(
            inputs=jnp.concatenate([rows * shown[..., None], mark[..., None]], axis=-1),
            targets=rows * answering[..., None],
            mask=answering.astype(jnp.float32),
        )


if __name__ == "__main__":
    leave(task_main(Reverse))
