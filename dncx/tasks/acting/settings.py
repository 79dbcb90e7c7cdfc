"""How an agent learns to act; shared by the settings of all environments, and free of JAX."""

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActingSettings:
    """An actor-critic: an iteration acts in `batch_size` environments, then learns from that."""

    method: Literal["ppo", "policy_gradient"] = "ppo"
    """PPO on windows, or the paper's policy gradient on whole episodes."""
    separate_value: bool = False
    """Estimate values by a second network; else by another output."""
    window: int = 64
    """Steps per iteration in each environment (ppo)."""
    epochs: int = 4
    """Times that a window is learned from (ppo)."""
    minibatches: int = 4
    """Parts of the environments per epoch, one update each (ppo)."""
    ppo_clip: float = 0.2
    """Limit of the change of an action's probability (ppo)."""
    discount: float = 0.99
    """Discount of later rewards, per step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    entropy_cost: float = 0.01
    """Weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the value loss."""


def check_acting(settings: ActingSettings) -> None:
    """Refuses settings that no agent can learn with.

    Raises:
      ValueError: for the first such value.
    """
    if settings.method not in ("ppo", "policy_gradient"):
        raise ValueError(f"method={settings.method}: must be ppo or policy_gradient")
    for name in ("window", "epochs", "minibatches"):
        if not 1 <= getattr(settings, name) < 2**31:
            raise ValueError(f"{name}={getattr(settings, name)}: must be at least 1")
    for name in ("discount", "gae_lambda"):
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name}={getattr(settings, name)}: must be in [0, 1]")
    for name in ("ppo_clip", "entropy_cost", "value_cost"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value}: must be a finite number of at least 0")
