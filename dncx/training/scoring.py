"""Scores of a network on fresh batches, and on complete validation and test sets."""

import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Int

from dncx.errors import UsageError
from dncx.networks.build import Network
from dncx.tasks.base import (
    Bucketed,
    Episode,
    HasEvalSplits,
    ListsWrongAnswers,
    Objective,
    Task,
)
from dncx.training.batches import batch_key, keys_for, sources
from dncx.training.devices import Devices
from dncx.training.gradient import GradientOptions, respond


def make_answer(
    graph: nnx.GraphDef, task: Objective, batch_size: int, devices: Devices | None = None
) -> Wrapped:
    """A compiled function (params, key, number, data) -> outputs for a fresh batch, and the batch.

    For a task in buckets, the batch comes from the first bucket, which has the shortest sequences.
    The devices, here and below, have copies of the parameters and share the slots of a memory.
    """

    def answer(params: Any, key: Array, number: Int[Array, ""], data: Any) -> tuple[Array, Episode]:
        now, source = batch_key(key, number), sources(task, data)[0]
        return _fresh_answer(nnx.merge(graph, params), source, now, batch_size, devices)

    return jax.jit(answer, out_shardings=devices.everywhere if devices else None)


def make_measure(
    graph: nnx.GraphDef, task: Objective, batch_size: int, devices: Devices | None = None
) -> Wrapped:
    """A compiled function (params, key, number, data) -> loss and scores of a fresh batch.

    For a task in buckets, this is the mean over one batch from each bucket, weighted by the shares.
    """
    shares = task.shares if isinstance(task, Bucketed) else (1.0,)

    def measure(params: Any, key: Array, number: Int[Array, ""], data: Any) -> dict[str, Array]:
        network, now = nnx.merge(graph, params), batch_key(key, number)
        measured = []
        for source, share in zip(sources(task, data), shares, strict=True):
            outputs, episode = _fresh_answer(network, source, now, batch_size, devices)
            found = {"loss": task.loss(outputs, episode), **task.score(outputs, episode)}
            measured.append(jax.tree.map(lambda x, share=share: x * share, found))
        return jax.tree.map(lambda *parts: sum(parts), *measured)

    return jax.jit(measure, out_shardings=devices.everywhere if devices else None)


def _fresh_answer(
    network: Network, source: Task, key: Array, batch_size: int, devices: Devices | None
) -> tuple[Array, Episode]:
    episode, options = source.sample(key, batch_size), GradientOptions(devices=devices)
    return respond(
        network, source, episode, keys_for(episode, key), training=False, options=options
    )


def make_split_evaluator(
    graph: nnx.GraphDef, task: HasEvalSplits, batch_size: int, devices: Devices | None = None
) -> Callable[[Any, Literal["validation", "test"]], dict[str, Any]]:
    """A function (params, split) -> the results on all sequences of the split."""

    @jax.jit
    def count(params: Any, episode: Episode) -> Any:
        return task.tally(*_split_answer(graph, params, task, episode, devices))

    def evaluate(params: Any, split: Literal["validation", "test"]) -> dict[str, Any]:
        counts = [count(params, episode) for episode in task.episodes(split, batch_size)]
        if not counts:
            raise UsageError(f"the task has no sequences for {split}")
        return task.results(jax.tree.map(lambda *parts: sum(parts), *counts))

    return evaluate


def wrong_answers(
    graph: nnx.GraphDef, params: Any, task: ListsWrongAnswers, batch_size: int, number: int
) -> list[str]:
    """At most `number` wrong answers on the test set, taken from its groups in turn."""
    answer = jax.jit(lambda params, episode: _split_answer(graph, params, task, episode))
    found: dict[str, list[str]] = {}
    for episode in task.episodes("test", batch_size):
        for group, text in task.wrong_answers(*answer(params, episode)):
            found.setdefault(group, [])
            if len(found[group]) < number:
                found[group].append(text)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*found.values()))
    return list(itertools.islice((text for text in in_turn if text), number))


def _split_answer(
    graph: nnx.GraphDef,
    params: Any,
    task: HasEvalSplits,
    episode: Episode,
    devices: Devices | None = None,
) -> tuple[Array, Episode]:
    network, keys = nnx.merge(graph, params), keys_for(episode, jax.random.key(0))
    options = GradientOptions(devices=devices)
    return respond(network, task, episode, keys, training=False, options=options)
