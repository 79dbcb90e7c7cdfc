"""What a network can do: answers to fresh batches, their scores, and those of whole test sets."""

from collections.abc import Callable
from typing import Any, Literal, cast

import jax
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Int

from dncx.errors import UsageError
from dncx.networks.build import Network
from dncx.tasks.base import Bucketed, Episode, Examined, Judge, Task
from dncx.training.devices import Devices
from dncx.training.gradient import Plan, keys_for, respond


def data_of(task: Judge) -> Any:
    """What the programs of a task take as their last argument."""
    return task.buckets if isinstance(task, Bucketed) else ()


def make_answer(
    graph: nnx.GraphDef, task: Judge, batch_size: int, devices: Devices | None = None
) -> Wrapped:
    """A compiled function (params, key, number, data) -> outputs for a fresh batch, and the batch.

    Of a task in buckets the first one, which has the shortest sequences. The devices, here and
    below, share the slots of a memory, and have the parameters.
    """

    def answer(params: Any, key: Array, number: Int[Array, ""], data: Any) -> tuple[Array, Episode]:
        now, source = jax.random.fold_in(key, number), sources(task, data)[0]
        return _fresh_answer(nnx.merge(graph, params), source, now, batch_size, devices)

    return jax.jit(answer, out_shardings=devices.everywhere if devices else None)


def make_measure(
    graph: nnx.GraphDef, task: Judge, batch_size: int, devices: Devices | None = None
) -> Wrapped:
    """A compiled function (params, key, number, data) -> loss and scores of a fresh batch.

    Of a task in buckets the means of a batch from each, in their shares.
    """
    shares = task.shares if isinstance(task, Bucketed) else (1.0,)

    def measure(params: Any, key: Array, number: Int[Array, ""], data: Any) -> dict[str, Array]:
        network, now = nnx.merge(graph, params), jax.random.fold_in(key, number)
        measured = []
        for source, share in zip(sources(task, data), shares, strict=True):
            outputs, episode = _fresh_answer(network, source, now, batch_size, devices)
            found = {"loss": task.loss(outputs, episode), **task.score(outputs, episode)}
            measured.append(jax.tree.map(lambda x, share=share: x * share, found))
        return jax.tree.map(lambda *parts: sum(parts), *measured)

    return jax.jit(measure, out_shardings=devices.everywhere if devices else None)


def sources(task: Judge, data: Any) -> tuple[Task, ...]:
    """What episodes are drawn from."""
    return data if isinstance(task, Bucketed) else (cast(Task, task),)


def _fresh_answer(
    network: Network, source: Task, key: Array, batch_size: int, devices: Devices | None
) -> tuple[Array, Episode]:
    episode, plan = source.sample(key, batch_size), Plan(devices=devices)
    return respond(network, source, episode, keys_for(episode, key), training=False, plan=plan)


def make_examination(
    graph: nnx.GraphDef, task: Examined, batch_size: int, devices: Devices | None = None
) -> Callable[[Any, Literal["validation", "test"]], dict[str, Any]]:
    """A function (params, split) -> the results of all of a split's sequences."""

    @jax.jit
    def count(params: Any, episode: Episode) -> Any:
        network, keys = nnx.merge(graph, params), keys_for(episode, jax.random.key(0))
        plan = Plan(devices=devices)
        return task.tally(*respond(network, task, episode, keys, training=False, plan=plan))

    def examine(params: Any, split: Literal["validation", "test"]) -> dict[str, Any]:
        counts = [count(params, episode) for episode in task.episodes(split, batch_size)]
        if not counts:
            raise UsageError(f"the task has no sequences for {split}")
        return task.results(jax.tree.map(lambda *parts: sum(parts), *counts))

    return examine
