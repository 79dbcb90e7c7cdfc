"""Sequences of one's own, from arrays on disk.

    np.savez("sequences.npz", inputs=inputs, targets=targets, mask=mask)

with inputs [sequences, time, features], targets [sequences, time, outputs] and mask [sequences,
time], which is 1 where a target counts. Then

python examples/own_data.py train --data_file=sequences.npz --num_training_iterations=2000
python examples/own_data.py eval runs/own-data
"""

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dncx.cli import leave, task_main
from dncx.tasks.base import Episode


class Regression:
    """What a network's outputs should be, as numbers."""

    loss_unit: ClassVar[str] = "squared error"

    def loss(self, outputs, episode):
        squares = ((outputs - episode.targets) ** 2).mean(axis=-1) * episode.mask
        return squares.sum() / jnp.maximum(episode.mask.sum(), 1)

    def score(self, outputs, episode):
        """The share of the targets' variance that is not explained."""
        counts = jnp.broadcast_to(episode.mask[..., None] > 0, episode.targets.shape)
        variance = jnp.var(episode.targets, where=counts)
        return {"unexplained": self.loss(outputs, episode) / jnp.maximum(variance, 1e-12)}

    def render(self, outputs, episode):
        last = int(np.flatnonzero(np.asarray(episode.mask[0]))[-1])
        target, output = np.asarray(episode.targets[0, last]), np.asarray(outputs[0, last])
        return f"step {last}: target {target.round(2)}, output {output.round(2)}"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sequences(Regression):
    """The arrays, on the device; a batch is drawn from them."""

    data: Episode

    def sample(self, key, batch_size):
        which = jax.random.randint(key, (batch_size,), 0, len(self.data.inputs))
        return jax.tree.map(lambda array: array[which], self.data)


@dataclasses.dataclass(frozen=True)
class OwnData(Regression):
    """Give the targets of the sequences in a file."""

    name: ClassVar[str] = "own-data"

    data_file: Path = Path("sequences.npz")
    """An .npz file with the arrays inputs, targets and mask."""

    def __post_init__(self):
        _ = self.buckets

    @functools.cached_property
    def buckets(self):
        """One, as all sequences are padded to one length; each more would be compiled apart."""
        try:
            with np.load(self.data_file, allow_pickle=False) as file:
                arrays = [jnp.asarray(file[name], jnp.float32) for name in Episode._fields[:3]]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"data_file={self.data_file}: {error}") from error
        inputs, targets, mask = arrays
        if not inputs.shape[:-1] == targets.shape[:-1] == mask.shape or mask.ndim != 2:
            shapes = [array.shape for array in arrays]
            raise ValueError(f"data_file={self.data_file}: shapes {shapes} do not fit together")
        if not mask.any(axis=1).all():
            raise ValueError(f"data_file={self.data_file}: a sequence has no target that counts")
        return (Sequences(Episode(*arrays)),)

    @property
    def shares(self):
        return (1.0,)

    @property
    def input_size(self):
        return self.buckets[0].data.inputs.shape[-1]

    @property
    def output_size(self):
        return self.buckets[0].data.targets.shape[-1]


if __name__ == "__main__":
    leave(task_main(OwnData))
