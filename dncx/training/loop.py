"""The training run, from the flags to the trained model."""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.dnc import DNC
from dncx.errors import TrainingError, UsageError
from dncx.tasks.base import Task
from dncx.training import checkpoints, runs
from dncx.training.files import check_folder, set_aside
from dncx.training.metrics import Metrics, Reporter
from dncx.training.settings import RunSettings, TrainRepeatCopy
from dncx.training.step import (
    DATA,
    SAMPLES,
    WEIGHTS,
    TrainState,
    initial_state,
    make_answer,
    make_optimizer,
    make_train,
    stream,
)


def train(settings: TrainRepeatCopy) -> Path:
    """Trains as the settings say, and leaves a run directory (see runs.py).

    Returns:
      The run directory.

    Raises:
      UsageError: the settings cannot be followed; nothing was written.
      TrainingError: the loss, its gradient or an update was no longer finite.
    """
    settings.check()
    task, config = runs.task_and_model(settings)
    run = settings.run
    runs.check_run_dir(run.run_dir)
    check_folder(run.checkpoints, "checkpoint_dir")

    weights = nnx.Rngs(params=stream(run.seed, WEIGHTS))
    graph, params = nnx.split(DNC(task.input_size, task.output_size, config, rngs=weights))
    optimizer = make_optimizer(settings.optimizer)
    state = initial_state(nnx.to_pure_dict(params), optimizer)
    description = runs.describe(settings, task, config)

    saved = checkpoints.saved_iterations(run.checkpoints) if run.resume else []
    with Reporter(run.num_training_iterations, saved[-1] if saved else 0) as reporter:
        if saved:
            state, description = _resume(run, saved[-1], state, description, reporter)
        else:
            _make_room(run, reporter)
        if _is_done(run, int(state.iteration)):
            reporter.say(f"{run.run_dir} is trained to iteration {int(state.iteration)} already")
            return run.run_dir
        run.run_dir.mkdir(parents=True, exist_ok=True)
        runs.write_config(run.run_dir, description)
        loop = _Loop(run, task, description, reporter, Metrics(run.run_dir / runs.METRICS))
        state = loop.run(
            state,
            make_train(graph, task, optimizer, run.batch_size),
            make_answer(graph, task, batch_size=1),
        )
        model = runs.save_model(run.run_dir, state.params, int(state.iteration))
        reporter.say(f"trained model: {model}")
    return run.run_dir


