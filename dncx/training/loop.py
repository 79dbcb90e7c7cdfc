"""The training run, from the flags to the trained model."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from dncx.training.beginning import begin, check_validation
from dncx.training.configuration import METRICS, fields_of, write_config
from dncx.training.failure import keep_failure
from dncx.training.files import check_folder
from dncx.training.interruption import Interrupted, Interruption
from dncx.training.lock import Locks
from dncx.training.metrics import Metrics, Reporter
from dncx.training.networks import describe_network
from dncx.training.programs import Programs, compile_programs
from dncx.training.resume import (
    is_done,
    make_room,
    out_of_patience,
    own_folders,
    resume,
)
from dncx.training.settings import RunSettings, TrainSettings
from dncx.training.step import (
    TrainState,
    make_examination,
)

CALL_SECONDS = 1.0  # at most about so long an interruption waits for the device
EXAMINED_AT_ONCE = 32  # sequences of the validation set


def train(settings: TrainSettings[Any]) -> Path:
    """Trains as the settings say, and leaves a run directory (see runs.py).

    Returns:
      The run directory.

    Raises:
      UsageError: the settings cannot be followed; nothing was written.
      TrainingError: too many updates in a row were not finite, or the disk refused; what is left
        is said.
      Interrupted: by Ctrl-C or SIGTERM; there is a checkpoint to go on from.
    """
    settings.check()
    run, task = settings.run, runs.make_task(settings.task_name, fields_of(settings.task))
    model = describe_network(settings.model, task)
    check_validation(settings, task)
    runs.check_run_dir(run.run_dir)
    check_folder(run.checkpoints, "checkpoint_dir")

    with Reporter(run.num_training_iterations) as reporter, Locks(reporter.say) as locks:
        locks.take(own_folders(run))
        found, broken = checkpoints.newest_whole(run.checkpoints) if run.resume else (None, {})
        graph, optimizer, state, description = begin(settings, model)
        for path, reason in broken.items():
            reporter.say(f"skipping the checkpoint {path}: {reason}")
        if found:
            state, description, news = resume(found, state, description)
            iteration = int(state.iteration)
            _check_lesson(task, description)
            if is_done(run, iteration, news, out_of_patience(run, description)):
                reporter.say(f"{run.run_dir} is trained to iteration {iteration} already")
                return run.run_dir
            reporter.say("\n  ".join([f"resuming from {found.path}", *news]))
            reporter.advance(iteration)
        loop = _Loop(run, task, graph, optimizer, description, reporter)
        state = loop.compile(state)
        with Interruption(reporter.say) as interruption, _explained(run):
            for folder in own_folders(run):
                folder.mkdir(parents=True, exist_ok=True)
            locks.take(own_folders(run))
            for aside in checkpoints.move_aside(broken):
                reporter.say(f"a skipped checkpoint is in {aside} now")
            make_room(run, description["id"] if found else None, int(state.iteration), reporter)
            write_config(run.run_dir, description)
            state = loop.run(state, interruption)
            write_config(run.run_dir, loop.description)
            path = runs.save_model(run.run_dir, state.best or state.params, int(state.iteration))
            reporter.say(f"trained model: {path}")
    return run.run_dir


@contextmanager
def _explained(run: RunSettings) -> Iterator[None]:
    """A disk that is full or may not be written to ends the run; this says what there is then."""
    try:
        yield
    except OSError as error:
        why, left = error.strerror or error, checkpoints.last_saved(run.checkpoints)
        raise TrainingError(f"cannot write to {run.run_dir}: {why}; {left}") from error


def _check_lesson(task: Judge, description: dict[str, Any]) -> None:
    lesson = description.get("lesson", 0)
    if isinstance(task, Course) and lesson > task.num_lessons:
        raise UsageError(
            f"the run is in lesson {lesson} already, and the task ends with {task.num_lessons}; "
            "give another --run_dir, or --no-resume to start anew"
        )


@dataclasses.dataclass
class _Loop:
    """Dispatches iterations to the device, and between them reports and saves."""

    settings: RunSettings
    task: Judge
    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    description: dict[str, Any]
    reporter: Reporter
    programs: Programs = dataclasses.field(init=False)
    examine: Any = None
    pace: int = 1  # iterations that take about CALL_SECONDS

    @property
    def metrics(self) -> Metrics:
        """What programs read of the run."""
        return Metrics(self.settings.run_dir / METRICS)

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
        return jax.block_until_ready(self.programs.train(state, jnp.copy(state.iteration)))

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

    def run(self, state: TrainState, interruption: Interruption) -> TrainState:
        """All iterations, or those before an interruption; the state after the last."""
        settings, iteration = self.settings, int(state.iteration)
        self.metrics.keep_up_to(iteration)
        clock, done = time.perf_counter(), iteration
        while not self._ends(iteration):
            state = self._advance(state)
            iteration = int(state.iteration)
            if self._due(iteration, settings.validation_interval):
                state = self._validate(state)
            if self._due(iteration, settings.report_interval):
                self._report(state, (iteration - done) / (time.perf_counter() - clock))
                clock, done = time.perf_counter(), iteration
                state = state.reported_now()
            if self._next_lesson(state) and not self._ends(iteration):
                state = self.compile(state)
                clock, done = time.perf_counter(), iteration
            stopped = interruption.signal if not self._ends(iteration) else None
            if stopped or self._due(iteration, settings.checkpoint_interval):
                path = checkpoints.save(
                    settings.checkpoints, state, self.description, settings.keep_checkpoints
                )
                if stopped:
                    command = "the same command" + (
                        "" if settings.resume else ", without --no-resume,"
                    )
                    left = f"{command} goes on from the checkpoint {path}"
                    raise Interrupted(f"stopped after iteration {iteration}; {left}", stopped)
        return state

    def _advance(self, state: TrainState) -> TrainState:
        """One call to the device: up to the next stop, or for about a second."""
        start, before = time.perf_counter(), int(state.iteration)
        last = min(before + self.pace, self._next_stop(before))
        state = self.programs.train(state, jnp.asarray(last, jnp.int32))
        iteration = int(state.iteration)
        if state.skipped_in_a_row >= self.settings.max_skipped_updates:
            raise TrainingError(keep_failure(self.settings, self.programs, state, self.description))
        speed = (iteration - before) / (time.perf_counter() - start)
        self.pace = max(1, min(2 * self.pace, int(speed * CALL_SECONDS)))
        self.reporter.advance(iteration)
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
        iteration, skipped = int(state.iteration), int(state.skipped)
        updates = iteration - int(state.reported) - skipped
        loss = float(state.loss_sum) / updates if updates else None
        sample = self.task.render(*self.programs.answer(state))
        lesson = {"lesson": self.lesson} if self.lesson else {}
        self.reporter.say(
            f"iteration {iteration}/{self.settings.num_training_iterations}: "
            + "".join(f"lesson {number}, " for number in lesson.values())
            + (f"{skipped} updates not finite and skipped, " if skipped else "")
            + (f"average loss {loss:.4g} {self.task.loss_unit}, " if updates else "")
            + f"{speed:.0f} iterations/s\n{sample}"
        )
        self.metrics.append(
            {
                "iteration": iteration,
                "loss": loss,
                "grad_norm_max": float(state.grad_norm_max),
                "skipped": skipped,
                "iterations_per_second": round(speed, 1),
                **lesson,
            }
        )
