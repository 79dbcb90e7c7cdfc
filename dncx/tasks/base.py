"""The interfaces of tasks: episodes, and the methods that the trainer and the reports call."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int


class Episode(NamedTuple):
    """A batch of sequences, padded to one length.

    Attributes:
      inputs: the inputs of the network at each step.
      targets: the outputs that it should return.
      mask: 1 at the steps that count, else 0.
      extra: anything else that the task needs to score or render its sequences: a tree of arrays
        whose first axis is the batch.
    """

    inputs: Float[Array, "B T F"]
    targets: Float[Array, "B T O"]
    mask: Float[Array, "B T"]
    extra: Any = ()


class Words(NamedTuple):
    """A sequence in words, one string per step; "" at steps without anything to show."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    outputs: tuple[str, ...]


@runtime_checkable
class Objective(Protocol):
    """The sizes of episodes, and scores of outputs. Everything but `render` runs inside jit."""

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
        """The unit of `loss`, for reports."""
        ...

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """The loss that training minimises, as the mean over the batch."""
        ...

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Error rates of the outputs by name, from 0 (perfect) to 1."""
        ...

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The first sequence of the batch and the network's answer, as text."""
        ...


@runtime_checkable
class Task(Objective, Protocol):
    """A task draws episodes and scores outputs. Everything but `render` runs inside jit.

    Any class with these members is a task. A frozen dataclass works well: its fields are the task's
    settings. If it also has a `name`, `dncx.cli.task_main` makes a command line for it. Two members
    are optional: `slots_needed`, the number of vectors to remember at once (the trainer warns if
    the memory is smaller), and `about`, a line that training prints first.
    """

    def sample(self, key: Array, batch_size: int) -> Episode:
        """Draws a batch; the same key gives the same batch."""
        ...


@runtime_checkable
class Bucketed(Objective, Protocol):
    """A task that contains data, or whose lengths differ too much for padding to a single length.

    It has buckets instead of `sample`. An iteration draws one bucket by the shares, and all
    sequences of its batch from this bucket. Buckets are tasks and also trees of arrays
    (`jax.tree_util.register_dataclass`): the compiled program takes them as arguments and does not
    contain the data as constants.
    """

    @property
    def buckets(self) -> tuple[Task, ...]:
        """Tasks that differ only in the length of their sequences."""
        ...

    @property
    def shares(self) -> tuple[float, ...]:
        """Their probabilities."""
        ...


@runtime_checkable
class HasAuxiliaryOutputs(Protocol):
    """A task whose last outputs serve its loss only; a saved model does not have them.

    The task's `loss`, `score` and `render` also accept outputs without them.
    """

    @property
    def num_answer_outputs(self) -> int:
        """The number of outputs that answer; they come first."""
        ...


@runtime_checkable
class HasEvalSplits(Protocol):
    """A task with fixed sequences for validation and test; each sequence is measured once."""

    def episodes(self, split: Literal["validation", "test"], batch_size: int) -> Iterator[Episode]:
        """All sequences of a split, in batches with few distinct shapes."""
        ...

    def tally(self, outputs: Float[Array, "B T O"], episode: Episode) -> Any:
        """Counts of a batch, inside jit: a tree of arrays that is summed over the batches."""
        ...

    def results(self, tally: Any) -> dict[str, Any]:
        """The results of a split from its counts, as plain JSON.

        Validation keeps the model with the lowest "mean_error", in per cent.
        """
        ...

    def report(self, results: dict[str, Any]) -> str:
        """The results as text."""
        ...


@runtime_checkable
class ListsWrongAnswers(HasEvalSplits, Protocol):
    """A task that can list its wrong answers on a split."""

    def wrong_answers(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> Iterator[tuple[str, str]]:
        """Each wrong answer of a batch: the group to which it belongs, and its text."""
        ...


@runtime_checkable
class Interactive(Task, Protocol):
    """A task whose last inputs depend on the answers: an opening, followed by a dialogue.

    The opening is `Episode.inputs`, each sequence up to its length. The state after it is passed to
    `converse`, whose outputs and episode are scored and rendered.
    """

    def opening_lengths(self, episode: Episode) -> Int[Array, " B"]:
        """The number of steps of each sequence of `Episode.inputs`."""
        ...

    def converse(
        self,
        step: Callable[[Any, Array], tuple[Any, Array]],
        state: Any,
        episode: Episode,
        keys: Array,
        training: bool,
    ) -> tuple[Float[Array, "B A O"], Episode]:
        """The remaining A steps of the sequences.

        Args:
          step: (state, inputs [B, F]) -> (state, outputs [B, O]).
          state: the network's state after the opening.
          episode: the opening.
          keys: one for the random choices of each sequence.
          training: whether targets may guide the inputs.

        Returns:
          The outputs of these steps, and the steps as an episode.
        """
        ...


@runtime_checkable
class Describable(Protocol):
    """A task that describes each step in words, for views of the memory."""

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """All T steps of the first sequence of the batch.

        For an `Interactive` task, `episode` contains the opening followed by the dialogue, and the
        `extra` of the dialogue.
        """
        ...


def num_saved_outputs(task: Objective) -> int:
    """The number of outputs of a saved model, from the first one on."""
    if isinstance(task, HasAuxiliaryOutputs):
        return task.num_answer_outputs
    return task.output_size
