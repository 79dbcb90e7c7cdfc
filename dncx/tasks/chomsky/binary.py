"""Arithmetic on binary numbers of any length, as arrays of bits; [bit 0, bit 1, ...] unless stated.

Numbers of 2,000 bits fit into no type of the device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dncx.tasks.chomsky.language import random_tokens


def random_positive(key: Array, length: Int[Array, ""], size: int) -> Int[Array, " {size}"]:
    """A number, uniform between 1 and 2^length - 1; in either order of its bits.

    The first bit that is 1 is at place i with a probability proportional to 2^-i; the bits behind
    it are fair coins.
    """
    first_key, key = jax.random.split(key)
    place = jnp.arange(size)
    chances = -np.log(2).astype(np.float32) * place.astype(jnp.float32)
    first = jax.random.categorical(first_key, jnp.where(place < length, chances, -jnp.inf))
    bits = jnp.where(place > first, random_tokens(key, size, 2), (place == first).astype(jnp.int32))
    return jnp.where(place < length, bits, 0)


def num_bits(number: Int[Array, " N"]) -> Int[Array, ""]:
    """Bits without leading zeros; 0 for the number 0."""
    return jnp.where(number > 0, jnp.arange(1, number.shape[0] + 1), 0).max()


def carried(digits: Int[Array, " N"]) -> Int[Array, " N"]:
    """The bits of the sum over i of digits[i] 2^i, modulo 2^N."""

    def carry(carry: Array, digit: Array) -> tuple[Array, Array]:
        return (carry + digit) // 2, (carry + digit) % 2

    return jax.lax.scan(carry, jnp.zeros((), digits.dtype), digits)[1]


def product(n: Int[Array, " N"], m: Int[Array, " N"]) -> Int[Array, " N"]:
    """n m modulo 2^N, by Horner's scheme with a single carry at the end."""

    def double_and_add(digits: Array, bit: Array) -> tuple[Array, None]:
        return jnp.concatenate([jnp.zeros(1, n.dtype), digits[:-1]]) + bit * n, None

    return carried(jax.lax.scan(double_and_add, jnp.zeros_like(n), m[::-1])[0])


def square_root(number: Int[Array, " L"], length: Int[Array, ""]) -> Int[Array, " M"]:
    """⌊√number⌋ of a number of `length` bits. Here the highest bit comes first, in both.

    Digit by digit, as by hand: each pair of bits gives one bit of the root. The first (length + 1)
    // 2 of the M = (L + 1) // 2 bits count.
    """
    size = (number.shape[0] + 1) // 2
    odd = length % 2  # the first pair of a number of odd length begins with a 0
    index = 2 * jnp.arange(size) - odd
    high = jnp.where(index < 0, 0, jnp.take(number, index, mode="clip"))
    low = jnp.take(number, index + 1, mode="clip")

    def next_bit(state: tuple[Array, Array], pair: Array) -> tuple[tuple[Array, Array], Array]:
        """The remainder r and the root q: 4 r + pair, less 4 q + 1 if it is not below."""
        remainder, root = state
        remainder = jnp.concatenate([pair, remainder[:-2]])
        trial = jnp.concatenate([jnp.array([1, 0], root.dtype), root[:-2]])
        less, difference = _subtracted(remainder, trial)
        remainder = jnp.where(less, remainder, difference)
        bit = 1 - less.astype(root.dtype)
        return (remainder, jnp.concatenate([bit[None], root[:-1]])), bit

    zero = jnp.zeros(size + 3, number.dtype)  # the remainder is at most twice the root
    return jax.lax.scan(next_bit, (zero, zero), jnp.stack([low, high], axis=1))[1]


def _subtracted(n: Int[Array, " N"], m: Int[Array, " N"]) -> tuple[Array, Int[Array, " N"]]:
    """Whether n < m, and n - m modulo 2^N.

    A bit borrows if n < m in the highest of the bits below it in which the two differ.
    """
    place = 2 * jnp.arange(1, n.shape[0] + 1, dtype=n.dtype)
    borrows = jax.lax.cummax(jnp.where(n != m, place + (n < m).astype(n.dtype), 0)) % 2
    below = jnp.concatenate([jnp.zeros(1, n.dtype), borrows[:-1]])
    return borrows[-1] > 0, (n - m - below) % 2
