"""Autoencode: watch all cards of a deck, then name their suits in reverse order.

An episode with N cards has 2 N - 1 steps. The actions are the suits:

    step         0 .. N-2    N-1          N .. 2N-2
    observation  watch       recall       recall
                 card        last card    spades
    reward       0           +-1/N        +-1/N

Observations are two one-hot vectors: recall or watch, and a suit. While the agent recalls, the suit
says nothing; it is spades, as in POPGym.

| level | decks | N | steps |
|---|---|---|---|
| easy | 1 | 52 | 103 |
| medium | 2 | 104 | 207 |
| hard | 3 | 156 | 311 |
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.acting.cards import DECK, SUITS, SuitGame, deal, full_deck, shown
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.settings import AutoencodeSettings

_DECKS = {"easy": 1, "medium": 2, "hard": 3}


class AutoencodeState(NamedTuple):
    """The state of an episode."""

    left: Int[Array, " 4"]  # cards in the deck, by suit
    cards: Int[Array, " N"]  # the suits of the cards, in the order in which they are shown
    time: Int[Array, ""]  # number of actions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencode(AutoencodeSettings, SuitGame):
    """See the module.

    Raises:
      ValueError: if a setting is out of range.

    Source: Morad et al. 2023, POPGym, popgym/envs/autoencode.py.
    """

    @property
    def num_cards(self) -> int:
        """N: cards in all decks."""
        return DECK * _DECKS[self.level]

    @property
    def slots_needed(self) -> int:
        """One slot per card."""
        return self.num_cards

    @property
    def observation_size(self) -> int:
        return 2 + len(SUITS)

    @property
    def max_steps(self) -> int:
        return 2 * self.num_cards - 1

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " 6"], AutoencodeState]:
        """See `Environment.reset`."""
        suit, left = deal(key, full_deck(self.num_cards, len(SUITS)))
        cards = jnp.zeros(self.num_cards, jnp.int32).at[0].set(suit)
        state = AutoencodeState(left, cards, jnp.int32(0))
        return self._observation(state), state

    def step(
        self, key: Array, state: AutoencodeState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        last, time = self.num_cards - 1, state.time + 1
        suit, left = deal(key, state.left)
        # Once all cards were shown, the index is out of bounds, and nothing is written.
        cards = state.cards.at[time].set(suit, mode="drop")
        correct = action == state.cards[2 * last - state.time]
        gain = jnp.where(correct, 1.0, -1.0) / self.num_cards
        following = AutoencodeState(left, cards, time)
        return Transition(
            observation=self._observation(following),
            state=following,
            reward=jnp.where(state.time < last, 0.0, gain),
            done=time >= self.max_steps,
        )

    def _observation(self, state: AutoencodeState) -> Float[Array, " 6"]:
        watching, is_card = state.time < self.num_cards - 1, state.time < self.num_cards
        suit = jnp.where(is_card, state.cards[state.time], 0)
        return jnp.concatenate([shown(jnp.where(watching, 1, 0), 2), shown(suit, len(SUITS))])

    def observed(self, state: AutoencodeState) -> str:
        """What to do, and the suit of a card."""
        if state.time >= self.num_cards:
            return "recall"
        mode = "watch" if state.time < self.num_cards - 1 else "recall, last card:"
        return f"{mode} {SUITS[state.cards[state.time]]}"
