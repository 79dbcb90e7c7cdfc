"""Running a cell over whole sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.sharding import NamedSharding
from jax.typing import ArrayLike
from jaxtyping import Array

from dncx.checks import as_array, as_state, check_instance
from dncx.dnc import DNCState, DNCTrace
from dncx.kernels.choice import Form, select
from dncx.kernels.chunks import scan_in_chunks
from dncx.kernels.derivatives import backward_only
from dncx.kernels.meshes import batch_division, by_shards, gathered, vary_alike
from dncx.parts import InputLayer, RecurrentCell, SideBySide, cell_of

State = TypeVar("State")


def unroll(
    cell: RecurrentCell[State],
    inputs: ArrayLike,
    *,
    initial_state: State | None = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    hidden_factors: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, State]:
    """Runs a recurrent cell over sequences. Call it inside `jax.jit` to compile it only once.

    Args:
      cell: a `dncx.DNC`, any other flax recurrent cell, or a network with layers before its cell
        (see `dncx.parts.InputLayer`).
      inputs: x, [*batch, time, features], with any number of batch axes (also none).
      initial_state: the state to start from, with the batch axes of `inputs`; by default
        `cell.initialize_carry`, for the DNC an empty memory.
      lengths: [*batch] integers; steps after the end of a sequence do not change the state and
        return zeros. By default all sequences are as long as `inputs`.
      resets: [*batch, time] booleans; if True, the state is reset to `cell.initialize_carry`
        before the step. By default it is never reset.
      hidden_factors: [*batch, time, H]; the controller's output h_t is multiplied by them, but
        only on its way to the output layer. For dropout, each is 0 or 1 / (1 - rate). H is the
        cell's `controller_output_size`. By default all are 1.
      time_major: whether the time axis of inputs, outputs, resets and factors is the first axis; a
        static argument in `jax.jit(unroll, ...)`.

    Returns:
      The outputs [*batch, time, features], and the state after the last step.

    Raises:
      ValueError: if inputs, lengths, resets, factors or a state have the wrong shape, or a length
        exceeds the number of steps. (Inside jit, lengths are unknown and cut to that number.)
      TypeError: if an argument has the wrong type, or the cell does not accept factors or resets.

    Example:
      >>> from flax import nnx
      >>> from dncx import DNC
      >>> cell = DNC(6, 5, rngs=nnx.Rngs(0))
      >>> outputs, state = unroll(cell, jnp.ones((16, 9, 6)), lengths=jnp.full(16, 7))
      >>> outputs.shape
      (16, 9, 5)
    """
    if isinstance(cell, SideBySide):
        return _side_by_side(
            cell, inputs, initial_state, lengths, resets, hidden_factors, time_major
        )
    cell, batch_ndim, states, steps = _prepare(
        cell, inputs, initial_state, lengths, resets, hidden_factors, time_major
    )
    form = select(cell).name

    def run(cell: Any, states: _States, steps: _Steps) -> tuple[Any, Array]:
        if form == "native sequence":
            return cell.native_sequence(states.first, *steps)
        if form == "plain":
            return _scan(jax.lax.scan, cell, cell, states, steps)
        # The error for forward mode comes from here: within a scan JAX's own would come first.
        cell, states, steps = backward_only((cell, states, steps))
        return _scan(scan_in_chunks, cell, cell, states, steps)

    state, outputs = by_shards(run, _division(states, steps), cell, states, steps)
    return _time_back(outputs, batch_ndim, time_major), state


def unroll_with_trace(
    cell: RecurrentCell[DNCState],
    inputs: ArrayLike,
    *,
    initial_state: DNCState | None = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, DNCState, DNCTrace]:
    """`unroll`, with the intermediate values of every step.

    The trace contains a link matrix for each step, so it needs time * N * N numbers per example.

    Returns:
      The outputs, the last state, and a `DNCTrace` whose arrays have their time axis in the same
      place as the outputs; after the end of a sequence they are zero.
    """
    dnc, batch_ndim, states, steps = _prepare(
        cell, inputs, initial_state, lengths, resets, None, time_major
    )

    if not hasattr(dnc, "step_with_trace") or not hasattr(dnc.access, "step_with_trace"):
        part = getattr(dnc, "access", dnc)
        raise TypeError(f"{type(part).__name__} cannot be traced: it has no step_with_trace")

    def run(cell: Any, states: _States, steps: _Steps) -> Any:
        def step(state: DNCState, x: Array) -> tuple[DNCState, tuple[Array, DNCTrace]]:
            state, y, trace = cell.step_with_trace(state, x)
            return state, (y, trace)

        return _scan(jax.lax.scan, cell, step, states, steps)

    state, found = by_shards(run, _division(states, steps), dnc, states, steps)
    outputs, trace = _time_back(found, batch_ndim, time_major)
    return outputs, state, trace


def explain(cell: Any) -> Form:
    """The implementation that computes a cell, and the reason if a faster one cannot.

    Args:
      cell: any recurrent cell, an `nnx.RNN`, or a network with layers before its cell.

    Example:
      >>> from flax import nnx
      >>> from dncx import DNC
      >>> cell = DNC(6, 5, implementation="plain", rngs=nnx.Rngs(0))
      >>> print(explain(cell))
      plain equations: implementation='plain'
    """
    return select(cell_of(cell.cell if isinstance(cell, nnx.RNN) else cell))


def _side_by_side(
    cell: SideBySide, inputs: ArrayLike, initial_state: Any, *options: Any
) -> tuple[Array, Any]:
    """`unroll` of several cells; the options are those of `_prepare`."""
    lengths, resets, hidden_factors, time_major = options
    if hidden_factors is not None:
        raise TypeError(f"hidden_factors: a {type(cell).__name__} does not accept them")
    states = (None,) * len(cell.cells) if initial_state is None else initial_state
    found = [
        unroll(
            one,
            inputs,
            initial_state=state,
            lengths=lengths,
            resets=resets,
            time_major=time_major,
        )
        for one, state in zip(cell.cells, states, strict=True)
    ]
    outputs = jnp.concatenate([outputs for outputs, _ in found], axis=-1)
    return outputs, tuple(state for _, state in found)


class _States(NamedTuple):
    """States [*batch, ...]."""

    start: Any  # that of `cell.initialize_carry`, to which resets go back
    first: Any  # the one to start from


class _Steps(NamedTuple):
    """The inputs of each step, with the time axis first."""

    inputs: Array  # [time, *batch, features]
    live: Array | None  # [time, *batch]: whether the step lies within the sequence
    resets: Array | None  # [time, *batch]: whether to start anew before the step
    hidden_factors: Array | None  # [time, *batch, H]: see `unroll`


def _division(states: _States, steps: _Steps) -> NamedSharding | None:
    """The division of the batch; the initial state alone may define it."""
    batch_ndim = steps.inputs.ndim - 2
    leaves = [x for x in jax.tree.leaves(states.first) if x.ndim >= batch_ndim]
    found = [batch_division(steps.inputs, slice(1, 1 + batch_ndim))]
    found += [batch_division(x, slice(batch_ndim)) for x in leaves]
    return next(filter(None, found), None)


def _scan(
    scan: Callable[..., Any],
    cell: Any,
    step: Callable[..., Any],
    states: _States,
    steps: _Steps,
) -> tuple[Any, Any]:
    """The last state, and the results of the steps.

    Args:
      scan: as `jax.lax.scan`.
      cell: whose arrays the step uses.
      step: (state, x) -> (new state, outputs); factors, if any, are its third argument.
      states, steps: see there.
    """
    start, first = vary_alike(states, steps, cell)

    def masked_step(state: Any, given: _Steps) -> Any:
        x = given.inputs
        if given.resets is not None:
            state = where(given.resets, start, state)
        if given.live is not None:
            x = where(given.live, x, jnp.zeros_like(x))  # or padding of NaN would cost gradients
        factors = () if given.hidden_factors is None else (given.hidden_factors,)
        new_state, outputs = step(state, x, *factors)
        if given.live is not None:
            new_state = where(given.live, new_state, state)
            outputs = where(given.live, outputs, jax.tree.map(jnp.zeros_like, outputs))
        return new_state, outputs

    return scan(masked_step, first, steps)


def _time_back(outputs: Any, batch_ndim: int, time_major: bool) -> Any:
    """Moves the time axis to its place in the caller's inputs."""
    if time_major:
        return outputs
    return jax.tree.map(lambda y: jnp.moveaxis(y, 0, batch_ndim), outputs)


