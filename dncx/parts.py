"""The methods that a custom part of a DNC must have.

    part        dncx's own                         passed as
    controller  LSTM, DeepLSTM, FeedForward        DNC(..., controller=...)
    access      MemoryAccess                       DNC(..., access=...)
    content     ContentAddressing,                 config.make_access(content=...)
                MaskedContentAddressing
    freeness    Freeness                           config.make_access(freeness=...)
    linkage     TemporalLinkage, NoLinkage         config.make_access(linkage=...)

A part needs these methods, but no base class. It is written for one example: the cell adds the
batch with `jax.vmap`. If it is a `flax.nnx.Module`, its parameters are trained with the others.
Custom parts are computed by XLA; `dncx.explain(cell)` has the details.

Example: examples/own_parts.py.
"""

from typing import Any, Protocol, TypeVar, runtime_checkable

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.glossary import (
    DirectionalWeights,
    Memory,
    ReadWeights,
    ReadWords,
    Usage,
    WriteWeights,
)

State = TypeVar("State")  # a tree of arrays
Masks = TypeVar("Masks", contravariant=True)  # [heads, K], or None if mask_size is 0


@runtime_checkable
class ControllerLike(Protocol[State]):
    """A flax recurrent cell with one feature axis, such as `nnx.LSTMCell` or `nnx.GRUCell`.

    In a DNC its inputs have `input_size + num_read_heads * word_size` features: x_t, then the
    words that were read at the previous step. It must not change a variable during a step, so it
    cannot have dropout.
    """

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: nnx.Rngs, /) -> State:
        """The initial state, for inputs of this shape."""
        ...

    def __call__(self, carry: State, inputs: Array, /) -> tuple[State, Array]:
        """One step: the new state, and the outputs [..., H]."""
        ...


RecurrentCell = ControllerLike
"""A recurrent cell for `dncx.unroll`, for example a DNC."""


@runtime_checkable
class InputLayer(Protocol):
    """Layers that prepare the inputs of a recurrent cell, such as an embedding.

    `dncx.unroll` applies them to whole sequences. Layers that cannot compute a single step must set
    `step_by_step = False`.
    """

    cell: Any

    def inputs_of_cell(self, inputs: Array, /) -> Array:
        """The inputs of `cell`, from [*batch, time, features] or from a single step."""
        ...


@runtime_checkable
class SideBySide(Protocol):
    """Recurrent cells on the same inputs, as one cell: a tuple of states, and all outputs.

    `dncx.unroll` runs each cell on its own, in its fastest form.
    """

    @property
    def cells(self) -> tuple[Any, ...]:
        """The cells, or networks with layers before their cells."""
        ...


def cell_of(network: Any) -> Any:
    """The recurrent cell of a network, without the layers that prepare its inputs."""
    while isinstance(network, InputLayer):
        network = network.cell
    return network


def cells_of(network: Any) -> list[Any]:
    """The recurrent cells of a network; several if they stand side by side."""
    cell = cell_of(network)
    if isinstance(cell, SideBySide):
        return [inner for part in cell.cells for inner in cells_of(part)]
    return [cell]


@runtime_checkable
class ContentLike(Protocol[Masks]):
    """Content-based addressing: the slots that are similar to a key, for reading and writing.

    `mask_size` is the number of values that a head needs in addition to its key and strength: the
    word size, for example, if the controller masks a part of each word; 0 if it needs none. The
    controller emits these values like gates, so they lie in [0, 1].
    """

    @property
    def mask_size(self) -> int:
        """K, the number of additional values for each head; 0: none."""
        ...

    def __call__(
        self,
        memory: Memory,
        keys: Float[Array, "heads W"],
        strengths: Float[Array, " heads"],
        masks: Masks,
        /,
    ) -> Float[Array, "heads N"]:
        """One weighting over the slots for each head.

        `masks` has the shape [heads, K]; with a `mask_size` of 0 it is None.
        """
        ...


@runtime_checkable
class FreenessLike(Protocol):
    """Usage of the slots, and allocation of free slots for the next write."""

    def initial_state(self, dtype: DTypeLike, /) -> Usage:
        """The usage of every slot before the first step."""
        ...

    def __call__(
        self,
        usage: Usage,
        write_weights: WriteWeights,
        free_gate: Float[Array, " R"],
        read_weights: ReadWeights,
        /,
    ) -> Usage:
        """u_t from the weights of step t-1 and the free gates of step t."""
        ...

    def write_allocation_weights(
        self, usage: Usage, write_gates: Float[Array, " M"], /
    ) -> WriteWeights:
        """The allocation weights of each write head: where to write if only free slots count."""
        ...


@runtime_checkable
class LinkageLike(Protocol[State]):
    """The order in which slots were written, and how to follow it; its state can be any tree."""

    def initial_state(self, dtype: DTypeLike, /) -> State:
        """The state before the first step."""
        ...

    def __call__(
        self, state: State, write_weights: WriteWeights, read_weights: ReadWeights, /
    ) -> tuple[State, DirectionalWeights, DirectionalWeights]:
        """Adds the writes of step t, and follows the links from the reads of step t-1.

        Returns the new state, the forward weights and the backward weights.
        """
        ...


@runtime_checkable
class AccessLike(Protocol[State]):
    """Reads and writes a memory as the controller demands; its state can be any tree.

    `dncx.unroll_with_trace` also needs `step_with_trace`, which also returns a tree of arrays.
    """

    @property
    def num_read_heads(self) -> int:
        """R."""
        ...

    @property
    def word_size(self) -> int:
        """W."""
        ...

    def initial_state(self, dtype: DTypeLike, /) -> State:
        """The state before the first step."""
        ...

    def __call__(
        self, state: State, controller_output: Float[Array, " H"], /
    ) -> tuple[State, ReadWords]:
        """One step: the new state, and the words read."""
        ...
