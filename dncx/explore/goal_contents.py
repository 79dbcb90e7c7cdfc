"""What a DNC that plays Mini-SHRDLU has written for each goal, before it knows which one is asked.

The content of a goal is what its constraints' own write weights would read. Let s_1, ..., s_k be
the steps at which the k constraints of goal g are told, and w_s the write weighting of step s, the
sum over write heads. The content of g at step t is

    c_g(t) = 1/k Σ_i M_tᵀ w_{s_i}        W numbers, in the memory's own units

where M_t is the memory after the write of step t. At t = s_k, the step of the goal's last
constraint, c_g(t) depends on nothing that comes later: neither the go cue nor the goals after g.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dncx.explore.tracing import memory_of
from dncx.runs.state import EVALUATION, stream
from dncx.sequence import unroll_with_trace
from dncx.tasks.base import Episode
from dncx.tasks.shrdlu.goals import Problem
from dncx.tasks.shrdlu.task import MiniShrdlu
from dncx.training.batches import batch_key, keys_for
from dncx.training.gradient import respond

_BATCH = 25  # episodes; the memory at every step of a batch must fit into the computer's memory
_OTHER_GOALS = 2**31 - 4  # see `training.batches` on numbers for the uses of a batch's key


class GoalContents(NamedTuple):
    """The contents of two goals of each of E episodes: the one that is asked for, and another one.

    All are NumPy arrays.

    Attributes:
      content: c_g(t) of the goal that is asked for, at each step t of the longest telling; steps
        from `num_told` on mean nothing.
      written: the step of the last constraint of the goal that is asked for.
      other: c_g at its last constraint, of a goal that is not asked for, drawn at random.
      observed: the mean observation at the steps of the goal that is asked for.
      num_told: the number of constraints of all goals, which is the step of the go cue.
      num_goals: the number of goals.
      first_move: the action at the go cue, from 0.
      solved: whether all constraints are satisfied at the end.
    """

    content: Float[Any, "E T W"]
    written: Int[Any, " E"]
    other: Float[Any, "E W"]
    observed: Float[Any, "E F"]
    num_told: Int[Any, " E"]
    num_goals: Int[Any, " E"]
    first_move: Int[Any, " E"]
    solved: Bool[Any, " E"]

    def at(self, steps: Int[Any, " E"]) -> Float[Any, "E W"]:
        """The content of the goal that is asked for, at a step of each episode."""
        return self.content[np.arange(len(steps)), steps]


def goal_contents(task: MiniShrdlu, network: Any, num_episodes: int, seed: int) -> GoalContents:
    """Plays fresh episodes with the most likely action at each step, and records the contents.

    Args:
      task: Mini-SHRDLU; each episode must have two goals or more.
      network: a DNC, possibly with an embedding.
      num_episodes: number of episodes.
      seed: seed of the episodes, and of the draws of other goals.

    Raises:
      UsageError: if the network does not have the memory of a DNC.
    """
    memory_of(network)
    graph, params = nnx.split(network)

    @jax.jit
    def play(params: Any, key: Array) -> GoalContents:
        return _of_batch(task, nnx.merge(graph, params), key)

    key, count = stream(seed, EVALUATION), -(-num_episodes // _BATCH)
    batches = [jax.device_get(play(params, batch_key(key, number))) for number in range(count)]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num_episodes], *batches)


def _of_batch(task: MiniShrdlu, network: Any, key: Array) -> GoalContents:
    episode = task.sample(key, _BATCH)
    outputs, episode = respond(network, task, episode, keys_for(episode, key), training=False)
    steps = episode.extra.states.problem.told.shape[2]  # of the longest telling
    _, _, trace = unroll_with_trace(network, episode.inputs[:, :steps])
    state = trace.state.access_state
    keys = jax.random.split(jax.random.fold_in(key, _OTHER_GOALS), _BATCH)
    of_episode = functools.partial(contents_of_episode, task)
    return jax.vmap(of_episode)(keys, outputs, episode, state.memory, state.write_weights)


def contents_of_episode(
    task: MiniShrdlu,
    key: Array,
    outputs: Float[Array, "A O"],
    episode: Episode,
    memory: Float[Array, "T N W"],
    write_weights: Float[Array, "T M N"],
) -> GoalContents:
    """The contents of the goals of one episode.

    Args:
      task: Mini-SHRDLU.
      key: chooses the other goal.
      outputs: of the network in the whole episode.
      episode: the episode as it was played.
      memory: after the write of each step at which constraints are told.
      write_weights: of the same steps.
    """
    problem: Problem = jax.tree.map(lambda x: x[0], episode.extra.states.problem)
    letters = problem.told[:, 0]
    steps = jnp.arange(len(letters), dtype=jnp.int32)
    told = steps < problem.num_told
    asked = told & (letters == problem.letter)
    named_before = (letters[:, None] == letters[None]) & (steps[None] < steps[:, None])
    first_of_goal = told & ~named_before.any(axis=1)
    another = jax.random.categorical(key, jnp.where(first_of_goal & ~asked, 0.0, -jnp.inf))
    other = told & (letters == letters[another])

    def content(of_goal: Bool[Array, " T"]) -> Float[Array, "T W"]:
        weights = _mean(write_weights.sum(axis=1), of_goal)
        return jnp.einsum("n,tnw->tw", weights, memory)

    whole = jax.tree.map(lambda x: x[None], (outputs, episode))
    return GoalContents(
        content=content(asked),
        written=_last(asked),
        other=content(other)[_last(other)],
        observed=_mean(episode.inputs[: len(letters)], asked),
        num_told=problem.num_told,
        num_goals=first_of_goal.sum(dtype=jnp.int32),
        first_move=episode.extra.actions[problem.num_told],
        solved=task.score(*whole)["unsolved"] == 0,
    )


def _mean(values: Float[Array, "T F"], steps: Bool[Array, " T"]) -> Float[Array, " F"]:
    """The mean over the steps of a goal."""
    return steps.astype(values.dtype) @ values / steps.sum(dtype=values.dtype)


def _last(steps: Bool[Array, " T"]) -> Int[Array, ""]:
    """The last step of a goal."""
    return (len(steps) - 1 - steps[::-1].argmax()).astype(jnp.int32)
