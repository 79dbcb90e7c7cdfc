"""Two cells side by side: one chooses actions, the other estimates values."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dncx.initializers import RngSource


class ActorCritic(nnx.RNNCellBase):
    """A policy and a value network that see the same inputs, as one cell.

    Its outputs are those of the policy, followed by the value; its state is the pair of states.

    Args:
      policy: a recurrent cell, with the logits of the actions as outputs.
      critic: a recurrent cell with one output.

    Source: Nature 2016, Methods, "Mini-SHRDLU".
    """

    def __init__(self, policy: Any, critic: Any):
        self.policy = policy
        self.critic = critic

    @property
    def cells(self) -> tuple[Any, Any]:
        """See `dncx.parts.SideBySide`."""
        return self.policy, self.critic

    @property
    def num_feature_axes(self) -> int:
        return 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> tuple[Any, Any]:
        """The initial states; the batch shape is `input_shape[:-1]`."""
        policy, critic = (cell.initialize_carry(input_shape, rngs) for cell in self.cells)
        return policy, critic

    def __call__(
        self, carry: tuple[Any, Any], inputs: ArrayLike
    ) -> tuple[tuple[Any, Any], Float[Array, "*batch O"]]:
        """One step of both cells."""
        acting, logits = self.policy(carry[0], inputs)
        valuing, value = self.critic(carry[1], inputs)
        return (acting, valuing), jnp.concatenate([logits, value], axis=-1)
