"""Acting: a batch of agents in their environments, for a window of steps or for whole episodes.

An agent is a recurrent network whose outputs are the logits of the actions, followed by the value
of the state. Its parameters do not change while it acts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dncx.sequence import where
from dncx.tasks.acting.environment import Environment, acts


class Agents(NamedTuple):
    """A batch of agents between two steps."""

    memory: Any  # states of the network [B, ...]
    worlds: Any  # states of the environments [B, ...]
    observations: Float[Array, "B F"]
    begins: Bool[Array, " B"]  # whether an episode begins, so that the network starts anew
    returns: Float[Array, " B"]  # sum of the rewards of the episode so far
    lengths: Int[Array, " B"]  # steps of the episode so far


class Seen(NamedTuple):
    """What the agents saw and did in T steps; the time axis comes first during acting."""

    inputs: Float[Array, "B T F"]
    actions: Int[Array, "B T"]
    log_probs: Float[Array, "B T"]  # of the actions
    values: Float[Array, "B T"]  # of the states, as the agents estimated them
    rewards: Float[Array, "B T"]
    begins: Bool[Array, "B T"]  # whether an episode begins with this step
    ends: Bool[Array, "B T"]  # whether it ends with this step
    counts: Bool[Array, "B T"]  # whether the action has any effect
    optimal: Bool[Array, "B T A"] | None  # the optimal actions, if they guide the agents
    returns: Float[Array, "B T"]  # sum of the rewards of the episode up to this step
    lengths: Int[Array, "B T"]  # steps of the episode up to this one


class Ended(NamedTuple):
    """The episodes that ended: their number, and sums over them."""

    episodes: Int[Array, ""]
    returns: Float[Array, ""]
    lengths: Int[Array, ""]


def ended(seen: Seen) -> Ended:
    """The episodes that ended in these steps."""
    return Ended(
        episodes=seen.ends.sum(dtype=jnp.int32),
        returns=jnp.where(seen.ends, seen.returns, 0).sum(),
        lengths=jnp.where(seen.ends, seen.lengths, 0).sum(dtype=jnp.int32),
    )


def split_outputs(
    outputs: Float[Array, "*batch O"],
) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
    """The logits of the actions, and the value of the state."""
    return outputs[..., :-1], outputs[..., -1]


def log_prob(
    logits: Float[Array, "*batch A"], actions: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """The log probabilities of actions."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


def first_agents(network: Any, world: Environment, key: Array, batch_size: int) -> Agents:
    """Agents before the first step of an episode."""
    keys = jax.random.split(key, batch_size)
    observations, worlds = jax.vmap(world.reset, (0, None))(keys, world.params)
    return Agents(
        memory=network.initialize_carry(observations.shape, nnx.Rngs(0)),
        worlds=worlds,
        observations=observations,
        begins=jnp.ones(batch_size, bool),
        returns=jnp.zeros(batch_size, observations.dtype),
        lengths=jnp.zeros(batch_size, jnp.int32),
    )


def act(
    network: Any, world: Environment, agents: Agents, key: Array, num_steps: int
) -> tuple[Agents, Seen]:
    """A number of steps; a new episode begins where one has ended."""

    def step(agents: Agents, key: Array) -> tuple[Agents, Seen]:
        key, begin = jax.random.split(key)
        agents, seen = _step(network, world, agents, key, None)
        keys = jax.random.split(begin, len(agents.begins))
        observations, worlds = jax.vmap(world.reset, (0, None))(keys, world.params)
        return agents._replace(
            worlds=where(agents.begins, worlds, agents.worlds),
            observations=where(agents.begins, observations, agents.observations),
        ), seen

    agents, seen = jax.lax.scan(step, agents, jax.random.split(key, num_steps))
    return agents, _batch_first(seen)


def play(
    network: Any,
    world: Environment,
    key: Array,
    batch_size: int,
    optimal_share: float | None = None,
) -> Seen:
    """One whole episode of each agent; after its end, a step has no inputs and no reward.

    Args:
      network: the network of the agents.
      world: the environment.
      key: of the episodes and the actions.
      batch_size: the number of agents.
      optimal_share: the probability with which an action is an optimal one (see
        `KnowsOptimalActions`) instead of the agent's own; None: there is no guide.
    """
    begin, key = jax.random.split(key)
    agents = first_agents(network, world, begin, batch_size)

    def step(agents: Agents, key: Array) -> tuple[Agents, Seen]:
        return _step(network, world, agents, key, optimal_share)

    seen = _batch_first(jax.lax.scan(step, agents, jax.random.split(key, world.max_steps))[1])
    ends = seen.ends.astype(jnp.int32)
    over = jnp.cumsum(ends, axis=1) > ends  # an episode had ended before the step
    return seen._replace(
        inputs=where(over, jnp.zeros_like(seen.inputs), seen.inputs),
        rewards=jnp.where(over, 0, seen.rewards),
        ends=seen.ends & ~over,
        counts=seen.counts & ~over,
    )


def lengths_of(seen: Seen) -> Int[Array, " B"]:
    """The steps of each episode of `play`."""
    return jnp.where(seen.ends, seen.lengths, 0).max(axis=1)


def next_values(network: Any, agents: Agents) -> Float[Array, " B"]:
    """The values of the states in which the agents are."""
    return split_outputs(network(_memory(network, agents), agents.observations)[1])[1]


def _memory(network: Any, agents: Agents) -> Any:
    """The states of the network, anew where an episode begins."""
    start = network.initialize_carry(agents.observations.shape, nnx.Rngs(0))
    return where(agents.begins, start, agents.memory)


def _step(
    network: Any, world: Any, agents: Agents, key: Array, optimal_share: float | None
) -> tuple[Agents, Seen]:
    """One step of each agent; the axis of the batch comes first in what it saw."""
    own_key, guide_key, world_key = jax.random.split(key, 3)
    memory, outputs = network(_memory(network, agents), agents.observations)
    logits, values = split_outputs(outputs)
    actions, optimal = jax.random.categorical(own_key, logits), None
    if optimal_share is not None:
        optimal = jax.vmap(world.optimal_actions)(agents.worlds)
        which_key, guide_key = jax.random.split(guide_key)
        guided = jax.random.bernoulli(guide_key, optimal_share, actions.shape)
        one = jax.random.categorical(which_key, jnp.where(optimal, 0.0, -jnp.inf))
        actions = jnp.where(guided & optimal.any(axis=-1), one, actions)
    counts = jax.vmap(lambda state: acts(world, state))(agents.worlds)
    keys = jax.random.split(world_key, len(actions))
    move = jax.vmap(world.step, (0, 0, 0, None))
    after = move(keys, agents.worlds, actions, world.params)
    rewards = after.reward.astype(values.dtype)
    seen = Seen(
        inputs=agents.observations,
        actions=actions,
        log_probs=log_prob(logits, actions),
        values=values,
        rewards=rewards,
        begins=agents.begins,
        ends=after.done,
        counts=counts,
        optimal=optimal,
        returns=jnp.where(agents.begins, 0, agents.returns) + rewards,
        lengths=jnp.where(agents.begins, 0, agents.lengths) + 1,
    )
    return Agents(
        memory=memory,
        worlds=after.state,
        observations=after.observation,
        begins=after.done,
        returns=seen.returns,
        lengths=seen.lengths,
    ), seen


def _batch_first(seen: Seen) -> Seen:
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), seen)
