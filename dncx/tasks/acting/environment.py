"""The interface of environments, as in gymnax: pure functions of one environment.

The trainer adds the batch with `jax.vmap` and starts a new episode when one is done. An environment
is also a task (`Playing`), so that the commands for tasks work with it.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Transition(NamedTuple):
    """The result of an action."""

    observation: Float[Array, " F"]  # after the action
    state: Any  # a tree of arrays
    reward: Float[Array, ""]
    done: Bool[Array, ""]  # whether the episode has ended


@runtime_checkable
class HasPassiveSteps(Protocol):
    """An environment with steps at which the agent only observes: their actions are ignored.

    They count neither in the loss of the policy nor in the entropy.
    """

    def acts(self, state: Any) -> Bool[Array, ""]:
        """Whether the action in this state counts."""
        ...


@runtime_checkable
class Environment(Protocol):
    """A world that an agent sees in part and acts in. Everything runs inside jit."""

    @property
    def observation_size(self) -> int:
        """F: features of an observation, a vector."""
        ...

    @property
    def num_actions(self) -> int:
        """The number of discrete actions."""
        ...

    @property
    def max_steps(self) -> int:
        """The number of actions after which every episode is done."""
        ...

    @property
    def params(self) -> Any:
        """The parameters of an episode, a tree of arrays, such as a level; () if it has none."""
        ...

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " F"], Any]:
        """The first observation and the first state of an episode, drawn with the key."""
        ...

    def step(self, key: Array, state: Any, action: Int[Array, ""], params: Any) -> Transition:
        """The result of an action. After the end of an episode the result is meaningless."""
        ...


@runtime_checkable
class KnowsOptimalActions(Protocol):
    """An environment that can guide an agent."""

    def optimal_actions(self, state: Any) -> Bool[Array, " A"]:
        """The actions that are best in this state; none where an action has no effect."""
        ...


def acts(environment: Environment, state: Any) -> Bool[Array, ""]:
    """Whether the action in a state counts: always, except in passive steps."""
    if isinstance(environment, HasPassiveSteps):
        return environment.acts(state)
    return jnp.ones((), bool)


def is_environment(task: Any) -> bool:
    """Whether a task is learned by acting."""
    return isinstance(task, Environment)
