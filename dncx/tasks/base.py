"""What a task is."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int


class Episode(NamedTuple):
    """A batch of sequences, padded to one length.

    Attributes:
      inputs: what the network sees at each step.
      targets: what it should answer.
      mask: 1 at the steps that count, else 0.
      extra: what else the task wants to know of its sequences when it judges or renders them: a
        tree of arrays with the batch axis in front.
    """

    inputs: Float[Array, "B T F"]
    targets: Float[Array, "B T O"]
    mask: Float[Array, "B T"]
    extra: Any = ()


class Words(NamedTuple):
    """A sequence in the task's own words, a text a step; empty where there is nothing to say."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    outputs: tuple[str, ...]


@runtime_checkable
class Judge(Protocol):
    """What knows the sizes of episodes and which outputs are right; inside jit but for `render`."""

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


@runtime_checkable
class Task(Judge, Protocol):
    """A task makes episodes and judges outputs. Everything but `render` runs inside jit.

    Your own task is a class with these members; a frozen dataclass serves well, its fields being
    the task's settings. For a command line (`dncx.cli.task_main`) it has a `name`. It may also have
    `slots_needed`, the number of vectors that it has to remember at once (the trainer warns of a
    smaller memory), and `about`, a line that training begins with.
    """

    def sample(self, key: Array, batch_size: int) -> Episode:
        """Draws a batch; the same key gives the same batch."""
        ...


@runtime_checkable
class Bucketed(Judge, Protocol):
    """A task whose sequences differ too much in length to be padded to one, or that holds data.

    In the place of `sample` it has buckets.

    An iteration draws a bucket by the shares, and its whole batch from it: so every sequence is as
    likely as any other. Buckets are tasks and trees of arrays (`jax.tree_util.register_dataclass`),
    which go to the compiled program as arguments, not as constants in it.
    """

    @property
    def buckets(self) -> tuple[Task, ...]:
        """Tasks that differ in the length of their sequences and in nothing else."""
        ...

    @property
    def shares(self) -> tuple[float, ...]:
        """Their probabilities."""
        ...


@runtime_checkable
class Examined(Protocol):
    """A task with fixed sequences for validation and for the test, each measured once."""

    def episodes(self, split: Literal["validation", "test"], batch_size: int) -> Iterator[Episode]:
        """All sequences of a split, in batches of few shapes."""
        ...

    def tally(self, outputs: Float[Array, "B T O"], episode: Episode) -> Any:
        """Counts of a batch, inside jit: a tree of arrays; those of all batches are added."""
        ...

    def results(self, tally: Any) -> dict[str, Any]:
        """What the counts of a split come to, as plain JSON.

        Its "mean_error", in per cent, is what validation makes small.
        """
        ...

    def report(self, results: dict[str, Any]) -> str:
        """The results for people."""
        ...


@runtime_checkable
class Interactive(Task, Protocol):
    """A task whose last inputs depend on the answers: an opening, and then a dialogue.

    The opening is `Episode.inputs`, each sequence up to its length; the state that it leaves
    enters `converse`, whose outputs and episode are those to judge and to render.
    """

    def opening_lengths(self, episode: Episode) -> Int[Array, " B"]:
        """How many steps of `Episode.inputs` there are of each sequence."""
        ...

    def converse(
        self,
        step: Callable[[Any, Array], tuple[Any, Array]],
        state: Any,
        episode: Episode,
        keys: Array,
        training: bool,
    ) -> tuple[Float[Array, "B A O"], Episode]:
        """The rest of the sequences.

        Args:
          step: (state, inputs [B, F]) -> (state, outputs [B, O]).
          state: after the opening.
          episode: the opening.
          keys: of random choices, one for each sequence.
          training: whether targets may guide the inputs.

        Returns:
          The outputs of these A steps, and the steps as an episode.
        """
        ...


@runtime_checkable
class Spoken(Protocol):
    """A task that can say what each step shows, for views into the memory."""

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """The first sequence of the batch, all of its T steps.

        Of an `Interactive` task opening and dialogue stand behind each other in `episode`, whose
        `extra` is the dialogue's.
        """
        ...
