"""Decks of 52 cards, from which an environment deals one card after another."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.acting.playing import Playing
from dncx.tasks.acting.settings import check_acting, check_level

DECK = 52  # cards
SUITS = ("spades", "diamonds", "clubs", "hearts")
COLOURS = ("black", "red")
RANKS = ("ace", *map(str, range(2, 11)), "jack", "queen", "king")


def full_deck(num_cards: int, num_kinds: int) -> Int[Array, " K"]:
    """The number of cards of each kind, such as a suit, in a deck or several."""
    return jnp.full(num_kinds, num_cards // num_kinds, jnp.int32)


def deal(key: Array, left: Int[Array, " K"]) -> tuple[Int[Array, ""], Int[Array, " K"]]:
    """The kind of the next card of a shuffled deck.

    The card is drawn from those that are left, when it is dealt. This has the same probabilities as
    shuffling the deck first, but a new episode costs nothing. (The trainer prepares one at every
    step, in case the present one ends.)

    Args:
      key: for the draw.
      left: the number of cards left of each kind, not all 0.

    Returns:
      The kind, and the cards left after it.
    """
    ends = jnp.cumsum(left)
    card = jax.random.randint(key, (), 0, ends[-1])
    kind = (ends <= card).sum(dtype=jnp.int32)
    return kind, left - jax.nn.one_hot(kind, left.size, dtype=jnp.int32)


def shown(kind: Int[Array, "..."], num_kinds: int) -> Float[Array, "..."]:
    """A kind as a one-hot vector; -1 as zeros."""
    return jax.nn.one_hot(kind, num_kinds, dtype=jnp.float32)


class CardGame(Playing):
    """What the card games of POPGym share: levels, and returns between -1 and 1."""

    def __post_init__(self: Any) -> None:
        check_acting(self)
        check_level(self)

    @property
    def return_bounds(self) -> tuple[float, float]:
        return -1.0, 1.0


class SuitGame(CardGame):
    """A card game in which the agent names suits."""

    @property
    def num_actions(self) -> int:
        return len(SUITS)

    def action_name(self, action: int) -> str:
        """A suit."""
        return SUITS[action]
