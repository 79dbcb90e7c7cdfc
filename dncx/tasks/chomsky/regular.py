"""The regular languages; a finite automaton computes the answer, which is one symbol.

even-pairs           0 0 1 1 1 0      0    whether the pairs 01 and 10 are odd in number
modular-arithmetic   1 + 2 * 3        2    modulo 5; the length is odd
parity-check         0 1 1 1 1        0    whether the ones are odd in number
cycle-navigation     +1 -1 0 -1 -1    3    the place on a circle of 5, from 0
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.chomsky.language import BITS, Language, Strings, random_tokens

MODULUS = 5  # of the arithmetic, and the length of the circle
DIGITS = tuple(map(str, range(MODULUS)))
PLUS, MINUS, TIMES = MODULUS, MODULUS + 1, MODULUS + 2


def _even_pairs(key: Array, length: Int[Array, ""], size: int) -> Strings:
    """Each such pair changes the symbol, so their number is odd if the ends differ."""
    bits = random_tokens(key, size, 2)
    return Strings(bits, jnp.stack([bits[0] ^ bits[length - 1]]))


def _parity_check(key: Array, length: Int[Array, ""], size: int) -> Strings:
    bits = random_tokens(key, size, 2)
    ones = jnp.where(jnp.arange(size) < length, bits, 0).sum()
    return Strings(bits, jnp.stack([ones % 2]))


def _cycle_navigation(key: Array, length: Int[Array, ""], size: int) -> Strings:
    actions = random_tokens(key, size, 3)
    moves = jnp.where(jnp.arange(size) < length, actions - 1, 0)
    return Strings(actions, jnp.stack([moves.sum() % MODULUS]))


def _modular_arithmetic(key: Array, length: Int[Array, ""], size: int) -> Strings:
    digit_key, operator_key = jax.random.split(key)
    digits = random_tokens(digit_key, (size + 1) // 2, MODULUS)
    operators = random_tokens(operator_key, size // 2, 3) + PLUS
    tokens = jnp.zeros(size, jnp.int32).at[::2].set(digits).at[1::2].set(operators)

    def read(
        state: tuple[Array, Array], pair: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], None]:
        """`total` has the terms that are complete; products bind the last one."""
        total, term = state
        operator, digit, inside = pair
        times = operator == TIMES
        new = jnp.where(times, term * digit, jnp.where(operator == MINUS, -digit, digit)) % MODULUS
        total = jnp.where(inside & ~times, total + term, total)
        return (total, jnp.where(inside, new, term)), None

    inside = 2 * jnp.arange(size // 2) + 1 < length
    start = jnp.zeros((), jnp.int32), digits[0]
    (total, term), _ = jax.lax.scan(read, start, (operators, digits[1:], inside))
    return Strings(tokens, jnp.stack([(total + term) % MODULUS]))


REGULAR = (
    Language(name="even-pairs", level="regular", inputs=BITS, outputs=BITS, sample=_even_pairs),
    Language(
        name="modular-arithmetic",
        level="regular",
        inputs=(*DIGITS, "+", "-", "*"),
        outputs=DIGITS,
        sample=_modular_arithmetic,
        valid_length=lambda length: length - (length + 1) % 2,
    ),
    Language(name="parity-check", level="regular", inputs=BITS, outputs=BITS, sample=_parity_check),
    Language(
        name="cycle-navigation",
        level="regular",
        inputs=("-1", "0", "+1"),
        outputs=DIGITS,
        sample=_cycle_navigation,
    ),
)
