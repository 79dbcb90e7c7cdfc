"""RepeatPrevious: name the suit of the card shown k - 1 steps before the present one.

Cards are dealt from a shuffled deck, one per step. Observations are one-hot suits, and the actions
are the suits. The k - 1 actions before the k-th card do not count.

| level | decks | k | steps |
|---|---|---|---|
| easy | 1 | 4 | 51 |
| medium | 2 | 32 | 103 |
| hard | 3 | 64 | 155 |
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.acting.cards import DECK, SUITS, SuitGame, deal, full_deck, shown
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.settings import RepeatPreviousSettings

_DECKS_AND_K = {"easy": (1, 4), "medium": (2, 32), "hard": (3, 64)}


class RepeatPreviousState(NamedTuple):
    """The state of an episode."""

    left: Int[Array, " 4"]  # cards in the deck, by suit
    last: Int[Array, " k"]  # the suits of the last k cards, the newest at the end; -1: none yet


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatPrevious(RepeatPreviousSettings, SuitGame):
    """See the module. A correct action gains 1 / (cards - k), a wrong one loses as much.

    Raises:
      ValueError: if a setting is out of range.

    Source: Morad et al. 2023, POPGym, popgym/envs/repeat_previous.py.
    """

    @property
    def num_cards(self) -> int:
        """Cards in all decks."""
        return DECK * _DECKS_AND_K[self.level][0]

    @property
    def k(self) -> int:
        """The number of cards to remember, with the present one."""
        return _DECKS_AND_K[self.level][1]

    @property
    def slots_needed(self) -> int:
        """One slot for each of the last k cards."""
        return self.k

    @property
    def observation_size(self) -> int:
        return len(SUITS)

    @property
    def max_steps(self) -> int:
        return self.num_cards - 1

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " 4"], RepeatPreviousState]:
        """See `Environment.reset`."""
        suit, left = deal(key, full_deck(self.num_cards, len(SUITS)))
        last = jnp.full(self.k, -1, jnp.int32).at[-1].set(suit)
        return shown(suit, len(SUITS)), RepeatPreviousState(left, last)

    def step(
        self, key: Array, state: RepeatPreviousState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        wanted = state.last[0]
        gain = jnp.where(action == wanted, 1.0, -1.0) / (self.num_cards - self.k)
        suit, left = deal(key, state.left)
        return Transition(
            observation=shown(suit, len(SUITS)),
            state=RepeatPreviousState(left, jnp.append(state.last[1:], suit)),
            reward=jnp.where(wanted < 0, 0.0, gain),
            done=left.sum() == 0,
        )

    def observed(self, state: RepeatPreviousState) -> str:
        """The suit of the present card."""
        return SUITS[state.last[-1]]
