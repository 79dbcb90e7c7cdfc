"""Concentration: find the pairs among N cards that lie face down.

An action turns a card. Two cards of one kind stay face up and gain 2 / N; two that differ are
turned back after the next observation, and lose 2 / steps. Turning a card that is already face up
ends the turn, and loses 1 / steps for each card of it. An episode ends when all cards are face up,
or after its last step. An observation has one vector per place: the kind of the card, one-hot, or
zeros if it lies face down.

| level | N | kinds | steps |
|---|---|---|---|
| easy | 52 | 2 colours | 104 |
| medium | 104 | 2 colours | 208 |
| hard | 52 | 13 ranks | 104 |

The best return needs luck, since the first card of a kind is found by chance.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dncx.tasks.acting.cards import COLOURS, DECK, RANKS, CardGame, deal, full_deck, shown
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.settings import ConcentrationSettings

_DECKS_AND_KINDS = {"easy": (1, COLOURS), "medium": (2, COLOURS), "hard": (1, RANKS)}


class ConcentrationState(NamedTuple):
    """The state of an episode."""

    left: Int[Array, " K"]  # cards that have not been turned so far, by kind
    kinds: Int[Array, " N"]  # the kind of the card at each place; -1: not turned so far
    paired: Bool[Array, " N"]  # places whose cards stay face up
    visible: Bool[Array, " N"]  # places whose cards the agent sees
    first: Int[Array, ""]  # the place of the first card of a turn; -1: a new turn begins
    time: Int[Array, ""]  # number of actions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Concentration(ConcentrationSettings, CardGame):
    """See the module.

    Raises:
      ValueError: if a setting is out of range.

    Source: Morad et al. 2023, POPGym, popgym/envs/concentration.py. There, a place has one more
    kind for a card that lies face down.
    """

    @property
    def num_cards(self) -> int:
        """N: cards in all decks."""
        return DECK * _DECKS_AND_KINDS[self.level][0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the K kinds."""
        return _DECKS_AND_KINDS[self.level][1]

    @property
    def slots_needed(self) -> int:
        """One slot per card."""
        return self.num_cards

    @property
    def observation_size(self) -> int:
        return self.num_cards * len(self.kinds)

    @property
    def num_actions(self) -> int:
        return self.num_cards

    @property
    def max_steps(self) -> int:
        """POPGym's bound, from the number of turns that perfect play takes on average."""
        n = self.num_cards
        return math.ceil(2 * n - n / (2 * n - 1))

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " F"], ConcentrationState]:
        """See `Environment.reset`."""
        nowhere = jnp.zeros(self.num_cards, bool)
        state = ConcentrationState(
            left=full_deck(self.num_cards, len(self.kinds)),
            kinds=jnp.full(self.num_cards, -1, jnp.int32),
            paired=nowhere,
            visible=nowhere,
            first=jnp.int32(-1),
            time=jnp.int32(0),
        )
        return self._observation(state), state

    def step(
        self, key: Array, state: ConcentrationState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        places = jnp.arange(self.num_cards)
        here, first = places == action, places == state.first
        # A card gets its kind when it is first turned; see `deal`.
        drawn, left = deal(key, state.left)
        is_new = state.kinds[action] < 0
        kinds = jnp.where(here & is_new, drawn, state.kinds)

        is_second = state.first >= 0
        was_up = state.paired[action]
        matches = (kinds[action] == kinds[state.first]) & (action != state.first)
        is_pair = is_second & ~was_up & matches
        ends = was_up | is_second
        lost = jnp.where(is_second, 2, 1) / self.max_steps
        following = ConcentrationState(
            left=jnp.where(is_new, left, state.left),
            kinds=kinds,
            paired=state.paired | is_pair & (here | first),
            visible=state.paired | here | first,
            first=jnp.where(ends, -1, action),
            time=state.time + 1,
        )
        return Transition(
            observation=self._observation(following),
            state=following,
            reward=jnp.where(is_pair, 2 / self.num_cards, jnp.where(ends, -lost, 0.0)),
            done=following.paired.all() | (following.time >= self.max_steps),
        )

    def _observation(self, state: ConcentrationState) -> Float[Array, " F"]:
        return shown(jnp.where(state.visible, state.kinds, -1), len(self.kinds)).ravel()

    def observed(self, state: ConcentrationState) -> str:
        """The cards that were just turned, and the number of pairs."""
        turned = [f"{i} {self.kinds[state.kinds[i]]}" for i in _places(state)]
        return ", ".join([*turned, f"{int(state.paired.sum()) // 2} pairs"])

    def action_name(self, action: int) -> str:
        """The place of a card."""
        return f"turn {action}"


def _places(state: ConcentrationState) -> list[int]:
    """The places of visible cards without a partner, in NumPy."""
    return [int(place) for place in (state.visible & ~state.paired).nonzero()[0]]
