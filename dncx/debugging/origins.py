"""Where numbers that are not finite come from: what is known of a value, and of an operation."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core, source_info_util
from jaxtyping import Array

FINITE, INFINITE, NAN = range(3)  # what there is in an array: the worst of it

_FRAME = re.compile(r"(.+?):(\d+)(?::\d+)? \((.+)\)")
_FRAMES = 100  # of a source, at most
_LIBRARIES = ("jax", "flax", "optax", "jaxtyping", "beartype")
_JAX = str(Path(jax.__file__).parent)


class Place(NamedTuple):
    """A line of Python."""

    file: str
    line: int
    function: str


class Step(NamedTuple):
    """Where in a loop."""

    number: int  # from 0; in a backward pass it is that of the forward pass
    length: int | None  # None for `while`
    reverse: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """An operation that made numbers that are not finite, or an argument that has them."""

    order: int  # in which they were found
    operation: str  # the name of the primitive; of an argument its own
    place: Place | None = None
    scope: str = ""  # JAX's names for where it is
    steps: tuple[Step, ...] = ()  # of the loops that it is in, the outermost first
    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()
    cause: "Origin | None" = None  # of the infinities that it made NaN of

    @property
    def root(self) -> "Origin":
        """Where finite numbers were left first."""
        return self.cause.root if self.cause else self


class Value(NamedTuple):
    """An array, what there is in it, and where that is from."""

    array: Any
    kind: int = FINITE
    origin: Origin | None = None  # None also for constants of the program, such as -inf
    rows: tuple[Origin | None, ...] | None = None  # of every step, for what a loop gave
    constant: bool = False


class Context(NamedTuple):
    """What an operation is in."""

    place: Place | None = None  # the line that called a function of JAX
    scope: str = ""
    steps: tuple[Step, ...] = ()

    def within(self, eqn: core.JaxprEqn, program: core.ClosedJaxpr) -> "Context":
        """What the operations of a program that an operation holds are in.

        JAX keeps what it made of its own functions (`jnp.where`) and uses it again, so the lines
        that it knows inside are of their first caller.
        """
        place, file = self.place, program.jaxpr.debug_info.func_filename or ""
        if place is None and eqn.primitive.name in ("jit", "pjit") and file.startswith(_JAX):
            place = place_of(eqn)
        return Context(place, self.scope_of(eqn), self.steps)

    def scope_of(self, eqn: core.JaxprEqn) -> str:
        """JAX's names for where an operation is."""
        return "/".join(filter(None, (self.scope, str(eqn.source_info.name_stack))))


def kind_of(array: Any) -> int:
    """The worst that is in an array."""
    if not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
        return FINITE
    numbers = np.asarray(array)
    if np.isfinite(numbers).all():
        return FINITE
    return NAN if np.isnan(numbers).any() else INFINITE


def constant_value(array: Any) -> Value:
    """What is in a program itself."""
    return Value(array, kind_of(array), constant=True)


def mended(array: Any) -> Any:
    """The same, with a small number in the place of all that are not finite."""
    return jnp.where(jnp.isfinite(array), array, jnp.asarray(0.5, array.dtype))


def earliest(origins: Sequence[Origin]) -> Origin | None:
    """The one that began first, with all that came of it."""
    return min(origins, key=lambda origin: (origin.root.order, -origin.order), default=None)


class Stack:
    """What a loop gives at each step, one behind the other."""

    def __init__(self, aval: Any, length: int):
        plain = not jnp.issubdtype(aval.dtype, jax.dtypes.extended)  # else random keys
        self.numbers = np.empty((length, *aval.shape), aval.dtype) if plain else None
        self.values: list[Value] = [Value(None)] * length

    def put(self, index: int, value: Value) -> None:
        """The result of a step; its numbers are copied, so that it can go."""
        if self.numbers is not None:
            self.numbers[index] = np.asarray(value.array)
            value = value._replace(array=None)
        self.values[index] = value

    def value(self) -> Value:
        """All of them."""
        array = self.numbers
        if array is None:
            array = jnp.stack([value.array for value in self.values])
        rows = tuple(value.origin for value in self.values)
        return Value(
            array=jnp.asarray(array),
            kind=max(value.kind for value in self.values),
            origin=earliest([origin for origin in rows if origin]),
            rows=rows if any(rows) else None,
            constant=any(value.constant for value in self.values) and not any(rows),
        )


def rows_at(xs: list[Value], kinds: list[list[int]], index: int) -> list[Value]:
    """What a step of a loop takes of what has a part for every step."""
    arrays = _pick([value.array for value in xs], jnp.asarray(index, jnp.int32))
    rows = []
    for value, kind, array in zip(xs, kinds, arrays, strict=True):
        origin = value.rows[index] if value.rows else value.origin
        rows.append(
            Value(array, kind[index], origin if kind[index] else None, constant=value.constant)
        )
    return rows


@jax.jit
def _pick(arrays: list[Any], index: Array) -> list[Any]:
    return [jax.lax.dynamic_index_in_dim(array, index, keepdims=False) for array in arrays]


def row_kinds(value: Value, length: int) -> list[int]:
    """`kind_of` each of the parts of what has one for every step of a loop."""
    return [kind_of(row) for row in np.asarray(value.array)] if value.kind else [FINITE] * length


def place_of(eqn: core.JaxprEqn) -> Place | None:
    """The innermost line that an operation comes from of dncx or of somebody's own program."""
    try:
        text = source_info_util.summarize(eqn.source_info, num_frames=_FRAMES)
    except (AttributeError, TypeError):  # jax.extend may change with any version of JAX
        return None
    for frame in reversed(text.splitlines()):
        found = _FRAME.fullmatch(frame.strip())
        if found and not _of_a_library(found[1]):
            return Place(found[1], int(found[2]), found[3])
    return None


def _of_a_library(file: str) -> bool:
    _, installed, path = file.replace("\\", "/").rpartition("/site-packages/")
    return file.startswith("<") or (bool(installed) and path.partition("/")[0] in _LIBRARIES)
