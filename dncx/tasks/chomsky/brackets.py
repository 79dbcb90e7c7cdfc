"""Random arithmetic with brackets, modulo 5: expressions of a given length, and their values.

An expression of length n is d, -d, (d) or (-d) with a random digit d if n is 1, 2, 3 or 4. If n is
larger, it is (A o B) with a random operator o; the length of the expression A is uniform between 1
and n - 4.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.chomsky.language import random_tokens
from dncx.tasks.chomsky.regular import DIGITS, MINUS, MODULUS, PLUS, TIMES

OPEN, CLOSE = TIMES + 1, TIMES + 2
SYMBOLS = (*DIGITS, "+", "-", "*", "(", ")")


def draw_expression(
    key: Array, length: Int[Array, ""], size: int, num_operators: int
) -> Int[Array, " {size}"]:
    """An expression of this length, followed by the digit 0.

    Each step takes the next part off a stack, writes its first token, and puts the rest back.

    Args:
      key: the source of randomness.
      length: at least 1.
      size: the largest length.
      num_operators: the first 2 or 3 of +, - and *.
    """
    digit_key, operator_key, split_key = jax.random.split(key, 3)
    drawn = (
        random_tokens(digit_key, size, MODULUS),
        random_tokens(operator_key, size, num_operators) + PLUS,
        random_tokens(split_key, size, 2**31 - 1),
    )

    def write(
        state: tuple[Array, Array], drawn: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        """Parts on the stack: n > 0 is an expression of length n, and -n - 1 the token n."""
        stack, height = state
        digit, operator, split = drawn
        part = jnp.where(height > 0, stack[height - 1], -1)  # -1: the digit 0, behind the end
        left = 1 + split % jnp.maximum(part - 4, 1)
        pair = jnp.stack([jnp.full_like(part, -CLOSE - 1), part - 3 - left, -operator - 1, left])
        group = jnp.stack([jnp.full_like(part, -CLOSE - 1), part - 2, part, part])
        rest = jnp.where(part >= 5, pair, jnp.where(part >= 3, group, 1))
        num_parts = jnp.select([part >= 5, part >= 3, part == 2], [4, 2, 1], 0)
        token = jnp.select(
            [part >= 3, part == 2, part == 1],
            [jnp.full_like(part, OPEN), jnp.full_like(part, MINUS), digit],
            -part - 1,
        )
        below = jnp.maximum(height - 1, 0)
        stack = jax.lax.dynamic_update_slice(stack, rest, (below,))
        return (stack, below + num_parts), token

    # No part is empty, so there are at most `size` of them. A step writes four places.
    stack = jnp.zeros(size + 4, jnp.int32).at[0].set(length)
    return jax.lax.scan(write, (stack, jnp.ones((), jnp.int32)), drawn)[1]


def value_of(tokens: Int[Array, " L"]) -> Int[Array, ""]:
    """The value of an expression that `draw_expression` wrote, modulo 5.

    Inside of each open bracket there is a value so far and an operator, at first 0 and +. The zeros
    behind the expression are added to its value.
    """
    before = jnp.concatenate([jnp.full(1, OPEN, tokens.dtype), tokens[:-1]])
    operator = (tokens >= PLUS) & (tokens <= TIMES)
    is_binary = operator & ((before < MODULUS) | (before == CLOSE))
    is_sign = operator & ~is_binary
    negated = jnp.concatenate([jnp.zeros(1, bool), is_sign[:-1]])
    signed = jnp.where(negated, -tokens, tokens)

    def read(
        state: tuple[Array, Array, Array], now: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array, Array], None]:
        values, operators, depth = state
        token, operand, is_binary = now
        opens, closes = token == OPEN, token == CLOSE
        operand = jnp.where(closes, values[depth], operand)
        depth = depth + jnp.where(opens, 1, jnp.where(closes, -1, 0))
        value, operator = values[depth], operators[depth]
        joined = _joined(value, operator, operand)
        value = jnp.where(closes | (token < MODULUS), joined, jnp.where(opens, 0, value))
        operator = jnp.where(is_binary, token, jnp.where(opens, PLUS, operator))
        return (values.at[depth].set(value), operators.at[depth].set(operator), depth), None

    values = jnp.zeros(tokens.shape[0] + 1, tokens.dtype)
    start = values, jnp.full_like(values, PLUS), jnp.zeros((), jnp.int32)
    return jax.lax.scan(read, start, (tokens, signed, is_binary))[0][0][0]


def _joined(
    left: Int[Array, ""], operator: Int[Array, ""], right: Int[Array, ""]
) -> Int[Array, ""]:
    values = [left + right, left - right]
    return jnp.select([operator == PLUS, operator == MINUS], values, left * right) % MODULUS
