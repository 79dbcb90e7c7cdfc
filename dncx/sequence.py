"""Running a cell over whole sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array

from dncx.dnc import DNC, DNCState, DNCTrace
from dncx.kernels import recurrence
from dncx.kernels.chunks import scan_in_chunks


def unroll(
    cell: Any,
    inputs: ArrayLike,
    *,
    initial_state: Any = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, Any]:
    """Runs a recurrent cell over sequences. Call it inside `jax.jit`, or it compiles every time.

    Args:
      cell: a `dncx.DNC`, or any other flax recurrent cell.
      inputs: x, [*batch, time, features]; any number of batch axes, and none.
      initial_state: the state to start from, with the batch axes of `inputs`; by default
        `cell.initialize_carry`, for the DNC an empty memory.
      lengths: [*batch] whole numbers; steps from there on leave the state as it is and give
        zero outputs. By default all sequences are as long as `inputs`.
      resets: [*batch, time] booleans; where True, the state is set back to
        `cell.initialize_carry` before the step. By default the state is kept throughout.
      time_major: whether the time axis of inputs, outputs and resets is the first one; in
        `jax.jit(unroll, ...)` a static argument.

    Returns:
      The outputs [*batch, time, features], and the state after the last step.

    Raises:
      ValueError: inputs, lengths, resets or a state of the wrong shape; a length beyond the
        sequence (where lengths are known, that is outside jit; inside, it counts as the
        whole sequence).

    Example:
      >>> from flax import nnx
      >>> cell = DNC(6, 5, rngs=nnx.Rngs(0))
      >>> outputs, state = unroll(cell, jnp.ones((16, 9, 6)), lengths=jnp.full(16, 7))
      >>> outputs.shape
      (16, 9, 5)
    """
    sequence = _prepare(cell, inputs, initial_state, lengths, resets, time_major)
    if type(cell) is DNC and recurrence.supports_sequence_kernel(cell):
        state, outputs = recurrence.run(
            cell, sequence.inputs, sequence.state, sequence.live, sequence.resets
        )
    else:
        state, outputs = sequence.scan(lambda state, x: cell(state, x), _saves_memory(cell))
    return sequence.time_back(outputs), state


def unroll_with_trace(
    cell: DNC,
    inputs: ArrayLike,
    *,
    initial_state: DNCState | None = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, DNCState, DNCTrace]:
    """`unroll`, and everything that happened inside at every step.

    The trace holds a link matrix a step, so it needs time * N * N numbers an example.

    Returns:
      The outputs, the last state, and a `DNCTrace` whose arrays have the time axis where the
      outputs have it; past a sequence's length they are zero.
    """

    def step(state: DNCState, x: Array) -> tuple[DNCState, tuple[Array, DNCTrace]]:
        state, y, trace = cell.step_with_trace(state, x)
        return state, (y, trace)

    sequence = _prepare(cell, inputs, initial_state, lengths, resets, time_major)
    state, (outputs, trace) = sequence.scan(step)
    return sequence.time_back(outputs), state, sequence.time_back(trace)


class _Sequence(NamedTuple):
    """What was given to `unroll`, checked and with the time axis first."""

    inputs: Array
    start: Any  # the state of `cell.initialize_carry`
    state: Any  # the one to start from
    live: Array | None  # [time, *batch]: whether the step lies within the sequence
    resets: Array | None  # [time, *batch]
    time_major: bool  # whether outputs have the time axis first, too

    def scan(self, step: Callable[[Any, Array], Any], saves_memory: bool = False) -> Any:
        """The last state, and what the steps gave."""

        def masked_step(state: Any, xs: tuple[Array, Array | None, Array | None]) -> Any:
            x, reset, alive = xs
            if reset is not None:
                state = _where(reset, self.start, state)
            if alive is not None:
                x = _where(alive, x, jnp.zeros_like(x))  # so that padding of NaN costs no gradient
            new_state, outputs = step(state, x)
            if alive is not None:
                new_state = _where(alive, new_state, state)
                outputs = _where(alive, outputs, jax.tree.map(jnp.zeros_like, outputs))
            return new_state, outputs

        xs = (self.inputs, self.resets, self.live)
        scan = scan_in_chunks if saves_memory else jax.lax.scan
        return scan(masked_step, self.state, xs)

    def time_back(self, outputs: Any) -> Any:
        """The time axis where the caller's inputs had it."""
        if self.time_major:
            return outputs
        last_batch_axis = self.inputs.ndim - 2
        return jax.tree.map(lambda y: jnp.moveaxis(y, 0, last_batch_axis), outputs)


