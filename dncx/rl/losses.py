"""The parts of an actor-critic's loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dncx.tasks.acting.settings import ActingSettings


class Losses(NamedTuple):
    """The parts of a loss."""

    policy: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]

    def total(self, settings: ActingSettings) -> Float[Array, ""]:
        """The loss that is minimised; entropy is a bonus."""
        return self.policy + settings.value_cost * self.value - settings.entropy_cost * self.entropy


def entropy_of(logits: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
    """The entropy of the distribution over actions, in nats."""
    log_probs = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_probs) * log_probs).sum(axis=-1)


def mean_where(values: Float[Array, "B T"], counts: Bool[Array, "B T"]) -> Float[Array, ""]:
    """The mean over the steps that count; 0 if there is none."""
    number = jnp.maximum(counts.sum(dtype=values.dtype), 1)
    return jnp.where(counts, values, 0).sum() / number
