"""What a training run does on the device, compiled before it begins and for every lesson anew."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx
from jax.stages import Wrapped

from dncx.tasks.base import Judge
from dncx.tasks.curriculum import Course
from dncx.training.settings import RunSettings
from dncx.training.step import (
    DATA,
    GATE,
    SAMPLES,
    TrainState,
    data_of,
    make_answer,
    make_diagnosis,
    make_measure,
    make_train,
    stream,
)


@dataclasses.dataclass(frozen=True)
class Programs:
    """Three functions of the state; the keys and the data that they need are in them."""

    train: Callable[..., TrainState]  # (state, last iteration) -> state
    answer: Callable[..., Any]  # (state) -> the outputs for a fresh sequence, and the sequence
    measure: Callable[..., dict[str, jax.Array]]  # (state) -> scores of the lesson; see `Gate`
    diagnose: Callable[..., Any]  # (state) -> the norms that the next update is made of


def compile_programs(
    graph: nnx.GraphDef,
    task: Judge,
    optimizer: optax.GradientTransformation,
    settings: RunSettings,
    state: TrainState,
    lesson: int,
) -> Programs:
    """The programs of a task, or of one lesson of a `Course`."""
    alone, episodes = task, 1
    if isinstance(task, Course):
        alone, episodes = task.at_lesson(lesson), task.gate.episodes
        task = task.at_lesson(lesson, task.gate.earlier_share)
    seed, number = settings.seed, state.iteration
    data, data_alone = data_of(task), data_of(alone)
    draws, samples, gate = (stream(seed, purpose) for purpose in (DATA, SAMPLES, GATE))
    train = make_train(graph, task, optimizer, settings.batch_size, settings.max_skipped_updates)
    train = _compiled(train, state, draws, number, data)
    answer = _compiled(make_answer(graph, alone, 1), state.params, samples, number, data_alone)
    # These are compiled at their first use, if any.
    measure = make_measure(graph, alone, episodes)
    diagnose = make_diagnosis(graph, task, optimizer, settings.batch_size)
    return Programs(
        train=lambda state, last: train(state, draws, last, data),
        answer=lambda state: answer(state.params, samples, state.iteration, data_alone),
        measure=lambda state: measure(state.params, gate, state.iteration, data_alone),
        diagnose=lambda state: diagnose(state, draws, data),
    )


def _compiled(program: Wrapped, *arguments: Any) -> Any:
    return program.lower(*arguments).compile()
