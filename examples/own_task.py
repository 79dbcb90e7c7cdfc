"""A custom task: see a sequence of bits and return it in reverse.

python examples/own_task.py train --learning_rate=1e-3 --num_training_iterations=5000
python examples/own_task.py eval runs/reverse --sweep length=4,8,16 --sweep memory_size=16,32

Training takes about 25 seconds, on sequences of 1 to 8 vectors with 16 memory slots. The network
then reverses these almost without errors. For sequences of 16 vectors, 99.8 % have an error with 16
slots, but only 20.9 % with 32: a larger memory helps, without any further training.

length  memory size  bit error  sequence error  loss (bits per sequence)
     4           16     0.000%          0.000%                 5.412e-07
     4           32     0.000%          0.000%                 8.218e-07
     8           16     0.003%          0.100%                  0.004597
     8           32     0.000%          0.000%                 1.252e-06
    16           16    32.180%         99.800%                     143.5
    16           32     3.391%         20.900%                     15.36
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dncx.cli import leave, task_main
from dncx.tasks.base import Episode
from dncx.tasks.bits import BitScoring


@dataclasses.dataclass(frozen=True)
class Reverse(BitScoring):
    """See a sequence of bits and return it in reverse.

    `BitScoring` provides the `loss`, `score` and `render` of a `dncx.tasks.base.Task`.
    """

    name: ClassVar[str] = "reverse"
    loss_unit: ClassVar[str] = "bits per sequence"

    num_bits: int = 4
    """Bits per vector."""
    min_length: int = 1
    """Smallest number of vectors in a sequence."""
    max_length: int = 8
    """Largest number of vectors in a sequence."""

    def __post_init__(self):
        if not 1 <= self.min_length <= self.max_length:
            raise ValueError(f"min_length={self.min_length}: must lie in 1..{self.max_length}")

    @property
    def input_size(self):
        return self.num_bits + 1  # the bits, and a marker after the last vector

    @property
    def output_size(self):
        return self.num_bits

    def sample(self, key, batch_size):
        """Runs inside jit: all sequences have one shape, and a mask marks the answers."""
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
