"""What a formal language is: its symbols, its lengths, and how to draw a string and its answer."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.chomsky.settings import LanguageName

Level = Literal["regular", "deterministic context-free", "context-sensitive"]
Length = int | Int[Array, ""]

BITS = ("0", "1")
BITS_AND_END = (*BITS, "end")


class Strings(NamedTuple):
    """A string and its answer as numbers of symbols; what follows the two lengths is arbitrary.

    L is the largest length of an input, M that of its answer.
    """

    inputs: Int[Array, " L"]
    outputs: Int[Array, " M"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Language:
    """A formal language as a task from strings to strings.

    Attributes:
      name: its name on the command line.
      level: its class in the Chomsky hierarchy.
      inputs: the symbols of the input.
      outputs: the symbols of the answer.
      sample: (key, length, max_length) -> a string of this length, inside jit. `length` is a valid
        length and may be traced; `max_length`, which sets the shapes, is a Python number.
      output_length: the length of the answer to an input of a valid length.
      valid_length: the nearest valid length that is not above the given one.
      has_end: whether the last output symbol ends the answer. Then the symbols behind it are
        padding: they belong to the loss but not to the scores.
    """

    name: LanguageName
    level: Level
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sample: Callable[[Array, Int[Array, ""], int], Strings]
    output_length: Callable[[Length], Length] = lambda length: 1
    valid_length: Callable[[Length], Length] = lambda length: length
    has_end: bool = False


def random_tokens(key: Array, size: int, num_symbols: int) -> Int[Array, " {size}"]:
    """Independent and uniform symbols."""
    return jax.random.randint(key, (size,), 0, num_symbols, jnp.int32)


def rows(tokens: Int[Array, " N"], index: Int[Array, " M"]) -> Int[Array, " M"]:
    """tokens[index], for indices of which those outside of the tokens do not count."""
    return jnp.take(tokens, index, mode="clip")


def ended(answer: Int[Array, " N"], length: Int[Array, ""], end: int) -> Int[Array, " N"]:
    """The first `length` symbols, then the end symbol, then zeros."""
    place = jnp.arange(answer.shape[0])
    return jnp.where(place < length, answer, jnp.where(place == length, end, 0))
