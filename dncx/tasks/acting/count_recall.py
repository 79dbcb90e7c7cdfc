"""CountRecall: state how many cards of the queried kind have been shown so far.

Two shuffled decks are dealt in parallel, one card per step from each. The card of the first is
shown, and the card of the second is the query. Observations are two one-hot kinds: the card, the
query. The actions are the counts from 0 to the number of cards of a kind; the card on show counts.

| level | decks | kinds | actions | steps |
|---|---|---|---|---|
| easy | 1 | 2 colours | 27 | 51 |
| medium | 2 | 4 suits | 27 | 103 |
| hard | 4 | 13 ranks | 17 | 207 |
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dncx.tasks.acting.cards import COLOURS, DECK, RANKS, SUITS, CardGame, deal, full_deck, shown
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.settings import CountRecallSettings

_DECKS_AND_KINDS = {"easy": (1, COLOURS), "medium": (2, SUITS), "hard": (4, RANKS)}


class CountRecallState(NamedTuple):
    """The state of an episode."""

    cards: Int[Array, " K"]  # cards left in the deck of the cards, by kind
    queries: Int[Array, " K"]  # cards left in the deck of the queries
    card: Int[Array, ""]  # the kind of the card on show
    query: Int[Array, ""]  # the kind in question


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountRecall(CountRecallSettings, CardGame):
    """See the module. A correct count gains 1 / steps, a wrong one loses as much.

    Raises:
      ValueError: if a setting is out of range.

    Source: Morad et al. 2023, POPGym, popgym/envs/count_recall.py of version 1.0.7. (In earlier
    versions, the highest count had no action.)
    """

    @property
    def num_cards(self) -> int:
        """Cards in the decks that are shown; as many are queries."""
        return DECK * _DECKS_AND_KINDS[self.level][0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the K kinds."""
        return _DECKS_AND_KINDS[self.level][1]

    @property
    def cards_per_kind(self) -> int:
        """The highest count."""
        return self.num_cards // len(self.kinds)

    @property
    def observation_size(self) -> int:
        return 2 * len(self.kinds)

    @property
    def num_actions(self) -> int:
        return self.cards_per_kind + 1

    @property
    def max_steps(self) -> int:
        return self.num_cards - 1

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " F"], CountRecallState]:
        """See `Environment.reset`."""
        full = full_deck(self.num_cards, len(self.kinds))
        state = self._dealt(key, full, full)
        return self._observation(state), state

    def step(
        self, key: Array, state: CountRecallState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        count = self.cards_per_kind - state.cards[state.query]
        following = self._dealt(key, state.cards, state.queries)
        return Transition(
            observation=self._observation(following),
            state=following,
            reward=jnp.where(action == count, 1.0, -1.0) / self.max_steps,
            done=following.cards.sum() == 0,
        )

    def _dealt(
        self, key: Array, cards: Int[Array, " K"], queries: Int[Array, " K"]
    ) -> CountRecallState:
        """The state after a card and a query."""
        for_card, for_query = jax.random.split(key)
        card, cards = deal(for_card, cards)
        query, queries = deal(for_query, queries)
        return CountRecallState(cards, queries, card, query)

    def _observation(self, state: CountRecallState) -> Float[Array, " F"]:
        return shown(jnp.stack([state.card, state.query]), len(self.kinds)).ravel()

    def observed(self, state: CountRecallState) -> str:
        """The card and the query."""
        return f"{self.kinds[state.card]}; how many {self.kinds[state.query]}?"

    def action_name(self, action: int) -> str:
        """A count."""
        return str(action)
