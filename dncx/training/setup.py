"""A run before its first iteration: a new one, or one that continues from a checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.errors import UsageError
from dncx.kernels.choice import select
from dncx.networks.build import make_network
from dncx.networks.config import NetworkConfig
from dncx.parts import cells_of
from dncx.runs import checkpoints
from dncx.runs.config import RunConfig, run_config
from dncx.runs.directory import task_of
from dncx.runs.files import make_folder
from dncx.runs.initial import InitialWeights, initial_weights
from dncx.runs.lock import Locks
from dncx.runs.manifest import Checkpoint
from dncx.runs.population import Population
from dncx.runs.progress import Progress, Validation
from dncx.runs.state import FIRST_EPISODES, WEIGHTS, TrainState, copied, initial_state, stream
from dncx.settings.training import TrainSettings
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.base import HasEvalSplits, Interactive, Objective
from dncx.tasks.curriculum import Course, lesson_of
from dncx.training.devices import Devices, find_devices
from dncx.training.gradient import GradientOptions
from dncx.training.method import Method
from dncx.training.optimizer import make_optimizer
from dncx.training.resume import keeps_validation, make_room, own_folders, resumed
from dncx.training.update import UpdateConfig, of_one_seed


class Start(NamedTuple):
    """The starting point of a run."""

    update: UpdateConfig
    state: TrainState
    config: RunConfig
    progress: Progress
    checkpoint: Checkpoint | None  # the checkpoint from which it resumes
    changed: list[str]  # settings that have changed since the checkpoint
    corrupt: dict[Path, str]  # newer, corrupt checkpoints and the reasons
    initial: InitialWeights | None = None  # initial weights of a new run; None: random


def prepare(
    settings: TrainSettings[Any], task: Objective, network: NetworkConfig, method: Method
) -> Start:
    """The newest intact checkpoint of a run, or a new run. Writes nothing.

    Raises:
      UsageError: if all checkpoints are corrupt, the newest belongs to another network, or the
        initial model does not fit the network.
    """
    run, found, corrupt = settings.run, None, {}
    if run.resume:
        found, corrupt = checkpoints.newest_intact(run.checkpoints)
    _check_memory_devices(settings, network)
    devices = find_devices(settings.scale, run.batch_size, network.cell.memory_size)
    initial = initial_weights(run.initial_model, task) if run.initial_model else None
    record = initial.record if initial else None
    config = run_config(settings, network, method.loss_unit(task), record)
    update = update_config(config, devices, method.updates_per_iteration(task))
    # Not in `config`: it decides when to give up, not what an update does, and may change freely.
    update = update._replace(max_skipped_updates=run.max_skipped_updates)
    first = Progress(
        lesson=1 if isinstance(task, Course) else 0,
        validation=Validation() if run.validation_interval > 0 else None,
    )
    if found is None:
        state = first_state(config, update, initial)
        now = lesson_of(task, first.lesson, mixed=True)
        state = state._replace(**first_carried(state, config, update, now, method))
        if first.validation:
            state = state._replace(best=copied(state.model))
        return Start(update, state, config, first, None, [], corrupt, initial)
    # A restore needs shapes only, so no network is initialised.
    template = jax.eval_shape(lambda: first_state(config, update))
    before = found.manifest.config
    config, progress, changed = resumed(found, config, template.params)
    _check_lesson(task, progress)
    task_before = task
    if before.task != config.task and is_environment(task):
        task_before = task_of(run.run_dir, before.task.name, before.task.settings)
    then, now = (lesson_of(one, progress.lesson, mixed=True) for one in (task_before, task))
    carried, needed = jax.eval_shape(
        lambda state: (
            first_carried(state, before, update, then, method),
            first_carried(state, config, update, now, method),
        ),
        template,
    )
    state = restore(found, template._replace(**carried), devices)
    if carried != needed:  # another number of environments, or another method
        state = state._replace(**first_carried(state, config, update, now, method))
    validation = first.validation
    if validation is None:
        state = state._replace(best=())
    elif keeps_validation(found, config):
        validation = progress.validation
    else:
        state = state._replace(best=copied(state.model))
    progress = dataclasses.replace(progress, validation=validation)
    return Start(update, state, config, progress, found, changed, corrupt)


def update_config(
    config: RunConfig, devices: Devices | None = None, updates_per_iteration: int = 1
) -> UpdateConfig:
    """The update rule of a run.

    Args:
      config: the configuration of the run.
      devices: the devices that share the work; None: one device.
      updates_per_iteration: see `Method`.

    Raises:
      UsageError: if the implementation cannot compute the network.
    """
    updates = config.updates
    try:
        network = nnx.eval_shape(
            lambda: make_network(config.network, nnx.Rngs(0), config.implementation)
        )
        if config.implementation == "native":  # not checked when a network of shapes is made
            for cell in cells_of(network):
                select(cell)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return UpdateConfig(
        graph=nnx.graphdef(network),
        optimizer=make_optimizer(
            config.optimizer, updates.num_training_iterations * updates_per_iteration
        ),
        batch_size=updates.batch_size,
        gradient=GradientOptions(
            accumulation=updates.gradient_accumulation,
            truncation=updates.truncation,
            output_dropout=config.optimizer.output_dropout,
            devices=devices,
        ),
        num_seeds=updates.num_seeds,
        skip_spikes=updates.skip_spikes,
        weight_average=config.optimizer.weight_average,
    )


def first_state(
    config: RunConfig, update: UpdateConfig, initial: InitialWeights | None = None
) -> TrainState:
    """The state of a run before its first iteration.

    Args:
      config: the configuration of the run.
      update: its update rule.
      initial: the weights of all seeds; None: each seed draws its own. Outputs that a saved model
        does not have are drawn in any case.

    Raises:
      UsageError: if the weights belong to another network.
    """
    averages = update.weight_average > 0

    def one(seed: int) -> TrainState:
        # Only its weights are used; `update.graph` has the implementation.
        network = make_network(config.network, nnx.Rngs(params=stream(seed, WEIGHTS)))
        params = nnx.to_pure_dict(nnx.state(network))
        if initial:
            params = initial.params(params)
        return initial_state(params, update.optimizer, averages=averages)

    first = config.updates.seed
    states = [one(seed) for seed in range(first, first + config.updates.num_seeds)]
    state = jax.tree.map(lambda *x: jnp.stack(x), *states) if len(states) > 1 else states[0]
    devices = update.gradient.devices
    return devices.place(state) if devices else state


def first_carried(
    state: TrainState, config: RunConfig, update: UpdateConfig, task: Objective, method: Method
) -> dict[str, Any]:
    """The fields `carried` and `sums` of a first state; see `Method`."""
    updates = config.updates
    update = of_one_seed(update)._replace(batch_size=updates.batch_size)

    def one(number: int) -> dict[str, Any]:
        params = state.one(number).params if updates.num_seeds > 1 else state.params
        key = stream(updates.seed + number, FIRST_EPISODES)
        found = {"carried": method.carried(update, params, task, key), "sums": method.sums()}
        return copied(found)

    seeds = [one(number) for number in range(updates.num_seeds)]
    return jax.tree.map(lambda *x: jnp.stack(x), *seeds) if len(seeds) > 1 else seeds[0]


def restore(
    checkpoint: Checkpoint, template: TrainState, devices: Devices | None = None
) -> TrainState:
    """The state in a checkpoint.

    Args:
      checkpoint: an intact checkpoint.
      template: the shapes of the run's initial state.
      devices: the devices for the arrays; None: the first device.
    """
    if checkpoint.manifest.progress.validation is not None:
        # The checkpoint also has the best parameters so far, of the same shapes.
        template = template._replace(best=template.params)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if devices:
        sharding = devices.everywhere
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), template
    )
    return checkpoints.load(checkpoint, placed)


def claim_run_dir(
    settings: TrainSettings[Any],
    population: Population,
    start: Start,
    locks: Locks,
    report: Callable[[str], object],
) -> None:
    """Prepares the run directory: locks it, moves old files aside, and writes config.json."""
    run, reached = settings.run, start.progress.iteration
    for folder in own_folders(run):
        make_folder(folder)
    locks.take(own_folders(run))
    for aside in checkpoints.move_aside(start.corrupt):
        report(f"moved the corrupt checkpoint to {aside}")
    run_id = start.config.id if start.checkpoint else None
    make_room(run, population.folders, run_id, reached, report)
    population.write_configs(start.config)
    population.keep_metrics_up_to(reached)


def _check_memory_devices(settings: TrainSettings[Any], network: NetworkConfig) -> None:
    columns = settings.scale.memory_devices
    if columns > 1 and network.kind != "dnc":
        raise UsageError(f"memory_devices={columns}: needs model=dnc, not {network.kind}")
    if columns > 1 and settings.implementation == "native":
        raise UsageError(f"memory_devices={columns}: cannot be used with implementation=native")


def _check_lesson(task: Objective, progress: Progress) -> None:
    if isinstance(task, Course) and progress.lesson > task.num_lessons:
        raise UsageError(
            f"the run is already in lesson {progress.lesson}, but the task ends with lesson "
            f"{task.num_lessons}; use another --run_dir, or --no-resume to start over"
        )


def check_task(settings: TrainSettings[Any], task: Objective) -> None:
    """Refuses settings that the task cannot be trained with."""
    if settings.run.validation_interval > 0:
        has_sequences = isinstance(task, HasEvalSplits) and any(
            True for _ in task.episodes("validation", 1)
        )
        if not has_sequences:
            raise UsageError(f"validation_interval: {settings.task_name} has no validation set")
    not_step_by_step = {
        "output_dropout": settings.optimizer.output_dropout,
        "bidirectional": settings.model.bidirectional,
    }
    for flag, given in not_step_by_step.items():
        if given and isinstance(task, Interactive):
            raise UsageError(
                f"{flag}: {settings.task_name} feeds answers back as inputs, step by step; leave "
                "this option out"
            )
    if settings.model.bidirectional and settings.scale.truncation:
        raise UsageError("truncation: a bidirectional network needs complete sequences")
    if settings.scale.num_seeds == 1:
        return
    if settings.run.validation_interval > 0:
        raise UsageError("num_seeds: with validation, train one seed after the other")
    if isinstance(task, Course):
        raise UsageError(
            f"num_seeds: each seed would end the lessons of {settings.task_name} at a different "
            "iteration; train one seed after the other"
        )
