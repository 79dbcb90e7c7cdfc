"""RepeatFirst: name the suit of the first card, at every step until the deck is empty.

Cards are dealt from a shuffled deck, one per step. Observations are one-hot suits, and the actions
are the suits.

| level | decks | steps |
|---|---|---|
| easy | 1 | 51 |
| medium | 8 | 415 |
| hard | 16 | 831 |
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.acting.cards import DECK, SUITS, SuitGame, deal, full_deck, shown
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.settings import RepeatFirstSettings

_DECKS = {"easy": 1, "medium": 8, "hard": 16}


class RepeatFirstState(NamedTuple):
    """The state of an episode."""

    left: Int[Array, " 4"]  # cards in the deck, by suit
    first: Int[Array, ""]  # the suit of the first card
    present: Int[Array, ""]  # the suit of the card that is shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatFirst(RepeatFirstSettings, SuitGame):
    """See the module. A correct action gains 1 / steps, a wrong one loses as much.

    Raises:
      ValueError: if a setting is out of range.

    Source: Morad et al. 2023, POPGym, popgym/envs/repeat_first.py.
    """

    @property
    def num_cards(self) -> int:
        """Cards in all decks."""
        return DECK * _DECKS[self.level]

    @property
    def observation_size(self) -> int:
        return len(SUITS)

    @property
    def max_steps(self) -> int:
        return self.num_cards - 1

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " 4"], RepeatFirstState]:
        """See `Environment.reset`."""
        suit, left = deal(key, full_deck(self.num_cards, len(SUITS)))
        return shown(suit, len(SUITS)), RepeatFirstState(left, suit, suit)

    def step(
        self, key: Array, state: RepeatFirstState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        suit, left = deal(key, state.left)
        return Transition(
            observation=shown(suit, len(SUITS)),
            state=RepeatFirstState(left, state.first, suit),
            reward=jnp.where(action == state.first, 1.0, -1.0) / self.max_steps,
            done=left.sum() == 0,
        )

    def observed(self, state: RepeatFirstState) -> str:
        """The suit of the present card."""
        return SUITS[state.present]
