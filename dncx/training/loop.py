"""The training run, from the flags to the trained model."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dncx.errors import TrainingError, UsageError
from dncx.tasks.base import Examined, Judge
from dncx.tasks.curriculum import Course
from dncx.training import checkpoints, runs
from dncx.training.configuration import METRICS, fields_of, write_config
from dncx.training.files import check_folder
from dncx.training.metrics import Metrics, Reporter
from dncx.training.networks import Network, describe_network, make_network
from dncx.training.programs import Programs, compile_programs
from dncx.training.resume import (
    NEVER_VALIDATED,
    is_done,
    make_room,
    out_of_patience,
    resume,
)
from dncx.training.settings import RunSettings, TrainSettings
from dncx.training.step import (
    WEIGHTS,
    TrainState,
    initial_state,
    make_examination,
    make_optimizer,
    stream,
)

EXAMINED_AT_ONCE = 32  # sequences of the validation set


def train(settings: TrainSettings[Any]) -> Path:
    """Trains as the settings say, and leaves a run directory (see runs.py).

    Returns:
      The run directory.

    Raises:
      UsageError: the settings cannot be followed; nothing was written.
      TrainingError: the loss, its gradient or an update was no longer finite.
    """
    settings.check()
    run, task = settings.run, runs.make_task(settings.task_name, fields_of(settings.task))
    model = describe_network(settings.model, task)
    if run.validation_interval > 0 and not _has_validation(task):
        raise UsageError(f"validation_interval: {settings.task_name} has no validation set")
    runs.check_run_dir(run.run_dir)
    check_folder(run.checkpoints, "checkpoint_dir")

    weights = nnx.Rngs(params=stream(run.seed, WEIGHTS))
    graph, params = nnx.split(_network(model, run, weights))
    optimizer = make_optimizer(settings.optimizer)
    state = initial_state(nnx.to_pure_dict(params), optimizer)
    description = runs.describe(settings, model)
    if run.validation_interval > 0:
        description["validation"] = NEVER_VALIDATED
        state = state._replace(best=jax.tree.map(jnp.copy, state.params))

    saved = checkpoints.saved_iterations(run.checkpoints) if run.resume else []
    checkpoint = run.checkpoints / str(saved[-1]) if saved else None
    with Reporter(run.num_training_iterations, saved[-1] if saved else 0) as reporter:
        if checkpoint:
            state, description, news = resume(checkpoint, state, description)
            _check_lesson(task, description)
            if is_done(run, int(state.iteration), news, out_of_patience(run, description)):
                reporter.say(f"{run.run_dir} is trained to iteration {saved[-1]} already")
                return run.run_dir
            reporter.say("\n  ".join([f"resuming from {checkpoint}", *news]))
        metrics = Metrics(run.run_dir / METRICS)
        loop = _Loop(run, task, graph, optimizer, description, reporter, metrics)
        state = loop.compile(state)
        make_room(run, description["id"] if checkpoint else None, int(state.iteration), reporter)
        run.run_dir.mkdir(parents=True, exist_ok=True)
        write_config(run.run_dir, description)
        state = loop.run(state)
        write_config(run.run_dir, loop.description)
        path = runs.save_model(run.run_dir, state.best or state.params, int(state.iteration))
        reporter.say(f"trained model: {path}")
    return run.run_dir


def _has_validation(task: Judge) -> bool:
    return isinstance(task, Examined) and any(True for _ in task.episodes("validation", 1))


def _check_lesson(task: Judge, description: dict[str, Any]) -> None:
    lesson = description.get("lesson", 0)
    if isinstance(task, Course) and lesson > task.num_lessons:
        raise UsageError(
            f"the run is in lesson {lesson} already, and the task ends with {task.num_lessons}; "
            "give another --run_dir, or --no-resume to start anew"
        )


def _network(model: dict[str, Any], run: RunSettings, weights: nnx.Rngs) -> Network:
    implementation = None if run.implementation == "fastest" else run.implementation
    try:
        return make_network(model, weights, implementation)
    except ValueError as error:  # it cannot be computed so
        raise UsageError(str(error)) from error


@dataclasses.dataclass
class _Loop:
    """Dispatches iterations to the device, and between them reports and saves."""

    settings: RunSettings
    task: Judge
    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    description: dict[str, Any]
    reporter: Reporter
    metrics: Metrics
    programs: Programs = dataclasses.field(init=False)
    examine: Any = None

    @property
    def lesson(self) -> int:
        """The present lesson; 0 where there are none."""
        return self.description.get("lesson", 0)

    def compile(self, state: TrainState) -> TrainState:
        """Compiles what runs on the device, and runs no iteration, to see that it fits there."""
        start = time.perf_counter()
        if "validation" in self.description and isinstance(self.task, Examined):
            self.examine = make_examination(self.graph, self.task, EXAMINED_AT_ONCE)
        if isinstance(self.task, Course):
            self.description = {"lesson": 1} | self.description
        self.programs = compile_programs(
            self.graph, self.task, self.optimizer, self.settings, state, self.lesson
        )
        self._introduce()
        platform = jax.devices()[0].platform
        self.reporter.say(f"compiled in {time.perf_counter() - start:.1f} s for {platform}")
        return self.programs.train(state, jnp.copy(state.iteration))

    def _introduce(self) -> None:
        """What a reader of the reports has to know of the task and the network."""
        if about := getattr(self.task, "about", ""):
            self.reporter.say(about)
        task, model = self.task, self.description["model"]
        now = task.at_lesson(self.lesson) if isinstance(task, Course) else task
        needed = getattr(now, "slots_needed", 0)
        if model["name"] == "dnc" and model["memory_size"] < needed:
            self.reporter.say(
                f"warning: memory_size={model['memory_size']}, and sequences may have {needed} "
                "vectors to remember at once"
            )

    def run(self, state: TrainState) -> TrainState:
        """All iterations; the state after the last."""
        settings, iteration = self.settings, int(state.iteration)
        self.metrics.keep_up_to(iteration)
        clock, done = time.perf_counter(), iteration
        try:
            while not self._ends(iteration):
                last = jnp.asarray(self._next_stop(iteration), jnp.int32)
                state = self.programs.train(state, last)
                iteration = int(state.iteration)
                if not state.finite:
                    raise TrainingError(self._not_finite(iteration + 1))
                self.reporter.advance(iteration)
                if self._due(iteration, settings.validation_interval):
                    state = self._validate(state)
                if self._due(iteration, settings.report_interval):
                    self._report(state, (iteration - done) / (time.perf_counter() - clock))
                    clock, done = time.perf_counter(), iteration
                    state = state.reported_now()
                if self._next_lesson(state) and not self._ends(iteration):
                    state = self.compile(state)
                    clock, done = time.perf_counter(), iteration
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
        settings = self.settings
        intervals = [
            settings.report_interval,
            settings.checkpoint_interval,
            settings.validation_interval,
        ]
        if isinstance(self.task, Course):
            intervals.append(self.task.gate.every)
        stops = [(iteration // every + 1) * every for every in intervals if every > 0]
        return min(settings.num_training_iterations, *stops)

    def _due(self, iteration: int, interval: int) -> bool:
        """Whether what is done at an interval is due now; at the very end it always is."""
        return interval > 0 and (iteration % interval == 0 or self._ends(iteration))

    def _ends(self, iteration: int) -> bool:
        """Whether there is nothing more to train."""
        done = iteration >= self.settings.num_training_iterations
        return done or out_of_patience(self.settings, self.description)

    def _validate(self, state: TrainState) -> TrainState:
        """Measures on the validation set, and keeps the model if it is the best so far."""
        iteration, known = int(state.iteration), self.description["validation"]
        error = self.examine(state.params, "validation")["mean_error"]
        if known["error"] is None or error < known["error"]:
            known = {"error": error, "iteration": iteration, "worse": 0}
            state = state._replace(best=jax.tree.map(jnp.copy, state.params))
        else:
            known = known | {"worse": known["worse"] + 1}
        self.description = self.description | {"validation": known}
        self.metrics.append({"iteration": iteration, "validation_error": error})
        best = f"the best is {known['error']:.4g} % at {known['iteration']}"
        self.reporter.say(f"iteration {iteration}: validation error {error:.4g} %, {best}")
        return state

    def _next_lesson(self, state: TrainState) -> bool:
        """Whether the present lesson has just been learned and another one follows."""
        task, iteration = self.task, int(state.iteration)
        if not isinstance(task, Course) or iteration % task.gate.every:
            return False
        if self.lesson == task.num_lessons:
            return False
        score = float(self.programs.measure(state)[task.gate.score])
        if not score <= task.gate.at_most:  # nor if it is not a number
            return False
        self.metrics.append({"iteration": iteration, "lesson": self.lesson, task.gate.score: score})
        self.reporter.say(
            f"iteration {iteration}: lesson {self.lesson} of {task.num_lessons} is learned "
            f"({task.gate.score.replace('_', ' ')} {score:.1%})"
        )
        self.description = self.description | {"lesson": self.lesson + 1}
        return True

    def _report(self, state: TrainState, speed: float) -> None:
        """Prints average loss, speed and a sample, and adds the line to metrics.jsonl."""
        iteration = int(state.iteration)
        loss = float(state.loss_sum) / (iteration - int(state.reported))
        sample = self.task.render(*self.programs.answer(state))
        lesson = {"lesson": self.lesson} if self.lesson else {}
        self.reporter.say(
            f"iteration {iteration}/{self.settings.num_training_iterations}: "
            + "".join(f"lesson {number}, " for number in lesson.values())
            + f"average loss {loss:.4g} {self.task.loss_unit}, {speed:.0f} iterations/s\n{sample}"
        )
        self.metrics.append(
            {
                "iteration": iteration,
                "loss": loss,
                "grad_norm_max": float(state.grad_norm_max),
                "iterations_per_second": round(speed, 1),
                **lesson,
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
