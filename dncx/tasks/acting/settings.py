"""How an agent learns to act; shared by the settings of all environments, and free of JAX."""

import dataclasses
import math
from typing import Literal, get_args

Learning = Literal["ppo", "policy_gradient", "imitation"]
METHODS = get_args(Learning)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActingSettings:
    """An actor-critic: an iteration acts in `batch_size` environments, then learns from that."""

    method: Learning = "ppo"
    """PPO on windows, or on whole episodes the paper's policy gradient, or imitation."""
    separate_value: bool = False
    """Estimate values by a second network; else by another output."""
    window: int = 0
    """Steps per iteration in each environment (ppo); 0: an episode, but at most 64."""
    epochs: int = 4
    """Times that a window is learned from (ppo)."""
    minibatches: int = 4
    """Parts of the environments per epoch, one update each (ppo)."""
    ppo_clip: float = 0.2
    """Limit of the change of an action's probability (ppo)."""
    optimal_share: float = 0.5
    """Probability of an optimal action instead of the agent's own (imitation)."""
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
    if settings.method not in METHODS:
        raise ValueError(f"method={settings.method}: must be one of {', '.join(METHODS)}")
    for name, lowest in {"window": 0, "epochs": 1, "minibatches": 1}.items():
        if not lowest <= getattr(settings, name) < 2**31:
            raise ValueError(f"{name}={getattr(settings, name)}: must be at least {lowest}")
    for name in ("discount", "gae_lambda", "optimal_share"):
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name}={getattr(settings, name)}: must be in [0, 1]")
    for name in ("ppo_clip", "entropy_cost", "value_cost"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value}: must be a finite number of at least 0")
