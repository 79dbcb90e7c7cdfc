"""A custom environment: a light shows a colour, and much later the agent must press its button.

python examples/own_environment.py train --num_training_iterations=400
python examples/own_environment.py eval runs/lights --delay=40
python examples/own_environment.py explore runs/lights
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dncx.cli import leave, task_main
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.playing import Playing
from dncx.tasks.acting.settings import ActingSettings, check_acting

COLOURS = ("red", "green", "blue", "yellow")


class Room(NamedTuple):
    """The state of the environment."""

    colour: jax.Array  # index of the colour that was shown
    time: jax.Array  # steps so far


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lights(ActingSettings, Playing):
    """The reward is 1 for the right button at the last step, and -1 for another one.

    `ActingSettings` are the flags of the learner. `Playing` makes a task of the environment, so
    that it can be evaluated and explored.
    """

    name: ClassVar[str] = "lights"

    delay: int = 10
    """Steps in the dark between the light and the buttons."""

    def __post_init__(self) -> None:
        check_acting(self)
        if self.delay < 0:
            raise ValueError(f"delay={self.delay}: must be at least 0")

    @property
    def observation_size(self) -> int:
        return len(COLOURS) + 1  # the colour, and whether it is time to press

    @property
    def num_actions(self) -> int:
        return len(COLOURS)

    @property
    def max_steps(self) -> int:
        return self.delay + 2

    @property
    def params(self) -> tuple[()]:
        return ()

    @property
    def return_bounds(self) -> tuple[float, float]:
        return -1.0, 1.0

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Room]:
        """One environment; the trainer adds the batch."""
        room = Room(jax.random.randint(key, (), 0, len(COLOURS)), jnp.int32(0))
        return self._seen(room), room

    def step(self, key: jax.Array, state: Room, action: jax.Array, params: Any) -> Transition:
        """Actions before the last step have no effect."""
        done = state.time == self.delay + 1
        reward = jnp.where(action == state.colour, 1.0, -1.0)
        after = state._replace(time=state.time + 1)
        return Transition(self._seen(after), after, jnp.where(done, reward, 0.0), done)

    def acts(self, state: Room) -> jax.Array:
        """Optional: nothing is to be learned from actions without an effect."""
        return state.time == self.delay + 1

    def _seen(self, state: Room) -> jax.Array:
        colour = jnp.where(state.time == 0, jax.nn.one_hot(state.colour, len(COLOURS)), 0.0)
        now = jnp.where(state.time == self.delay + 1, 1.0, 0.0)
        return jnp.append(colour, now)

    def observed(self, state: Room) -> str:
        """The words for reports and for `explore`."""
        if state.time == 0:
            return f"{COLOURS[state.colour]} light"
        return "press!" if state.time == self.delay + 1 else "dark"

    def action_name(self, action: int) -> str:
        return COLOURS[action]


if __name__ == "__main__":
    leave(task_main(Lights))
