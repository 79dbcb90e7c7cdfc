"""The programs of a training run, compiled before it starts and again for every lesson."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.stages import Wrapped

from dncx.runs.population import Population
from dncx.runs.state import DATA, GATE, SAMPLES, TrainState, stream
from dncx.tasks.base import Objective
from dncx.tasks.curriculum import Course, lesson_of
from dncx.training.batches import data_of
from dncx.training.method import Method
from dncx.training.scoring import make_answer, make_measure
from dncx.training.update import UpdateConfig


@dataclasses.dataclass(frozen=True)
class Programs:
    """Functions of the state that contain the keys and the data they need."""

    train: Callable[..., TrainState]  # (state, last iteration) -> state
    answer: Callable[..., Any]  # (state) -> the outputs for a fresh sequence, and the sequence
    measure: Callable[..., dict[str, jax.Array]]  # (state) -> scores of the lesson; see `Gate`
    diagnose: Callable[..., Any]  # (state, seed) -> `Attempt.norms` of its next update


def compile_programs(
    method: Method,
    config: UpdateConfig,
    task: Objective,
    population: Population,
    state: TrainState,
    lesson: int,
) -> Programs:
    """The programs of a task, or of one lesson of a `Course`.

    All except `train` are for the first network of a population and take its state.
    """
    episodes = task.gate.episodes if isinstance(task, Course) else 1
    alone, task = lesson_of(task, lesson), lesson_of(task, lesson, mixed=True)
    place = config.gradient.devices.place if config.gradient.devices else lambda tree: tree
    data, data_alone = place(data_of(task)), place(data_of(alone))
    first, one = population.seeds[0], population.first(state)
    draw, samples, gate = place([stream(first, use) for use in (DATA, SAMPLES, GATE)])
    draws = draw
    if len(population.seeds) > 1:
        draws = place(jnp.stack([stream(seed, DATA) for seed in population.seeds]))
    # A restored state is committed to its device, a new one is not. As shapes with a device, both
    # give the same program, so a resumed run finds the program compiled at its first start.
    state, one = jax.tree.map(_on_its_device, (state, one))
    train = method.make_train(config, task).lower(state, draws, place(jnp.int32(0)), data).compile()
    devices = config.gradient.devices
    answer = _compiled(make_answer(config.graph, alone, 1, devices), one, samples, data_alone)
    # These are compiled at their first use, if any.
    measure = make_measure(config.graph, alone, episodes, devices)
    diagnose = method.make_diagnosis(config, task)
    return Programs(
        train=lambda state, last: train(state, draws, place(jnp.int32(last)), data),
        answer=lambda state: answer(state.model, samples, state.iteration, data_alone),
        measure=lambda state: measure(state.model, gate, state.iteration, data_alone),
        diagnose=lambda state, seed: diagnose(state, place(stream(seed, DATA)), data),
    )


def _on_its_device(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding, weak_type=x.weak_type)


def _compiled(program: Wrapped, state: TrainState, key: jax.Array, data: Any) -> Any:
    return program.lower(state.model, key, state.iteration, data).compile()
