"""The policy gradient of the paper, on whole episodes.

Source: Nature 2016, Methods, "Mini-SHRDLU": REINFORCE with generalised advantage estimation, and a
value network that learns by the squared error. The paper does not state how the sums are divided;
here they are sums over the steps of an episode, and means over the batch.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dncx.rl.acting import Seen, lengths_of, log_prob, split_outputs
from dncx.rl.advantages import generalised_advantages
from dncx.rl.losses import Losses, entropy_of
from dncx.sequence import unroll
from dncx.tasks.acting.settings import ActingSettings


def losses(network: Any, seen: Seen, settings: ActingSettings) -> Losses:
    """-Σ A log p of the actions, Σ (V - (A + V_then))² / 2, and Σ entropy.

    The sums are over the steps of an episode; A and V_then are those of the time of acting.
    """
    advantages = advantages_of(seen, settings)
    return losses_of_episodes(
        network,
        seen,
        settings,
        lambda logits, seen: advantages * log_prob(logits, seen.actions),
    )


def losses_of_episodes(
    network: Any,
    seen: Seen,
    settings: ActingSettings,
    gain: Callable[[Float[Array, "B T A"], Seen], Float[Array, "B T"]],
) -> Losses:
    """The losses of whole episodes; `gain` of the logits and what was seen is maximised."""
    lengths = lengths_of(seen)
    outputs, _ = unroll(network, seen.inputs, lengths=lengths)
    logits, values = split_outputs(outputs)
    live = jnp.arange(values.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
    errors = values - (advantages_of(seen, settings) + seen.values)

    def per_episode(values: Float[Array, "B T"], counts: Bool[Array, "B T"]) -> Float[Array, ""]:
        return jnp.where(counts, values, 0).sum(axis=1).mean()

    return Losses(
        policy=-per_episode(gain(logits, seen), seen.counts),
        value=0.5 * per_episode(errors**2, live),
        entropy=per_episode(entropy_of(logits), seen.counts),
    )


def advantages_of(seen: Seen, settings: ActingSettings) -> Float[Array, "B T"]:
    """The advantages of the actions in whole episodes."""
    return generalised_advantages(
        seen.rewards,
        seen.values,
        seen.ends,
        jnp.zeros_like(seen.values[:, 0]),  # every episode has ended
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
    )
