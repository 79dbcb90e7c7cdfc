"""The training run, from the flags to the trained model."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.dnc import DNC
from dncx.errors import TrainingError, UsageError
from dncx.tasks.base import Task
from dncx.tasks.repeat_copy import RepeatCopy
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
      TrainingError: the loss or its gradient was no longer finite.
    """
    settings.check()
    try:
        task = RepeatCopy(**dataclasses.asdict(settings.task))
        config = runs.model_config(settings.model)
    except ValueError as error:
        raise UsageError(str(error)) from error
    run = settings.run
    runs.check_run_dir(run.run_dir)
    check_folder(run.checkpoints, "checkpoint_dir")

    cell = DNC(
        task.input_size, task.output_size, config, rngs=nnx.Rngs(params=stream(run.seed, WEIGHTS))
    )
    graph, params = nnx.split(cell)
    optimizer = make_optimizer(settings.optimizer)
    state = initial_state(nnx.to_pure_dict(params), optimizer)
    description = runs.describe(settings, task, config)

    saved = checkpoints.saved_iterations(run.checkpoints) if run.resume else []
    with Reporter(run.num_training_iterations, saved[-1] if saved else 0) as reporter:
        if saved:
            state = _resume(run.checkpoints / str(saved[-1]), description, state)
            reporter.say(f"resuming from {run.checkpoints / str(saved[-1])}")
        else:
            _make_room(run, reporter)
        run.run_dir.mkdir(parents=True, exist_ok=True)
        runs.write_config(run.run_dir, description)
        loop = _Loop(run, task, graph, optimizer, reporter, description)
        state = loop.run(state)
        model = runs.save_model(run.run_dir, state.params)
        reporter.say(f"trained model: {model}")
    return run.run_dir


@dataclasses.dataclass
class _Loop:
    """Dispatches iterations to the device, and between them reports and saves."""

    settings: RunSettings
    task: Task
    graph: nnx.GraphDef
    optimizer: Any
    reporter: Reporter
    description: dict[str, Any]

    def run(self, state: TrainState) -> TrainState:
        settings = self.settings
        metrics = Metrics(settings.run_dir / runs.METRICS, int(state.iteration))
        data, self.samples = stream(settings.seed, DATA), stream(settings.seed, SAMPLES)
        step = self._compile(state, data)

        clock, done = time.perf_counter(), int(state.iteration)
        while (iteration := int(state.iteration)) < settings.num_training_iterations:
            state = step(state, data, jnp.asarray(self._next_stop(iteration), jnp.int32))
            if not state.finite:
                raise TrainingError(self._not_finite(int(state.iteration) + 1))
            iteration = int(state.iteration)
            self.reporter.advance(iteration)
            if self._due(iteration, settings.report_interval):
                now = time.perf_counter()
                metrics.append(self._report(state, (iteration - done) / (now - clock)))
                clock, done = now, iteration
                zero = jnp.zeros(())
                state = state._replace(
                    reported=jnp.copy(state.iteration), loss_sum=zero, grad_norm_max=jnp.copy(zero)
                )
            if self._due(iteration, settings.checkpoint_interval):
                checkpoints.save(
                    settings.checkpoints, state, self.description, settings.keep_checkpoints
                )
        return state

    def _compile(self, state: TrainState, data: jax.Array) -> Any:
        """The training step, and what answers for the samples, compiled before the clock starts."""
        start = time.perf_counter()
        step = make_train(self.graph, self.task, self.optimizer, self.settings.batch_size)
        compiled = step.lower(state, data, jnp.asarray(0, jnp.int32)).compile()
        answer = make_answer(self.graph, self.task, batch_size=1)
        self.answer = answer.lower(state.params, self.samples, state.iteration).compile()
        self.reporter.say(
            f"compiled in {time.perf_counter() - start:.1f} s for {jax.devices()[0].platform}"
        )
        return compiled

    def _next_stop(self, iteration: int) -> int:
        """Up to where the device may go on by itself."""
        intervals = [self.settings.report_interval]
        if self.settings.checkpoint_interval > 0:
            intervals.append(self.settings.checkpoint_interval)
        stops = [(iteration // interval + 1) * interval for interval in intervals]
        return min(self.settings.num_training_iterations, *stops)

    def _due(self, iteration: int, interval: int) -> bool:
        """Whether what is done at an interval is due now; at the very end it always is."""
        if interval < 1:
            return False
        return iteration % interval == 0 or iteration == self.settings.num_training_iterations

    def _report(self, state: TrainState, speed: float) -> dict[str, Any]:
        """Prints the average loss, the speed and a sample; gives the line for metrics.jsonl."""
        iteration = int(state.iteration)
        loss = float(state.loss_sum) / (iteration - int(state.reported))
        outputs, episode = self.answer(state.params, self.samples, state.iteration)
        self.reporter.say(
            f"iteration {iteration}/{self.settings.num_training_iterations}: "
            f"average loss {loss:.4g} nats, {speed:.0f} iterations/s\n"
            f"{self.task.render(outputs, episode)}"
        )
        return {
            "iteration": iteration,
            "loss": loss,
            "grad_norm_max": float(state.grad_norm_max),
            "iterations_per_second": round(speed, 1),
        }

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


def _resume(path: Path, description: dict[str, Any], fresh: TrainState) -> TrainState:
    """The state in a checkpoint, if it is of the model that is asked for."""
    saved = checkpoints.load_config(path)["model"]
    asked = description["model"]
    differences = [
        f"{name}: {saved.get(name)} in the checkpoint, {asked.get(name)} asked for"
        for name in sorted(saved | asked)
        if saved.get(name) != asked.get(name)
    ]
    if differences:
        differences += runs.compare_shapes(
            runs.flat_shapes(checkpoints.saved_params(path)), runs.flat_shapes(fresh.params)
        )
        raise UsageError(
            f"the checkpoint {path} is of another model:\n  "
            + "\n  ".join(differences)
            + "\nGive the model's own sizes, another --run_dir or --checkpoint_dir, or --no-resume "
            "to start anew (what is there is moved aside, not lost)."
        )
    return checkpoints.load(path, fresh)


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
