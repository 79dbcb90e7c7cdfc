"""Running a loss one operation at a time, up to the first number that is not finite."""

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

from dncx.networks.build import Embedded, cell_of

_MESSAGE = re.compile(r"invalid value \((\w+)\) encountered in (\w+)")  # JAX's
_LIBRARY = re.compile(r".*/site-packages/(jax|flax|optax|jaxtyping|beartype)/|<")


class Origin(NamedTuple):
    """The first operation that gave a number that is not finite."""

    operation: str  # JAX's name
    kind: str  # "nan" or "inf"
    step: int | None  # the time step; None outside of the network, as in the loss
    place: str  # file, line, function and code; "" if JAX does not tell


class _WatchedNetwork(Embedded):
    """A network whose cell is watched."""

    def __init__(self, network: Any, now: SimpleNamespace):
        self.embedding: Any = getattr(network, "embedding", lambda inputs: inputs)
        self.cell = _WatchedCell(cell_of(network), now)


class _WatchedCell(nnx.Module):
    """A cell that notes the time step that a replay is in, forward and backward."""

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

        def enter(_: None, gradient: Any) -> tuple[Any]:  # the backward pass comes to this step
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
    """The first operation that gives NaN in the loss of a network, if any does.

    Args:
      loss: a function of a network.
      graph, params: a network in the plain implementation, whose lines are single operations.
      gradient: whether to look into the gradient, too.
      infinite: whether infinity counts, too: in the loss, in gradients and in a step's results.
    """
    now = SimpleNamespace(step=None, infinite=infinite)

    def watched_loss(params: Any) -> Array:
        return loss(_WatchedNetwork(nnx.merge(graph, params), now))

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

    For an operation of the backward pass JAX keeps the line of the forward pass as the error's
    cause. Only the backward function of a `custom_vjp` is a line of its own.
    """
    for one in (error, error.__cause__):
        for frame in reversed(traceback.extract_tb(one.__traceback__ if one else None)):
            if frame.filename == __file__:
                break  # all that it called is in libraries
            if not _LIBRARY.match(frame.filename):
                code = linecache.getline(frame.filename, frame.lineno or 0).strip()
                return f"{frame.filename}:{frame.lineno}, in {frame.name}\n      {code}"
    return ""