@dataclasses.dataclass
class _Loop:
    """Dispatches iterations to the device, and between them reports and saves."""

    settings: RunSettings
    task: Task
    description: dict[str, Any]
    reporter: Reporter
    metrics: Metrics

    def run(self, state: TrainState, step: Any, answer: Any) -> TrainState:
        settings = self.settings
        data, samples = stream(settings.seed, DATA), stream(settings.seed, SAMPLES)
        start = time.perf_counter()
        step = step.lower(state, data, state.iteration).compile()
        answer = answer.lower(state.params, samples, state.iteration).compile()
        platform = jax.devices()[0].platform
        self.reporter.say(f"compiled in {time.perf_counter() - start:.1f} s for {platform}")

        iteration = done = int(state.iteration)
        self.metrics.keep_up_to(iteration)
        clock = time.perf_counter()
        while iteration < settings.num_training_iterations:
            state = step(state, data, jnp.asarray(self._next_stop(iteration), jnp.int32))
            iteration = int(state.iteration)
            if not state.finite:
                raise TrainingError(self._not_finite(iteration + 1))
            self.reporter.advance(iteration)
            if self._due(iteration, settings.report_interval):
                sample = self.task.render(*answer(state.params, samples, state.iteration))
                now = time.perf_counter()
                self._report(state, (iteration - done) / (now - clock), sample)
                state, clock, done = state.reported_now(), now, iteration
            if self._due(iteration, settings.checkpoint_interval):
                checkpoints.save(
                    settings.checkpoints, state, self.description, settings.keep_checkpoints
                )
        return state

    def _next_stop(self, iteration: int) -> int:
        """Up to where the device may go on by itself."""
        intervals = (self.settings.report_interval, self.settings.checkpoint_interval)
        stops = [(iteration // every + 1) * every for every in intervals if every > 0]
        return min(self.settings.num_training_iterations, *stops)

    def _due(self, iteration: int, interval: int) -> bool:
        """Whether what is done at an interval is due now; at the very end it always is."""
        if interval < 1:
            return False
        return iteration % interval == 0 or iteration == self.settings.num_training_iterations

    def _report(self, state: TrainState, speed: float, sample: str) -> None:
        """Prints average loss, speed and a sample, and adds the line to metrics.jsonl."""
        iteration = int(state.iteration)
        loss = float(state.loss_sum) / (iteration - int(state.reported))
        self.reporter.say(
            f"iteration {iteration}/{self.settings.num_training_iterations}: average loss "
            f"{loss:.4g} {self.task.loss_unit}, {speed:.0f} iterations/s\n{sample}"
        )
        self.metrics.append(
            {
                "iteration": iteration,
                "loss": loss,
                "grad_norm_max": float(state.grad_norm_max),
                "iterations_per_second": round(speed, 1),
            }
        )

    def _not_finite(self, iteration: int) -> str:
        saved = checkpoints.saved_iterations(self.settings.checkpoints)
        last = (
            f"the last good checkpoint is {self.settings.checkpoints / str(saved[-1])}"
            if saved
            else "there is no checkpoint (--checkpoint_interval sets how often one is written)"
        )
        return (
            f"the loss, its gradient or the update is not finite at iteration {iteration}; {last}. "
            "Try a smaller --learning_rate or --max_grad_norm, a larger --optimizer_epsilon, "
            "or another --seed."
        )


def _resume(
    run: RunSettings,
    iteration: int,
    fresh: TrainState,
    description: dict[str, Any],
    reporter: Reporter,
) -> tuple[TrainState, dict[str, Any]]:
    """The state in a checkpoint, if it is of the model asked for, and what the run is now."""
    path = run.checkpoints / str(iteration)
    saved = checkpoints.load_config(path)
    other_model, changed = runs.compare_configs(saved, description)
    if other_model:
        there, here = checkpoints.saved_params(path), fresh.params
        shapes = runs.compare_shapes(runs.flat_shapes(there), runs.flat_shapes(here))
        raise UsageError(
            f"the checkpoint {path} is of another model:\n  "
            + "\n  ".join(other_model + shapes)
            + "\nGive the model's own settings, another --run_dir or --checkpoint_dir, or "
            "--no-resume to start anew (what is there is moved aside, not lost)."
        )
    state = checkpoints.load(path, fresh)
    reporter.say(f"resuming from {path}" + "".join(f"\n  {line}" for line in changed))
    history = saved.get("resumed", [])
    if changed:
        history = [*history, {"iteration": iteration, "changed": changed}]
    if (runs.trained_iterations(run.run_dir) or 0) > iteration and not _is_done(run, iteration):
        aside = set_aside(run.run_dir, (runs.CONFIG, runs.METRICS, runs.MODEL))
        if aside and (aside / runs.METRICS).exists():
            shutil.copy2(aside / runs.METRICS, run.run_dir)
        reporter.say(f"{run.run_dir} held a model trained further; it is in {aside} now")
    return state, description | {"resumed": history}


def _is_done(run: RunSettings, iteration: int) -> bool:
    """Whether there is nothing left to train and to write."""
    trained = runs.trained_iterations(run.run_dir)
    return trained is not None and iteration >= run.num_training_iterations


def _make_room(run: RunSettings, reporter: Reporter) -> None:
    """Moves an earlier run's files aside, so that none is overwritten."""
    own = [runs.CONFIG, runs.METRICS, runs.MODEL]
    moves = [(run.run_dir, own)]
    if run.checkpoint_dir is None:
        own.append(run.checkpoints.name)
    else:
        saved = [str(iteration) for iteration in checkpoints.saved_iterations(run.checkpoints)]
        moves.append((run.checkpoints, saved))
    for folder, names in moves:
        aside = set_aside(folder, names)
        if aside:
            reporter.say(f"{folder} held an earlier run; it is in {aside} now")
