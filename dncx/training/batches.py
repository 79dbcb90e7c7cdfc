"""Drawing batches, in one place for training, scores, traces and debugging."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dncx.tasks.base import Bucketed, Episode, Objective, Task

R = TypeVar("R")

# The key of a batch serves several purposes. A task's own splits of it count up from 0; these
# numbers come from the other end and never collide with them.
_ANSWERS = 2**31 - 1  # random choices while the network answers
_BUCKET = 2**31 - 2  # the choice of a bucket
_PARTS = 2**31 - 3  # the parts of a batch


def data_of(task: Objective) -> Any:
    """The arrays that a task's programs take as an argument, so that they are not constants."""
    return task.buckets if isinstance(task, Bucketed) else ()


def sources(task: Objective, data: Any) -> tuple[Task, ...]:
    """The sources of batches: the buckets in `data`, or the task itself."""
    return data if isinstance(task, Bucketed) else (cast(Task, task),)


def batch_key(key: Array, iteration: int | Int[Array, ""]) -> Array:
    """The key of an iteration's batch, which depends only on the run's key and the iteration."""
    return jax.random.fold_in(key, iteration)


def part_keys(task: Objective, key: Array, accumulation: int) -> Array:
    """The keys of the parts of a batch that are drawn one by one.

    A task in buckets draws each of its `accumulation` parts from its own bucket, so that an update
    sees sequences of several lengths without padding the short ones to the longest. The batch of
    any other task is a single part, which has the batch's own key.

    Args:
      task: the task of the batch.
      key: the key of the batch.
      accumulation: see `GradientOptions`.
    """
    if accumulation == 1 or not isinstance(task, Bucketed):
        return key[None]
    return jax.random.split(jax.random.fold_in(key, _PARTS), accumulation)


def drawn_bucket(task: Objective, key: Array) -> Int[Array, ""]:
    """The index of the bucket from which a part of a batch is drawn, by the buckets' shares."""
    if not isinstance(task, Bucketed):
        return jnp.int32(0)
    which = jax.random.fold_in(key, _BUCKET)
    return jax.random.choice(which, len(task.shares), p=jnp.asarray(task.shares))


def on_drawn_source(task: Objective, data: Any, key: Array, act: Callable[[Task], R]) -> R:
    """`act` on the source from which a part of a batch is drawn, inside jit.

    Args:
      task: the task of the batch.
      data: `data_of` the task.
      key: the key of the part.
      act: a function that is compiled once per bucket, since their lengths differ; its results
        have one shape.
    """
    if not isinstance(task, Bucketed):
        return act(cast(Task, task))
    branches = [lambda bucket=bucket: act(bucket) for bucket in sources(task, data)]
    return jax.lax.switch(drawn_bucket(task, key), branches)


def keys_for(episode: Episode, key: Array) -> Array:
    """A key per sequence for random choices while it is answered, from the batch's key."""
    return jax.random.split(jax.random.fold_in(key, _ANSWERS), len(episode.inputs))
