"""What a run is before its first iteration."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.errors import UsageError
from dncx.networks.build import Network, make_network
from dncx.reporting.console import Reporter
from dncx.runs import checkpoints
from dncx.runs import directory as runs
from dncx.runs.files import make_folder
from dncx.runs.integrity import Checkpoint
from dncx.runs.lock import Locks
from dncx.runs.population import Population, population_of
from dncx.runs.state import (
    WEIGHTS,
    TrainState,
    copied,
    initial_state,
    make_optimizer,
    stream,
)
from dncx.settings.training import TrainSettings
from dncx.tasks.base import Examined, Judge
from dncx.tasks.curriculum import Course
from dncx.training.devices import find_devices
from dncx.training.gradient import Plan
from dncx.training.resume import NEVER_VALIDATED, make_room, own_folders, resume
from dncx.training.update import Recipe


class Start(NamedTuple):
    """Where a run begins."""

    recipe: Recipe
    state: TrainState
    description: dict[str, Any]  # what config.json says of the run
    found: Checkpoint | None  # from which it goes on
    news: list[str]  # what is no longer as it was there
    broken: dict[Path, str]  # newer checkpoints that are not whole, and why


def begin(settings: TrainSettings[Any], task: Judge, model: dict[str, Any]) -> Start:
    """The newest whole checkpoint of a run, or a new run.

    Raises:
      UsageError: there are only broken ones, or one of another model.
    """
    run, found, broken, news = settings.run, None, {}, []
    if run.resume:
        found, broken = checkpoints.newest_whole(run.checkpoints)
    description = runs.describe(settings, model, task.loss_unit)
    if run.validation_interval > 0:
        description["validation"] = NEVER_VALIDATED
    recipe, state = _fresh(settings, model)
    if found:
        state, description, news = resume(found, state, description)
        _check_lesson(task, description)
    return Start(recipe, state, description, found, news, broken)


def take_place(
    settings: TrainSettings[Any],
    population: Population,
    start: Start,
    locks: Locks,
    reporter: Reporter,
) -> None:
    """Makes the run directory that of this run, as it is where it begins."""
    run, reached = settings.run, start.state.reached
    for folder in own_folders(run):
        make_folder(folder)
    locks.take(own_folders(run))
    for aside in checkpoints.move_aside(start.broken):
        reporter.say(f"a skipped checkpoint is in {aside} now")
    run_id = start.description["id"] if start.found else None
    make_room(run, population.folders, run_id, reached, reporter)
    population.write_configs(start.description)
    population.keep_metrics_up_to(reached)


def _fresh(settings: TrainSettings[Any], model: dict[str, Any]) -> tuple[Recipe, TrainState]:
    """How to train, and the state before the first iteration."""
    run, scale = settings.run, settings.scale
    devices = find_devices(scale, run.batch_size, model["memory_size"])
    optimizer = make_optimizer(settings.optimizer, run.num_training_iterations)
    seeds = population_of(settings).seeds
    split = [nnx.split(_network(settings, model, seed)) for seed in seeds]
    graph, averages = split[0][0], settings.optimizer.weight_average > 0
    states = [
        initial_state(nnx.to_pure_dict(params), optimizer, averages=averages) for _, params in split
    ]
    state = jax.tree.map(lambda *x: jnp.stack(x), *states) if len(states) > 1 else states[0]
    if run.validation_interval > 0:
        state = state._replace(best=copied(state.params))
    recipe = Recipe(
        graph=graph,
        optimizer=optimizer,
        batch_size=run.batch_size,
        plan=Plan(scale.gradient_accumulation, scale.truncation, devices),
        num_seeds=scale.num_seeds,
        max_skipped_updates=run.max_skipped_updates,
        skip_spikes=run.skip_spikes,
        weight_average=settings.optimizer.weight_average,
    )
    return recipe, devices.place(state) if devices else state


def _check_lesson(task: Judge, description: dict[str, Any]) -> None:
    lesson = description.get("lesson", 0)
    if isinstance(task, Course) and lesson > task.num_lessons:
        raise UsageError(
            f"the run is in lesson {lesson} already, and the task ends with {task.num_lessons}; "
            "give another --run_dir, or --no-resume to start anew"
        )


def check_task(settings: TrainSettings[Any], task: Judge) -> None:
    """Refuses what a task cannot be asked for."""
    examined = isinstance(task, Examined) and any(True for _ in task.episodes("validation", 1))
    if settings.run.validation_interval > 0 and not examined:
        raise UsageError(f"validation_interval: {settings.task_name} has no validation set")
    if settings.scale.num_seeds == 1:
        return
    if settings.run.validation_interval > 0:
        raise UsageError("num_seeds: with validation, train one seed after the other")
    if isinstance(task, Course):
        raise UsageError(
            f"num_seeds: {settings.task_name} is learned in lessons, which each seed ends at "
            "another iteration; train one seed after the other"
        )


def _network(settings: TrainSettings[Any], model: dict[str, Any], seed: int) -> Network:
    columns, form = settings.scale.memory_devices, settings.implementation
    if columns > 1 and (model["name"] != "dnc" or form == "native"):
        what = f"model={model['name']}" if model["name"] != "dnc" else "implementation=native"
        raise UsageError(f"memory_devices={columns}: not with {what}")
    try:
        return make_network(model, nnx.Rngs(params=stream(seed, WEIGHTS)), form)
    except ValueError as error:  # it cannot be computed so
        raise UsageError(str(error)) from error
