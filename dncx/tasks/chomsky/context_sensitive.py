"""The context-sensitive languages, for which a stack is not enough.

    duplicate-string        1 0 1                1 0 1 1 0 1
    missing-duplicate       0 1 1 0 0 _ 1 0      1              the bit at _
    odds-first              0 0 1 1 0 1 0 1      0 1 0 0 0 1 1 1
    binary-addition         0 0 1 + 0 1 1 0 1    0 1 0 1 1 end 0 0 0 0
    binary-multiplication   0 0 1 * 0 1 1 0 1    0 0 0 1 1 0 1 end 0
    compute-sqrt            1 0 0 1 0 1          1 1 0
    bucket-sort             1 0 2 0 4            0 0 1 2 4

Missing duplicate: "." pads an odd length; the string of length 1 is 1, with the answer 1. Addition
and multiplication: the lowest bit comes first, and numbers are positive. Inputs of length 1 and 2
have no operator: addition repeats their number, and multiplication answers 0. Square root: rounded
down; the highest bit comes first.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.chomsky.binary import carried, num_bits, product, random_positive, square_root
from dncx.tasks.chomsky.language import (
    BITS,
    BITS_AND_END,
    Language,
    Strings,
    ended,
    random_tokens,
    rows,
)

_OPERATOR, _END = 2, 2
_MISSING, _PADDING = 2, 3
_BUCKETS = 5


def _duplicate_string(key: Array, length: Int[Array, ""], size: int) -> Strings:
    bits = random_tokens(key, size, 2)
    return Strings(bits, bits[jnp.arange(2 * size) % length])


def _missing_duplicate(key: Array, length: Int[Array, ""], size: int) -> Strings:
    bit_key, place_key = jax.random.split(key)
    half = jnp.maximum(length // 2, 1)
    place = jnp.arange(size)
    twice = random_tokens(bit_key, size, 2)[place % half]
    missing = jax.random.randint(place_key, (), 0, 2 * half)
    tokens = jnp.where(place == missing, _MISSING, twice)
    tokens = jnp.where(place < 2 * half, tokens, _PADDING)
    real = length > 1
    answer = jnp.where(real, jnp.take(twice, missing, mode="clip"), 1)
    return Strings(jnp.where(real, tokens, 1), jnp.stack([answer]))


def _odds_first(key: Array, length: Int[Array, ""], size: int) -> Strings:
    """s_1 s_3 s_5 ... s_2 s_4 s_6 ...

    So says the documentation of the authors' code; the code itself puts s_2 s_4 s_6 ... first.
    """
    bits = random_tokens(key, size, 2)
    place, odds = jnp.arange(size), (length + 1) // 2
    return Strings(bits, rows(bits, jnp.where(place < odds, 2 * place, 2 * (place - odds) + 1)))


def _operands(key: Array, length: Int[Array, ""], size: int) -> tuple[Array, Array, Array]:
    """The tokens of "n o m", then n and m as bits.

    Inputs of length 1 and 2 are 0, or a number from 0 to 2; then this is n, and m is 0.
    """
    split_key, n_key, m_key, short_key = jax.random.split(key, 4)
    n_length = jax.random.randint(split_key, (), 1, jnp.maximum(length - 1, 2))
    n = random_positive(n_key, n_length, size)
    m = random_positive(m_key, length - 1 - n_length, size)
    place = jnp.arange(size)
    after = rows(m, place - n_length - 1)
    tokens = jnp.where(place < n_length, n, jnp.where(place == n_length, _OPERATOR, after))
    number = jax.random.randint(short_key, (), 0, jnp.where(length > 1, 3, 1))
    short = jnp.where(place < 2, number // jnp.where(place == 0, 1, 2) % 2, 0)
    is_short = length <= 2
    return (
        jnp.where(is_short, short, tokens),
        jnp.where(is_short, short, n),
        jnp.where(is_short, 0, m),
    )


def _binary_addition(key: Array, length: Int[Array, ""], size: int) -> Strings:
    tokens, n, m = _operands(key, length, size)
    total = carried(jnp.append(n + m, 0))
    return Strings(tokens, ended(total, jnp.maximum(num_bits(total), 1), _END))


def _binary_multiplication(key: Array, length: Int[Array, ""], size: int) -> Strings:
    tokens, n, m = _operands(key, length, size)
    bits = product(n, m)
    # The product 0 is one digit, for which an input of length 1 has no place.
    digits = jnp.minimum(jnp.maximum(num_bits(bits), 1), length - 1)
    return Strings(tokens, ended(bits, digits, _END))


def _compute_sqrt(key: Array, length: Int[Array, ""], size: int) -> Strings:
    number = random_positive(key, length, size)
    return Strings(number, square_root(number, length))


def _bucket_sort(key: Array, length: Int[Array, ""], size: int) -> Strings:
    tokens = random_tokens(key, size, _BUCKETS)
    return Strings(tokens, jnp.sort(jnp.where(jnp.arange(size) < length, tokens, _BUCKETS)))


CONTEXT_SENSITIVE = (
    Language(
        name="duplicate-string",
        level="context-sensitive",
        inputs=BITS,
        outputs=BITS,
        sample=_duplicate_string,
        output_length=lambda length: 2 * length,
    ),
    Language(
        name="missing-duplicate",
        level="context-sensitive",
        inputs=(*BITS, "_", "."),
        outputs=BITS,
        sample=_missing_duplicate,
    ),
    Language(
        name="odds-first",
        level="context-sensitive",
        inputs=BITS,
        outputs=BITS,
        sample=_odds_first,
        output_length=lambda length: length,
    ),
    Language(
        name="binary-addition",
        level="context-sensitive",
        inputs=(*BITS, "+"),
        outputs=BITS_AND_END,
        sample=_binary_addition,
        output_length=lambda length: length + 1,
        has_end=True,
    ),
    Language(
        name="binary-multiplication",
        level="context-sensitive",
        inputs=(*BITS, "*"),
        outputs=BITS_AND_END,
        sample=_binary_multiplication,
        output_length=lambda length: length,
        has_end=True,
    ),
    Language(
        name="compute-sqrt",
        level="context-sensitive",
        inputs=BITS,
        outputs=BITS,
        sample=_compute_sqrt,
        output_length=lambda length: (length + 1) // 2,
    ),
    Language(
        name="bucket-sort",
        level="context-sensitive",
        inputs=tuple(map(str, range(_BUCKETS))),
        outputs=tuple(map(str, range(_BUCKETS))),
        sample=_bucket_sort,
        output_length=lambda length: length,
    ),
)