def _prepare(
    cell: Any,
    inputs: ArrayLike,
    initial_state: Any,
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    hidden_factors: ArrayLike | None,
    time_major: bool,
) -> tuple[Any, int, _States, _Steps]:
    """The cell without layers before it, the number of batch axes, and the checked arguments."""
    _check_cell(cell)
    if isinstance(time_major, Tracer):
        raise TypeError(
            "time_major must be a static argument: jax.jit(dncx.unroll, "
            "static_argnames='time_major')"
        )
    inputs = as_array("inputs", inputs)
    if inputs.ndim < 2:
        raise ValueError(
            f"unroll takes inputs [*batch, time, features], got shape {inputs.shape}; "
            "for one step use cell(state, inputs)"
        )
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
    batch, time = inputs.shape[1:-1], inputs.shape[0]
    live = None if lengths is None else _live_steps(lengths, batch, time)
    cell, inputs = _cell_and_inputs(cell, inputs, live, has_resets=resets is not None)
    start = cell.initialize_carry(inputs.shape[1:], nnx.Rngs(0))  # some cells insist on rngs
    first = (
        start
        if initial_state is None
        else as_state("initial_state", initial_state, start, cast=True)
    )
    steps = _Steps(
        inputs=inputs,
        live=live,
        resets=None if resets is None else _checked_resets(resets, batch, time, time_major),
        hidden_factors=_checked_factors(hidden_factors, cell, inputs, time_major),
    )
    steps = jax.tree.map(lambda x: gathered(x, axis=0), steps)
    return cell, len(batch), _States(start, first), steps


