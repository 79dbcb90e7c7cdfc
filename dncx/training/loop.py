"""The training run, from the flags to the trained model."""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.stages import Wrapped

from dncx.config import DNCConfig
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
    cell = _network(task, config, run, weights)
    graph, params = nnx.split(cell)
    optimizer = make_optimizer(settings.optimizer)
    state = initial_state(nnx.to_pure_dict(params), optimizer)
    description = runs.describe(settings, task, config)

    saved = checkpoints.saved_iterations(run.checkpoints) if run.resume else []
    checkpoint = run.checkpoints / str(saved[-1]) if saved else None
    with Reporter(run.num_training_iterations, saved[-1] if saved else 0) as reporter:
        if checkpoint:
            state, description, news = _resume(checkpoint, state, description)
            if _is_done(run, int(state.iteration), news):
                reporter.say(f"{run.run_dir} is trained to iteration {saved[-1]} already")
                return run.run_dir
            reporter.say("\n  ".join([f"resuming from {checkpoint}", *news]))
        loop = _Loop(run, task, description, reporter, Metrics(run.run_dir / runs.METRICS))
        step = make_train(graph, task, optimizer, run.batch_size)
        state = loop.compile(state, step, make_answer(graph, task, batch_size=1))
        _make_room(run, description["id"] if checkpoint else None, int(state.iteration), reporter)
        run.run_dir.mkdir(parents=True, exist_ok=True)
        runs.write_config(run.run_dir, description)
        state = loop.run(state)
        model = runs.save_model(run.run_dir, state.params, int(state.iteration))
        reporter.say(f"trained model: {model}")
    return run.run_dir


def _network(task: Task, config: DNCConfig, run: RunSettings, weights: nnx.Rngs) -> DNC:
    implementation = None if run.implementation == "fastest" else run.implementation
    sizes = task.input_size, task.output_size
    try:
        return DNC(*sizes, config, implementation=implementation, rngs=weights)
    except ValueError as error:  # it cannot be computed so
        raise UsageError(str(error)) from error


@dataclasses.dataclass
class _Loop:
    """Dispatches iterations to the device, and between them reports and saves."""

    settings: RunSettings
    task: Task
    description: dict[str, Any]
    reporter: Reporter
    metrics: Metrics
    data: jax.Array = dataclasses.field(init=False)
    samples: jax.Array = dataclasses.field(init=False)
    step: Any = dataclasses.field(init=False)
    answer: Any = dataclasses.field(init=False)

    def compile(self, state: TrainState, step: Wrapped, answer: Wrapped) -> TrainState:
        """Compiles what runs on the device, and runs no iteration, to see that it fits there."""
        start = time.perf_counter()
        self.data = stream(self.settings.seed, DATA)
        self.samples = stream(self.settings.seed, SAMPLES)
        self.step = step.lower(state, self.data, state.iteration).compile()
        self.answer = answer.lower(state.params, self.samples, state.iteration).compile()
        platform = jax.devices()[0].platform
        self.reporter.say(f"compiled in {time.perf_counter() - start:.1f} s for {platform}")
        return self.step(state, self.data, jnp.copy(state.iteration))

    def run(self, state: TrainState) -> TrainState:
        """All iterations; the state after the last."""
        settings, iteration = self.settings, int(state.iteration)
        self.metrics.keep_up_to(iteration)
        clock, done = time.perf_counter(), iteration
        try:
            while iteration < settings.num_training_iterations:
                last = jnp.asarray(self._next_stop(iteration), jnp.int32)
                state = self.step(state, self.data, last)
                iteration = int(state.iteration)
                if not state.finite:
                    raise TrainingError(self._not_finite(iteration + 1))
                self.reporter.advance(iteration)
                if self._due(iteration, settings.report_interval):
                    self._report(state, (iteration - done) / (time.perf_counter() - clock))
                    clock, done = time.perf_counter(), iteration
                    state = state.reported_now()
                if self._due(iteration, settings.checkpoint_interval):
                    checkpoints.save(
                        settings.checkpoints, state, self.description, settings.keep_checkpoints
                    )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped after iteration {iteration}; {self._last_checkpoint()}"
            ) from None
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

    def _report(self, state: TrainState, speed: float) -> None:
        """Prints average loss, speed and a sample, and adds the line to metrics.jsonl."""
        iteration = int(state.iteration)
        loss = float(state.loss_sum) / (iteration - int(state.reported))
        sample = self.task.render(*self.answer(state.params, self.samples, state.iteration))
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

    def _last_checkpoint(self) -> str:
        saved = checkpoints.saved_iterations(self.settings.checkpoints)
        if saved:
            return f"the last good checkpoint is {self.settings.checkpoints / str(saved[-1])}"
        return "there is no checkpoint (--checkpoint_interval sets how often one is written)"

    def _not_finite(self, iteration: int) -> str:
        return (
            f"the loss, its gradient or the update is not finite at iteration {iteration}; "
            f"{self._last_checkpoint()}. Try a smaller --learning_rate or --max_grad_norm, a "
            "larger --optimizer_epsilon, or another --seed."
        )


def _resume(
    path: Path, fresh: TrainState, description: dict[str, Any]
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """The state in a checkpoint, what the run is now, and what is no longer as it was."""
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
    history = saved["resumed"]
    if changed:
        history = [*history, {"iteration": int(state.iteration), "changed": changed}]
    return state, description | {"id": saved["id"], "resumed": history}, changed


def _is_done(run: RunSettings, iteration: int, changed: list[str]) -> bool:
    """Whether there is nothing left to train and to write."""
    trained = runs.trained_iterations(run.run_dir)
    done = trained is not None and iteration >= run.num_training_iterations
    if done and changed:
        raise UsageError(
            f"{run.run_dir} is trained to iteration {iteration} already, with other settings:\n  "
            + "\n  ".join(changed)
            + "\nGive another --run_dir, --no-resume to start anew (what is there is moved aside, "
            "not lost), or a larger --num_training_iterations to go on."
        )
    return done


def _make_room(run: RunSettings, run_id: str | None, iteration: int, reporter: Reporter) -> None:
    """Moves aside what would be overwritten: all of another run, or a model trained further.

    Args:
      run: where to write.
      run_id: of the run that goes on; None for a new one.
      iteration: from where it goes on.
      reporter: is told.
    """
    own = [runs.CONFIG, runs.METRICS, runs.MODEL]
    config = run.run_dir / runs.CONFIG
    same_run = run_id and config.exists() and runs.read_config(config)["id"] == run_id
    if same_run and (runs.trained_iterations(run.run_dir) or 0) <= iteration:
        return
    moves = [(run.run_dir, own)]
    if run_id is None and run.checkpoint_dir is None:
        own.append(run.checkpoints.name)
    elif run_id is None:
        saved = [str(iteration) for iteration in checkpoints.saved_iterations(run.checkpoints)]
        moves.append((run.checkpoints, saved))
    for folder, names in moves:
        aside = set_aside(folder, names)
        if aside:
            reporter.say(f"{folder} held an earlier run or a later model; it is in {aside} now")
            if same_run and (aside / runs.METRICS).exists():
                shutil.copy2(aside / runs.METRICS, run.run_dir)
