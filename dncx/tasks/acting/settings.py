"""How an agent learns to act; shared by the settings of all environments, and free of JAX."""

import dataclasses
import math
from typing import Any, ClassVar, Literal, get_args

from dncx.errors import one_of, quoted

Learning = Literal["ppo", "policy_gradient", "imitation"]
METHODS = get_args(Learning)
LEVELS = ("easy", "medium", "hard")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leveled:
    """An environment with three levels of difficulty."""

    level: Literal["easy", "medium", "hard"] = "easy"
    """Difficulty (docs/tasks.md)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatPreviousSettings(ActingSettings, Leveled):
    """Name the suit of the card shown a given number of steps before."""

    name: ClassVar[str] = "repeat-previous"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatFirstSettings(ActingSettings, Leveled):
    """Name the suit of the first card at every step."""

    name: ClassVar[str] = "repeat-first"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencodeSettings(ActingSettings, Leveled):
    """Watch all cards of the deck, then name their suits in reverse order."""

    name: ClassVar[str] = "autoencode"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountRecallSettings(ActingSettings, Leveled):
    """State how many cards of the queried kind have been shown."""

    name: ClassVar[str] = "count-recall"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcentrationSettings(ActingSettings, Leveled):
    """Find pairs among cards that lie face down, turning two at a time."""

    name: ClassVar[str] = "concentration"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TMazeSettings(ActingSettings, Leveled):
    """Remember a sign along a corridor, then turn to the side that it named."""

    name: ClassVar[str] = "t-maze"

    maze: Literal["passive", "active"] = "passive"
    """The sign is at the start (passive), or one step behind it (active)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GymnaxSettings(ActingSettings):
    """Any environment of gymnax with discrete actions."""

    name: ClassVar[str] = "gymnax"

    environment: str = "MemoryChain-bsuite"
    """Name of the environment."""
    environment_params: str = ""
    """Changes of its parameters, NAME=VALUE,..., as in memory_length=9."""
    worst_return: float = -1.0
    """The return that missing_return counts as 100 %."""
    best_return: float = 1.0
    """The return that missing_return counts as 0 %."""


def check_level(settings: Any) -> None:
    """Refuses an unknown level.

    Raises:
      ValueError: if there is no such level.
    """
    if settings.level not in LEVELS:
        raise ValueError(f"level={quoted(str(settings.level))}: must be {one_of(LEVELS)}")


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