def _cell_and_inputs(
    network: Any, inputs: Array, live: Array | None, *, has_resets: bool
) -> tuple[Any, Array]:
    """The cell of a network, and its inputs from those of the network; both with time first."""
    if not isinstance(network, InputLayer):
        return network, inputs
    if live is not None:  # padding must not reach a layer that reads the whole sequence
        inputs = where(live, inputs, jnp.zeros_like(inputs))
    inputs = jnp.moveaxis(inputs, 0, -2)
    while isinstance(network, InputLayer):
        if has_resets and not getattr(network, "step_by_step", True):
            name = type(network).__name__
            raise TypeError(f"resets: a {name} needs complete sequences")
        network, inputs = network.cell, network.inputs_of_cell(inputs)
    return network, jnp.moveaxis(inputs, -2, 0)


def where(condition: Array, yes: Any, no: Any) -> Any:
    """`jnp.where` over trees, with the condition [*batch] spread over the axes behind it."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(pick, yes, no)


def _live_steps(lengths: ArrayLike, batch: tuple[int, ...], time: int) -> Array:
    """[time, *batch]: whether the step lies within the sequence."""
    lengths = as_array("lengths", lengths)
    if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths must be integers of shape {batch}, the batch axes of inputs; "
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
    resets = as_array("resets", resets)
    wanted = (time, *batch) if time_major else (*batch, time)
    if resets.shape != wanted or resets.dtype != jnp.bool_:
        raise ValueError(
            f"resets must be booleans of shape {wanted}; got {resets.dtype} of shape {resets.shape}"
        )
    return resets if time_major else jnp.moveaxis(resets, -1, 0)


def _checked_factors(
    factors: ArrayLike | None, cell: Any, inputs: Array, time_major: bool
) -> Array | None:
    """[time, *batch, H] in the dtype of the cell; `inputs` are time-major."""
    if factors is None:
        return None
    if not hasattr(cell, "controller_output_size"):
        raise TypeError(f"hidden_factors: a {type(cell).__name__} does not accept them")
    shape = (*inputs.shape[:-1], cell.controller_output_size)
    if not time_major:
        shape = (*shape[1:-1], shape[0], shape[-1])
    like = jax.ShapeDtypeStruct(shape, cell.output_linear.kernel.dtype)
    checked = as_state("hidden_factors", factors, like, cast=True)
    return checked if time_major else jnp.moveaxis(checked, -2, 0)


def _check_cell(cell: Any) -> None:
    """Refuses an object that is not a recurrent cell.

    Raises:
      TypeError: if `cell` is not a recurrent cell.
    """
    check_instance("cell", cell)
    if not callable(cell) or not hasattr(cell, "initialize_carry"):
        raise TypeError(
            "unroll(cell, inputs) takes a recurrent cell, such as a dncx.DNC, and then arrays; got "
            f"a {type(cell).__name__} as the cell"
        )
