"""Running a loss one operation at a time, up to the first non-finite number."""

import linecache
import re
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array

from dncx.parts import InputLayer

_MESSAGE = re.compile(r"invalid value \((\w+)\) encountered in (\w+)")  # JAX's
_LIBRARY = re.compile(r".*/site-packages/(jax|flax|optax|jaxtyping|beartype)/|<")


class Origin(NamedTuple):
    """The first operation with a non-finite result."""

    operation: str  # JAX's name
    kind: str  # "nan" or "inf"
    step: int | None  # the time step; None outside the network, for example in the loss
    place: str  # file, line, function and code; "" if JAX does not report it


def _watched(network: Any, now: SimpleNamespace) -> Any:
    """A network whose cell records its time steps."""
    if not isinstance(network, InputLayer):
        return _WatchedCell(network, now)
    network.cell = _watched(network.cell, now)
    return network


class _WatchedCell(nnx.Module):
    """A cell that records the current time step of a replay, forward and backward."""

    def __init__(self, cell: Any, now: SimpleNamespace):
        self.cell, self.now, self.count = cell, now, 0

    def initialize_carry(self, *shape: Any) -> Any:
        return self.cell.initialize_carry(*shape)

    def __call__(self, state: Any, inputs: Array) -> tuple[Any, Array]:
        step = self.now.step = self.count
        self.count += 1
        with jax.debug_infs(False):  # every softmax begins with -inf
            results = self.cell(state, inputs)
        known = [x for x in jax.tree.leaves(results) if not isinstance(x, Tracer)]
        if self.now.infinite and any(np.isinf(np.asarray(x)).any() for x in known):
            raise FloatingPointError("invalid value (inf) encountered in step")
        self.now.step = None

        def enter(_: None, gradient: Any) -> tuple[Any]:  # the backward pass reaches this step
            self.now.step = step
            return (gradient,)

        mark = jax.custom_vjp(lambda results: results)
        mark.defvjp(lambda results: (results, None), enter)
        return mark(results)


def find_origin(
    loss: Callable[[Any], Array],
    graph: nnx.GraphDef,
    params: Any,
    *,
    gradient: bool = False,
    infinite: bool = False,
) -> Origin | None:
    """The first operation that returns NaN in the loss of a network, if there is one.

    Args:
      loss: a function of a network.
      graph, params: a network in the plain implementation, whose lines are single operations.
      gradient: whether to check the gradient, too.
      infinite: whether infinity also counts: in the loss, in gradients and in a step's results.
    """
    now = SimpleNamespace(step=None, infinite=infinite)

    def watched_loss(params: Any) -> Array:
        return loss(_watched(nnx.merge(graph, params), now))

    try:
        with jax.disable_jit(), jax.debug_nans(True), jax.debug_infs(infinite):
            jax.grad(watched_loss)(params) if gradient else watched_loss(params)
    except FloatingPointError as error:
        found = _MESSAGE.match(str(error))
        kind, operation = found.groups() if found else ("nan", "an operation")
        return Origin(operation, kind, now.step, _place(error))
    return None


def _place(error: FloatingPointError) -> str:
    """The innermost line of dncx or of the user's program that an operation comes from.

    For an operation of the backward pass, JAX keeps the line of the forward pass as the error's
    cause. Only the backward function of a `custom_vjp` has its own line.
    """
    for one in (error, error.__cause__):
        for frame in reversed(traceback.extract_tb(one.__traceback__ if one else None)):
            if frame.filename == __file__:
                break  # all deeper frames are in libraries
            if not _LIBRARY.match(frame.filename):
                code = linecache.getline(frame.filename, frame.lineno or 0).strip()
                return f"{frame.filename}:{frame.lineno}, in {frame.name}\n      {code}"
    return ""