def _saves_memory(cell: Any) -> bool:
    """Whether to compute again what the backward pass needs: a DNC keeps N x N numbers a step."""
    return isinstance(cell, DNC) and getattr(cell.access, "implementation", None) != "plain"


def _prepare(
    cell: Any,
    inputs: ArrayLike,
    initial_state: Any,
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    time_major: bool,
) -> _Sequence:
    inputs = jnp.asarray(inputs)
    if inputs.ndim < 2:
        raise ValueError(
            f"unroll takes inputs [*batch, time, features], got shape {inputs.shape}; "
            "one step is cell(state, inputs)"
        )
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
    batch, time = inputs.shape[1:-1], inputs.shape[0]
    start = cell.initialize_carry(inputs.shape[1:], nnx.Rngs(0))  # some cells insist on rngs
    return _Sequence(
        inputs=inputs,
        start=start,
        state=start if initial_state is None else _checked_state(initial_state, start),
        live=None if lengths is None else _live_steps(lengths, batch, time),
        resets=None if resets is None else _checked_resets(resets, batch, time, time_major),
        time_major=time_major,
    )


def _where(condition: Array, yes: Any, no: Any) -> Any:
    """`jnp.where` over trees, with the condition [*batch] spread over the axes behind."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(pick, yes, no)


def _live_steps(lengths: ArrayLike, batch: tuple[int, ...], time: int) -> Array:
    """[time, *batch]: whether the step lies within the sequence."""
    lengths = jnp.asarray(lengths)
    if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths must be whole numbers of shape {batch}, the batch axes of inputs; "
            f"got {lengths.dtype} of shape {lengths.shape}"
        )
    if not isinstance(lengths, Tracer) and lengths.size:
        known = np.asarray(lengths)  # NumPy, as jit may be tracing
        low, high = int(known.min()), int(known.max())
        if low < 0 or high > time:
            raise ValueError(
                f"lengths must lie in 0..{time}, the time axis of inputs; got {low}..{high}"
            )
    steps = jnp.arange(time, dtype=jnp.int32).reshape((time,) + (1,) * len(batch))
    return steps < lengths.astype(jnp.int32)[None]


def _checked_resets(
    resets: ArrayLike, batch: tuple[int, ...], time: int, time_major: bool
) -> Array:
    """[time, *batch]: whether to start anew before the step."""
    resets = jnp.asarray(resets)
    wanted = (time, *batch) if time_major else (*batch, time)
    if resets.shape != wanted or resets.dtype != jnp.bool_:
        raise ValueError(
            f"resets must be booleans of shape {wanted}; got {resets.dtype} of shape {resets.shape}"
        )
    return resets if time_major else jnp.moveaxis(resets, -1, 0)


def _checked_state(state: Any, like: Any) -> Any:
    """The given state in the cell's dtypes, if it is a state for this cell and batch."""
    wanted, found = jax.tree.structure(like), jax.tree.structure(state)
    if wanted != found:
        raise ValueError(f"initial_state must be a tree like {wanted}; got {found}")

    def cast(path: Any, given: Any, own: Array) -> Array:
        given = jnp.asarray(given)
        if given.shape != own.shape:
            raise ValueError(
                f"initial_state{jax.tree_util.keystr(path)} must have shape {own.shape} for "
                f"these inputs; got {given.shape}"
            )
        return given.astype(own.dtype)

    return jax.tree_util.tree_map_with_path(cast, state, like)
