"""An environment as a task: an episode is a dialogue in which the network's outputs are actions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dncx.tasks.acting.environment import acts
from dncx.tasks.base import Episode, Words


class Played(NamedTuple):
    """What happened in the episodes of a batch, up to A actions each."""

    states: Any  # of the environments, before each action [B, A, ...]
    actions: Int[Array, "B A"]
    rewards: Float[Array, "B A"]  # 0 after the end
    live: Bool[Array, "B A"]  # whether the episode had not yet ended


class Playing:
    """The members of `dncx.tasks.base.Interactive` and `Describable`, for a class of environments.

    A class that inherits from it is an `Environment` whose fields are `ActingSettings` and its own.
    It defines `return_bounds` and the two methods that put an episode into words.
    """

    @property
    def input_size(self: Any) -> int:
        """Features of an observation."""
        return self.observation_size

    @property
    def window_steps(self: Any) -> int:
        """The steps of a window."""
        return self.window or min(self.max_steps, 64)

    @property
    def num_answer_outputs(self: Any) -> int:
        """One output per action: its logit."""
        return self.num_actions

    @property
    def output_size(self: Any) -> int:
        """The logits of the actions, and the value of a state."""
        return self.num_actions + 1

    @property
    def params(self) -> Any:
        """None, unless a class defines them."""
        return ()

    @property
    def loss_unit(self) -> str:
        return "negative return"

    @property
    def about(self: Any) -> str:
        """Sizes of an episode, which training prints first."""
        worst, best = self.return_bounds
        return (
            f"{self.name}: episodes of at most {self.max_steps:,} steps, {self.num_actions} "
            f"actions, returns from {worst:.4g} to {best:.4g}"
        )

    @property
    def return_bounds(self) -> tuple[float, float]:
        """The worst and the best possible sum of an episode's rewards."""
        raise NotImplementedError

    def observed(self, state: Any) -> str:
        """What the agent sees in a state (NumPy arrays), in words."""
        raise NotImplementedError

    def action_name(self, action: int) -> str:
        """An action in words."""
        raise NotImplementedError

    def sample(self: Any, key: Array, batch_size: int) -> Episode:
        """New episodes before their first step; see `converse`."""
        keys = jax.random.split(key, batch_size)
        observations, states = jax.vmap(self.reset, (0, None))(keys, self.params)
        nothing = jnp.zeros((batch_size, 1, self.num_actions))
        return Episode(
            inputs=jnp.zeros_like(observations)[:, None],
            targets=nothing,
            mask=nothing[..., 0],
            extra=(observations, states),
        )

    def opening_lengths(self, episode: Episode) -> Int[Array, " B"]:
        """0: the first observation belongs to the dialogue."""
        return jnp.zeros(episode.inputs.shape[0], jnp.int32)

    def converse(
        self: Any,
        step: Callable[[Any, Array], tuple[Any, Array]],
        state: Any,
        episode: Episode,
        keys: Array,
        training: bool,
    ) -> tuple[Float[Array, "B A O"], Episode]:
        """Plays the episodes to their ends, with the most likely action at each step.

        In training, actions are drawn from their probabilities instead.
        """

        def act(carry: Any, keys: Array) -> tuple[Any, Any]:
            state, observations, places, ended = carry
            inputs = jnp.where(ended[:, None], 0, observations)
            state, outputs = step(state, inputs)
            own, worlds = jnp.swapaxes(jax.vmap(jax.random.split)(keys), 0, 1)
            logits = outputs[:, : self.num_actions]
            if training:
                actions = jax.vmap(jax.random.categorical)(own, logits)
            else:
                actions = logits.argmax(axis=-1)
            made = jax.vmap(self.step, (0, 0, 0, None))(worlds, places, actions, self.params)
            rewards = jnp.where(ended, 0, made.reward)
            counts = ~ended & jax.vmap(lambda place: acts(self, place))(places)
            history = inputs, outputs, Played(places, actions, rewards, ~ended), counts
            return (state, made.observation, made.state, ended | made.done), history

        observations, places = episode.extra
        ended = jnp.zeros(len(observations), bool)
        moments = jax.vmap(lambda key: jax.random.split(key, self.max_steps), out_axes=1)(keys)
        _, history = jax.lax.scan(act, (state, observations, places, ended), moments)
        inputs, outputs, played, counts = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), history)
        mask = counts.astype(jnp.float32)  # the steps whose actions count
        no_targets = jnp.zeros_like(outputs[..., : self.num_actions])
        return outputs, Episode(inputs, no_targets, mask, played)

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """The mean over the batch of an episode's return, with a minus sign."""
        return -episode.extra.rewards.sum(axis=1).mean()

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """missing_return: the mean return, from 0 (the best possible) to 1 (the worst)."""
        worst, best = self.return_bounds
        missing = (best + self.loss(outputs, episode)) / (best - worst)
        return {"missing_return": missing}

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """Observations and actions of the first episode of a batch."""
        played = jax.tree.map(lambda x: np.asarray(x)[0], episode.extra)
        seen, done = [], []
        for index, counts in enumerate(np.asarray(episode.mask)[0]):
            state = jax.tree.map(lambda x, index=index: x[index], played.states)
            seen.append(self.observed(state) if played.live[index] else "")
            done.append(self.action_name(int(played.actions[index])) if counts else "")
        return Words(tuple(seen), ("",) * len(seen), tuple(done))

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The first episode of a batch: what was seen, done and gained."""
        words, rewards = self.words(outputs, episode), np.asarray(episode.extra.rewards)[0]
        steps = zip(words.inputs, words.outputs, rewards, strict=True)
        lines = [
            f"{seen}: {done}, {reward:+.3g}" if done else seen
            for seen, done, reward in steps
            if seen
        ]
        shown = lines if len(lines) <= 20 else [*lines[:10], "...", *lines[-10:]]
        return "\n".join([*shown, f"return {rewards.sum():.3g} in {len(lines)} steps"])
