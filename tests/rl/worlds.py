"""Small environments for tests."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.playing import Playing
from dncx.tasks.acting.settings import ActingSettings, check_acting


class Cue(NamedTuple):
    cue: jax.Array
    time: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain(ActingSettings, Playing):
    """A cue is shown once; `delay` steps later it must be named: a reward of 1, else -1.

    Actions before that have no effect. The episode ends with the answer.
    """

    name: ClassVar[str] = "recall"

    num_cues: int = 2
    """Cues, and actions."""
    delay: int = 2
    """Steps between cue and answer."""

    def __post_init__(self):
        check_acting(self)

    @property
    def observation_size(self):
        return self.num_cues + 1

    @property
    def num_actions(self):
        return self.num_cues

    @property
    def max_steps(self):
        return self.delay + 1

    @property
    def params(self):
        return ()

    @property
    def return_bounds(self):
        return -1.0, 1.0

    def reset(self, key, params):
        cue = jax.random.randint(key, (), 0, self.num_cues)
        state = Cue(cue, jnp.int32(0))
        return self._see(state), state

    def step(self, key, state, action, params):
        done = state.time >= self.delay
        reward = jnp.where(done, jnp.where(action == state.cue, 1.0, -1.0), 0.0)
        after = state._replace(time=state.time + 1)
        return Transition(self._see(after), after, reward, done)

    def _see(self, state):
        shown = jnp.where(state.time == 0, jax.nn.one_hot(state.cue, self.num_cues), 0)
        asked = jnp.where(state.time == self.delay, 1.0, 0.0)
        return jnp.concatenate([shown, asked[None]])

    def observed(self, state):
        return f"cue {state.cue}" if state.time == 0 else "..."

    def action_name(self, action):
        return f"name {action}"


class Recall(Plain):
    """The same, with what an environment may offer besides."""

    def acts(self, state):
        return state.time >= self.delay

    def optimal_actions(self, state):
        right = jnp.arange(self.num_cues) == state.cue
        return right & self.acts(state)
