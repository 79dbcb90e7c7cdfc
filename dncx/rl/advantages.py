"""How much better an action was than expected: generalised advantage estimation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def generalised_advantages(
    rewards: Float[Array, "B T"],
    values: Float[Array, "B T"],
    ends: Bool[Array, "B T"],
    last_values: Float[Array, " B"],
    *,
    discount: float,
    gae_lambda: float,
) -> Float[Array, "B T"]:
    """A_t = δ_t + γλ A_{t+1}, with δ_t = r_t + γ V_{t+1} - V_t; nothing counts beyond an end.

    Args:
      rewards: r_t.
      values: V_t, the values of the states before each step.
      ends: whether an episode ends with the step.
      last_values: the values of the states after the last step.
      discount: γ.
      gae_lambda: λ; 1: the discounted sum of all later rewards minus V_t; 0: δ_t.

    Source: Schulman et al. 2016, arXiv:1506.02438, equation 16.
    """
    onward = discount * (1 - ends.astype(values.dtype))
    following = jnp.concatenate([values[:, 1:], last_values[:, None]], axis=1)
    errors = rewards + onward * following - values

    def back(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        error, onward = now
        advantage = error + gae_lambda * onward * later
        return advantage, advantage

    steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (errors, onward))
    _, advantages = jax.lax.scan(back, jnp.zeros_like(last_values), steps, reverse=True)
    return jnp.swapaxes(advantages, 0, 1)
