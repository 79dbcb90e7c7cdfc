"""What a task is."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float


class Episode(NamedTuple):
    """A batch of sequences, padded to one length.

    Attributes:
      inputs: what the network sees at each step.
      targets: what it should answer.
      mask: 1 at the steps that count, else 0.
    """

    inputs: Float[Array, "B T F"]
    targets: Float[Array, "B T O"]
    mask: Float[Array, "B T"]


@runtime_checkable
class Task(Protocol):
    """A task makes episodes and judges outputs. Everything but `render` runs inside jit.

    Your own task is a class with these members; a frozen dataclass serves well, its fields
    being the task's settings.
    """

    @property
    def input_size(self) -> int:
        """Features of `Episode.inputs`."""
        ...

    @property
    def output_size(self) -> int:
        """Features of the network's outputs."""
        ...

    @property
    def loss_unit(self) -> str:
        """What `loss` is measured in, for reports."""
        ...

    def sample(self, key: Array, batch_size: int) -> Episode:
        """Draws a batch; the same key gives the same batch."""
        ...

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """What training makes small: the mean over the batch."""
        ...

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """How wrong the outputs are: shares between 0 (perfect) and 1, by name."""
        ...

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The first sequence of the batch and the answer to it, for people to read."""
        ...
