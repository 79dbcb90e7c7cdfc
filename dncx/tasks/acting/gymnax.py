"""Environments of gymnax (the extra `rl`), as tasks.

An observation is flattened, or a one-hot vector if it is a number. gymnax starts a new episode when
one is done; here the trainer does so, and an episode that reaches its time limit is done.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dncx.errors import UsageError, did_you_mean, one_of, quoted
from dncx.tasks.acting.environment import Transition
from dncx.tasks.acting.playing import Playing
from dncx.tasks.acting.settings import GymnaxSettings, check_acting

_MAJOR = "1"  # the version of gymnax whose interface this is
_INSTALL = "pip install 'dncx[rl]'"
_SHOWN = 8  # features of an observation in words


class GymnaxState(NamedTuple):
    """The state of an episode."""

    world: Any  # gymnax's state
    observation: Float[Array, " F"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gymnax(GymnaxSettings, Playing):
    """An environment of gymnax with discrete actions.

    Raises:
      UsageError: if gymnax is missing or too old or new, or cannot make the environment.
      ValueError: if a setting is out of range.

    Source: Lange 2022, gymnax, https://github.com/RobertTLange/gymnax.
    """

    def __post_init__(self) -> None:
        check_acting(self)
        if not -math.inf < self.worst_return < self.best_return < math.inf:
            raise ValueError(
                f"worst_return={self.worst_return}, best_return={self.best_return}: the worst must "
                "be below the best, and both finite"
            )
        if self.max_steps < 1:
            raise UsageError(f"max_steps_in_episode={self.max_steps}: must be at least 1")
        _ = self.observation_size, self.num_actions  # checks the spaces

    @functools.cached_property
    def _environment(self) -> Any:
        gymnax = _gymnax()
        name, known = self.environment, gymnax.registered_envs
        if name not in known:
            raise UsageError(
                f"environment={quoted(name)}: gymnax has no such environment"
                f"{did_you_mean(name, known) or f'; it has {one_of(known)}'}"
            )
        try:
            return gymnax.make(name)[0]
        except OSError as error:  # some download data
            raise UsageError(f"environment={name}: {error}") from error

    @property
    def params(self) -> Any:
        """The environment's default parameters, changed by `environment_params`."""
        return self._params

    @functools.cached_property
    def _params(self) -> Any:
        params = self._environment.default_params
        texts = filter(None, self.environment_params.split(","))
        return dataclasses.replace(
            params, **dict(_changed(self.environment, params, text) for text in texts)
        )

    @property
    def return_bounds(self) -> tuple[float, float]:
        return self.worst_return, self.best_return

    @functools.cached_property
    def observation_size(self) -> int:
        """Numbers of an observation, or the values that one number may have."""
        space = self._environment.observation_space(self.params)
        if _is_discrete(space):
            return int(space.n)
        if not hasattr(space, "shape"):
            raise UsageError(
                f"environment={self.environment}: its observations are a {type(space).__name__}, "
                "not a Box or Discrete"
            )
        return math.prod(space.shape)

    @functools.cached_property
    def num_actions(self) -> int:
        space = self._environment.action_space(self.params)
        if not _is_discrete(space):
            raise UsageError(
                f"environment={self.environment}: its actions are a {type(space).__name__}, and "
                "only discrete actions can be learned"
            )
        return int(space.n)

    @property
    def max_steps(self) -> int:
        return int(self.params.max_steps_in_episode)

    def reset(self, key: Array, params: Any) -> tuple[Float[Array, " F"], GymnaxState]:
        """See `Environment.reset`."""
        seen, world = self._environment.reset_env(key, params)
        observation = self._flat(seen)
        return observation, GymnaxState(jax.tree.map(jnp.asarray, world), observation)

    def step(
        self, key: Array, state: GymnaxState, action: Int[Array, ""], params: Any
    ) -> Transition:
        """See `Environment.step`."""
        made = self._environment.step_env(key, state.world, action, params)
        seen, world, reward, terminated, _ = made
        # gymnax may return Python's numbers; a loop needs the types of the first state.
        world = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), world, state.world)
        observation = self._flat(seen)
        return Transition(
            observation=observation,
            state=GymnaxState(world, observation),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            done=jnp.asarray(terminated | self._environment.is_truncated(world, params)),
        )

    def _flat(self, seen: Any) -> Float[Array, " F"]:
        if _is_discrete(self._environment.observation_space(self.params)):
            return jax.nn.one_hot(seen, self.observation_size, dtype=jnp.float32)
        return jnp.ravel(seen).astype(jnp.float32)

    def observed(self, state: GymnaxState) -> str:
        """The first features of the observation."""
        features = [f"{x:.3g}" for x in np.asarray(state.observation[:_SHOWN])]
        return " ".join([*features, *["..."][: len(state.observation) > _SHOWN]])

    def action_name(self, action: int) -> str:
        """Its number."""
        return f"action {action}"


def _is_discrete(space: Any) -> bool:
    return hasattr(space, "n")


def _gymnax() -> Any:
    """The package, if it is there and has the interface that is used here."""
    if importlib.util.find_spec("gymnax") is None:
        raise UsageError(f"gymnax is not installed: {_INSTALL}")
    version = importlib.metadata.version("gymnax")
    if version.partition(".")[0] != _MAJOR:
        raise UsageError(f"gymnax {version} has another interface than {_MAJOR}.x: {_INSTALL}")
    try:
        import gymnax
    except ImportError as error:
        raise UsageError(f"gymnax {version} cannot be loaded ({error}): {_INSTALL}") from error
    return gymnax


def _changed(environment: str, params: Any, text: str) -> tuple[str, Any]:
    """The name and the value in NAME=VALUE, for a parameter that is a number."""
    name, equals, word = text.partition("=")
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    known = [key for key, value in values.items() if isinstance(value, int | float)]
    if name not in known or not equals:
        raise UsageError(
            f"environment_params={quoted(text)}: must be NAME=VALUE with a parameter of "
            f"{environment}: {one_of(known)}{did_you_mean(name, known)}"
        )
    kind = type(values[name])
    try:
        return name, {"True": True, "False": False}[word] if kind is bool else kind(word)
    except (KeyError, ValueError):
        what = {int: "a whole number", float: "a number", bool: "True or False"}[kind]
        raise UsageError(
            f"environment_params={quoted(text)}: must be {what}, as in {values[name]}"
        ) from None
