"""Proximal policy optimisation on windows of steps.

Source: Schulman et al. 2017, arXiv:1707.06347. Each minibatch is a part of the environments, with
all steps of the window, so that the network runs over whole windows from the state that it had at
their beginning.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dncx.rl.acting import Agents, Seen, act, log_prob, next_values, split_outputs
from dncx.rl.advantages import generalised_advantages
from dncx.rl.losses import Losses, entropy_of, mean_where
from dncx.sequence import unroll
from dncx.tasks.acting.environment import Environment
from dncx.tasks.acting.settings import ActingSettings

_TINY = 1e-8  # so that equal advantages can be divided by their deviation


class Window(NamedTuple):
    """A window to learn from."""

    memory: Any  # states of the network before the first step [B, ...]
    seen: Seen
    advantages: Float[Array, "B T"]


def collect(
    network: Any,
    world: Environment,
    settings: ActingSettings,
    agents: Agents,
    key: Array,
    num_steps: int,
) -> tuple[Agents, Window]:
    """Acts for a window of steps."""
    moved, seen = act(network, world, agents, key, num_steps)
    advantages = generalised_advantages(
        seen.rewards,
        seen.values,
        seen.ends,
        next_values(network, moved),
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
    )
    return moved, Window(agents.memory, seen, advantages)


def minibatches(window: Window, settings: ActingSettings, key: Array) -> Window:
    """The parts of the window in the order in which they are learned from, [updates, B', ...]."""
    batch = len(window.seen.actions)
    keys = jax.random.split(key, settings.epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, batch))(keys)
    parts = orders.reshape(settings.epochs * settings.minibatches, -1)
    return jax.tree.map(lambda x: x[parts], window)


def losses(network: Any, window: Window, settings: ActingSettings) -> Losses:
    """The clipped surrogate, the value loss and the entropy of a part of a window.

    The surrogate is -mean(min(ρA, clip(ρ, 1 - ε, 1 + ε) A)), where ρ is the probability of an
    action divided by that at the time of acting, and A its advantage, standardised.
    """
    seen = window.seen
    outputs, _ = unroll(network, seen.inputs, initial_state=window.memory, resets=seen.begins)
    logits, values = split_outputs(outputs)
    mean = mean_where(window.advantages, seen.counts)
    deviation = jnp.sqrt(mean_where((window.advantages - mean) ** 2, seen.counts))
    advantages = (window.advantages - mean) / (deviation + _TINY)
    ratio = jnp.exp(log_prob(logits, seen.actions) - seen.log_probs)
    clipped = jnp.clip(ratio, 1 - settings.ppo_clip, 1 + settings.ppo_clip)
    gain = jnp.minimum(ratio * advantages, clipped * advantages)
    aims = window.advantages + seen.values
    return Losses(
        policy=-mean_where(gain, seen.counts),
        value=0.5 * jnp.mean((values - aims) ** 2),
        entropy=mean_where(entropy_of(logits), seen.counts),
    )
