"""A supervised start: the network imitates optimal actions in the states that it reaches itself.

It is no part of the paper's experiment, in which agents learned from rewards only; a result that
used it must say so.

Source: Ross et al. 2011, arXiv:1011.0686 (DAgger).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dncx.rl import policy_gradient
from dncx.rl.acting import Seen
from dncx.rl.losses import Losses
from dncx.tasks.acting.settings import ActingSettings


def losses(network: Any, seen: Seen, settings: ActingSettings) -> Losses:
    """-Σ log of the total probability of the optimal actions, and the usual value loss."""
    return policy_gradient.losses_of_episodes(network, seen, settings, _log_prob_of_optimal)


def _log_prob_of_optimal(logits: Float[Array, "B T A"], seen: Seen) -> Float[Array, "B T"]:
    optimal = seen.optimal
    assert optimal is not None
    # Without an optimal action, all are equally good: the sum of their probabilities is 1.
    good = optimal | ~optimal.any(axis=-1, keepdims=True)
    return jax.nn.logsumexp(jnp.where(good, jax.nn.log_softmax(logits), -jnp.inf), axis=-1)
