"""T-maze: remember a sign along a corridor, then turn to the side that it named.

The corridor leads to a junction; the goal is one step up or down from there. A sign names the side
of the goal, the first time that the agent stands at it:

    passive           active            |
    S-----...-----|   -S----...-----|   | junction
    sign                                |

In the passive maze, the sign is at the start S. In the active one, it is one step behind the start,
and the agent must go there first. Observations are (0, sign) at the sign, (0, 0) in the corridor,
and (1, side) at the junction and next to it; sign and side are -1, 0 or 1. The actions are steps to
the right, up, left and down; a step into a wall leaves the agent in its place.

An episode has as many steps as the shortest way: corridor + 1 in the passive maze, corridor + 3 in
the active one. Reaching the goal with the last step gains 1. Each step before the last one costs
1 / corridor if the agent lags behind the shortest way.

| level | corridor |
|---|---|
| easy | 10 |
| medium | 50 |
| hard | 300 |
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.playing import Playing
from dncx.tasks.acting.settings import TMazeSettings, check_acting, check_level

_CORRIDOR = {"easy": 10, "medium": 50, "hard": 300}
_BEHIND = {"passive": 0, "active": 1}  # steps from the start back to the sign
_ACTIONS = ("right", "up", "left", "down")
_MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
_SIDES = {1: "up", 0: "centre", -1: "down"}


class TMazeState(NamedTuple):
    """The state of an episode."""

    place: Int[Array, " 2"]  # steps from the sign, and from the corridor to the side
    goal: Int[Array, ""]  # 1: up, -1: down
    sign: Int[Array, ""]  # what the agent sees of the sign; 0: nothing
    told: Bool[Array, ""]  # whether the agent has seen the sign
    time: Int[Array, ""]  # number of actions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TMaze(TMazeSettings, Playing):
    """See the module. The lengths of the levels are ours.

    Raises:
      ValueError: if a setting is out of range.

    Source: Bakker 2002, "Reinforcement Learning with Long Short-Term Memory", as defined by Ni, Ma,
    Eysenbach, Bacon 2023 (arXiv:2307.03864) in envs/tmaze.py of twni2016/Memory-RL.
    """

    def __post_init__(self) -> None:
        check_acting(self)
        check_level(self)
        if self.maze not in _BEHIND:
            raise ValueError(f"maze={self.maze}: must be passive or active")

    @property
    def corridor(self) -> int:
        """Steps from the start to the junction."""
        return _CORRIDOR[self.level]

    @property
    def behind(self) -> int:
        """Steps from the start back to the sign."""
        return _BEHIND[self.maze]

    @property
    def observation_size(self) -> int:
        return 2

    @property
    def num_actions(self) -> int:
        return len(_ACTIONS)

    @property
    def max_steps(self) -> int:
        return self.corridor + 2 * self.behind + 1

    @property
    def return_bounds(self) -> tuple[float, float]:
        return -(self.corridor + self.behind) / self.corridor, 1.0

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " 2"], TMazeState]:
        """See `Environment.reset`."""
        goal = jnp.where(jax.random.bernoulli(key), 1, -1)
        at_sign = jnp.asarray(self.behind == 0)
        state = TMazeState(
            place=jnp.array([self.behind, 0], jnp.int32),
            goal=goal,
            sign=jnp.where(at_sign, goal, 0),
            told=at_sign,
            time=jnp.int32(0),
        )
        return self._observation(state), state

    def step(
        self, key: Array, state: TMazeState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        moved = state.place + jnp.array(_MOVES, jnp.int32)[action]
        place = jnp.where(self._is_inside(moved), moved, state.place)
        at_sign, time = place[0] == 0, state.time + 1
        following = TMazeState(
            place=place,
            goal=state.goal,
            sign=jnp.where(at_sign & ~state.told, state.goal, 0),
            told=state.told | at_sign,
            time=time,
        )
        done = time >= self.max_steps
        gained = jnp.where(place[1] == state.goal, 1.0, 0.0)
        lost = jnp.where(place[0] < time - self.behind, 1 / self.corridor, 0.0)
        return Transition(
            observation=self._observation(following),
            state=following,
            reward=jnp.where(done, gained, -lost),
            done=done,
        )

    @property
    def _junction(self) -> int:
        return self.behind + self.corridor

    def _is_inside(self, place: Int[Array, " 2"]) -> Bool[Array, ""]:
        along, side = place
        in_corridor = (side == 0) & (along >= 0) & (along <= self._junction)
        return in_corridor | (abs(side) == 1) & (along == self._junction)

    def _observation(self, state: TMazeState) -> Float[Array, " 2"]:
        along, side = state.place
        at_junction = along == self._junction
        seen = jnp.stack([at_junction.astype(jnp.int32), jnp.where(at_junction, side, state.sign)])
        return seen.astype(jnp.float32)

    def observed(self, state: TMazeState) -> str:
        """The sign, the corridor, or the junction."""
        along, side = map(int, state.place)
        if along == self._junction:
            return f"junction, {_SIDES[side]}"
        return f"sign: {_SIDES[int(state.sign)]}" if state.sign else "corridor"

    def action_name(self, action: int) -> str:
        """A direction."""
        return _ACTIONS[action]
