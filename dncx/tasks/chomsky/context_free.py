"""The deterministic context-free languages, for which an automaton needs a stack.

    stack-manipulation            0 1 1 0 push1 pop pop    1 1 0 end 0 0 0 0
    reverse-string                0 1 1 0 1                1 0 1 1 0
    modular-arithmetic-brackets   ( ( - 2 ) * ( 3 + 4 ) )  1
    solve-equation                ( x + 4 ) = 1            2

Stack manipulation: bits from the bottom of a stack to its top, then actions; the answer is the
final stack from top to bottom. A pop of an empty stack does nothing. Arithmetic is modulo 5.
Equations of length 1 and 2 are zeros, with the answer 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.chomsky.brackets import SYMBOLS, draw_expression, value_of
from dncx.tasks.chomsky.language import (
    BITS,
    BITS_AND_END,
    Language,
    Strings,
    ended,
    random_tokens,
    rows,
)
from dncx.tasks.chomsky.regular import DIGITS, MODULUS, TIMES

_POP, _PUSH_0, _END = 2, 3, 2
_EQUATION = (*(symbol for symbol in SYMBOLS if symbol != "*"), "x", "=")
_UNKNOWN, _EQUALS = len(_EQUATION) - 2, len(_EQUATION) - 1


def _stack_manipulation(key: Array, length: Int[Array, ""], size: int) -> Strings:
    split_key, bit_key, action_key = jax.random.split(key, 3)
    num_bits = jax.random.randint(split_key, (), 1, jnp.maximum(length, 2))
    place = jnp.arange(size)
    actions = random_tokens(action_key, size, 3) + _POP
    tokens = jnp.where(place < num_bits, random_tokens(bit_key, size, 2), actions)

    def act(
        state: tuple[Array, Array], now: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        """The bits at the beginning are pushed, too."""
        stack, height = state
        token, inside = now
        pops = token == _POP
        bit = jnp.where(token < _POP, token, token - _PUSH_0)
        stack = stack.at[jnp.where(pops, size, height)].set(bit, mode="drop")
        after = jnp.where(pops, jnp.maximum(height - 1, 0), height + 1)
        return (stack, jnp.where(inside, after, height)), None

    start = jnp.zeros(size, jnp.int32), jnp.zeros((), jnp.int32)
    (stack, height), _ = jax.lax.scan(act, start, (tokens, place < length))
    popped = rows(stack, height - 1 - jnp.arange(size + 1))
    return Strings(tokens, ended(popped, height, _END))


def _reverse_string(key: Array, length: Int[Array, ""], size: int) -> Strings:
    bits = random_tokens(key, size, 2)
    return Strings(bits, rows(bits, length - 1 - jnp.arange(size)))


def _modular_arithmetic_brackets(key: Array, length: Int[Array, ""], size: int) -> Strings:
    tokens = draw_expression(key, length, size, num_operators=3)
    return Strings(tokens, jnp.stack([value_of(tokens)]))


def _solve_equation(key: Array, length: Int[Array, ""], size: int) -> Strings:
    """A random digit is hidden: the first one at or after a random place, or else the first one."""
    expression_key, place_key = jax.random.split(key)
    count = jnp.maximum(length - 2, 1)
    expression = draw_expression(expression_key, count, size, num_operators=2)
    place = jnp.arange(size)
    is_digit = (expression < MODULUS) & (place < count)
    start = jax.random.randint(place_key, (), 0, count)
    hidden = jnp.argmin(jnp.where(is_digit, (place - start) % count, size))
    tokens = jnp.where(expression > TIMES, expression - 1, expression).at[hidden].set(_UNKNOWN)
    tokens = jnp.where(place == count, _EQUALS, tokens)
    tokens = jnp.where(place == count + 1, value_of(expression), tokens)
    real = length > 2
    return Strings(jnp.where(real, tokens, 0), jnp.stack([jnp.where(real, expression[hidden], 0)]))


CONTEXT_FREE = (
    Language(
        name="stack-manipulation",
        level="deterministic context-free",
        inputs=(*BITS, "pop", "push0", "push1"),
        outputs=BITS_AND_END,
        sample=_stack_manipulation,
        output_length=lambda length: length + 1,
        has_end=True,
    ),
    Language(
        name="reverse-string",
        level="deterministic context-free",
        inputs=BITS,
        outputs=BITS,
        sample=_reverse_string,
        output_length=lambda length: length,
    ),
    Language(
        name="modular-arithmetic-brackets",
        level="deterministic context-free",
        inputs=SYMBOLS,
        outputs=DIGITS,
        sample=_modular_arithmetic_brackets,
    ),
    Language(
        name="solve-equation",
        level="deterministic context-free",
        inputs=_EQUATION,
        outputs=DIGITS,
        sample=_solve_equation,
    ),
)
