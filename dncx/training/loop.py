"""The training run, from the flags to the trained model."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from dncx.errors import TrainingError
from dncx.explore import tensorboard
from dncx.networks.build import describe_network, too_small
from dncx.reporting.console import Reporter
from dncx.reporting.reports import Logger, Reports
from dncx.runs import checkpoints, processes
from dncx.runs import directory as runs
from dncx.runs.config import fields_of
from dncx.runs.files import check_folder
from dncx.runs.integrity import Score
from dncx.runs.lock import Locks
from dncx.runs.population import Population, population_of
from dncx.runs.state import TrainState, copied
from dncx.settings.training import RunSettings, TrainSettings
from dncx.tasks import registry
from dncx.tasks.base import Examined, Judge
from dncx.tasks.curriculum import Course
from dncx.training.compilation import Programs, compile_programs
from dncx.training.devices import in_words
from dncx.training.failure import keep_failure
from dncx.training.interruption import Interrupted, Interruption
from dncx.training.resume import is_done, out_of_patience, own_folders
from dncx.training.scoring import make_examination
from dncx.training.setup import Start, begin, check_task, take_place
from dncx.training.update import Recipe

CALL_SECONDS = 1.0  # at most about so long an interruption waits for the device
EXAMINED_AT_ONCE = 32  # sequences of the validation set


def train(settings: TrainSettings[Any], loggers: Sequence[Logger] = ()) -> Path:
    """Trains as the settings say, and leaves a run directory (see runs.py).

    Args:
      settings: all of them.
      loggers: functions that are called with each line of metrics.jsonl, a dictionary.

    Returns:
      The run directory.

    Raises:
      UsageError: the settings cannot be followed; nothing was written.
      TrainingError: too many updates in a row were not finite, or the disk refused; what is left
        is said.
      Interrupted: by Ctrl-C, SIGTERM or a closed terminal; there is a checkpoint to go on from.
    """
    settings.check()
    processes.join(settings.scale)
    processes.agree(settings)
    run, task = settings.run, registry.make_task(settings.task_name, fields_of(settings.task))
    model = describe_network(settings.model, task)
    check_task(settings, task)
    runs.check_run_dir(run.run_dir)
    check_folder(run.checkpoints, "checkpoint_dir")
    if run.tensorboard:
        tensorboard.check_installed()

    population, quiet = population_of(settings), not processes.is_first()
    with (
        Reporter(run.num_training_iterations, quiet) as reporter,
        Locks(reporter.say) as locks,
        processes.losses_told(lambda: checkpoints.last_saved(run.checkpoints)),
    ):
        processes.in_first(lambda: locks.take(own_folders(run)))
        start = begin(settings, task, model)
        if _told_done(run, population, start, reporter):
            return run.run_dir
        reports = Reports(run, population, task.loss_unit, reporter, loggers)
        loop = _Loop(run, task, start.recipe, population, start.description, reporter, reports)
        loop.score = start.found.score if start.found else None
        state = loop.compile(start.state)
        start = start._replace(state=state)  # the first one's arrays are given away

        with Interruption(reporter.say, reporter.nobody_reads) as interruption, _explained(run):
            processes.in_first(lambda: take_place(settings, population, start, locks, reporter))
            with reports.open(start.description, state.reached):
                state = loop.run(state, interruption)
            processes.in_first(lambda: loop.finish(state))
    return run.run_dir


def _told_done(run: RunSettings, population: Population, start: Start, reporter: Reporter) -> bool:
    """Says where the run begins; whether there is nothing left to train."""
    for path, reason in start.broken.items():
        reporter.say(f"skipping the checkpoint {path}: {reason}")
    if start.found is None:
        return False
    reached, stopped = start.state.reached, out_of_patience(run, start.description)
    trained = population.trained_iterations(start.description["id"])
    if is_done(run, trained, reached, start.news, stopped):
        reporter.say(f"{run.run_dir} is trained to iteration {max(reached, trained or 0)} already")
        return True
    changed = ", from here on as asked for:" if start.news else ""
    reporter.say("\n  ".join([f"resuming from {start.found.path}{changed}", *start.news]))
    reporter.advance(reached)
    return False


@contextmanager
def _explained(run: RunSettings) -> Iterator[None]:
    """Says what there is where a full disk, or one that may not be written to, ends a run."""
    try:
        yield
    except OSError as error:
        why, left = error.strerror or error, checkpoints.last_saved(run.checkpoints)
        raise TrainingError(f"cannot write to {run.run_dir}: {why}; {left}") from error


@dataclasses.dataclass
class _Loop:
    """Dispatches iterations to the device, and between them reports and saves."""

    settings: RunSettings
    task: Judge
    recipe: Recipe
    population: Population
    description: dict[str, Any]
    reporter: Reporter
    reports: Reports
    programs: Programs = dataclasses.field(init=False)
    examine: Any = None
    pace: int = 1  # iterations that take about CALL_SECONDS
    score: Score | None = None  # the newest validation error or average loss

    @property
    def lesson(self) -> int:
        """The present lesson; 0 where there are none."""
        return self.description.get("lesson", 0)

    def compile(self, state: TrainState) -> TrainState:
        """Compiles what runs on the device, and runs no iteration, to see that it fits there."""
        start = time.perf_counter()
        self.reporter.say(f"compiling for {in_words(self.recipe.plan.devices)}")
        if "validation" in self.description and isinstance(self.task, Examined):
            self.examine = make_examination(
                self.recipe.graph, self.task, EXAMINED_AT_ONCE, self.recipe.plan.devices
            )
        if isinstance(self.task, Course):
            self.description = {"lesson": 1} | self.description
        self.programs = compile_programs(
            self.recipe, self.task, self.population, state, self.lesson
        )
        self.reporter.say(f"compiled in {time.perf_counter() - start:.1f} s")
        self._introduce()
        return jax.block_until_ready(self.programs.train(state, state.reached))

    def _introduce(self) -> None:
        """What a reader of the reports has to know of the task and the network."""
        if about := getattr(self.task, "about", ""):
            self.reporter.say(about)
        task = self.task.at_lesson(self.lesson) if isinstance(self.task, Course) else self.task
        if warning := too_small(self.description["model"], task):
            self.reporter.say(warning)

    def run(self, state: TrainState, interruption: Interruption) -> TrainState:
        """All iterations, or those before an interruption; the state after the last."""
        settings, iteration = self.settings, state.reached
        clock, done = time.perf_counter(), iteration
        while not self._ends(iteration):
            state = self._advance(state)
            iteration = state.reached
            if self._due(iteration, settings.validation_interval):
                state = self._validate(state)
            if self._due(iteration, settings.report_interval):
                self._report(state, (iteration - done) / (time.perf_counter() - clock))
                clock, done = time.perf_counter(), iteration
                state = state.reported_now()
            if self._next_lesson(state) and not self._ends(iteration):
                state = self.compile(state.at_new_lesson())
                clock, done = time.perf_counter(), iteration
            (stopped,) = processes.most(interruption.signal or 0)
            if self._ends(iteration):
                stopped = 0
            if stopped or self._due(iteration, settings.checkpoint_interval):
                self._save(state, stopped)
        return state

    def finish(self, state: TrainState) -> None:
        """Writes the trained networks."""
        self.population.write_configs(self.description)
        for path in self.population.save_models(state):
            self.reporter.say(f"trained model: {path}")

    def _save(self, state: TrainState, stopped: int) -> None:
        """Writes a checkpoint; after a signal there is nothing more to do."""
        run = self.settings
        self.reports.to_disk()
        kept = checkpoints.Kept(run.keep_checkpoints, run.keep_best_checkpoints)
        path = checkpoints.save(run.checkpoints, state, self.description, kept, self.score)
        if stopped:
            command = "the same command" + ("" if run.resume else ", without --no-resume,")
            left = f"{command} goes on from the checkpoint {path}"
            raise Interrupted(f"stopped after iteration {state.reached}; {left}", stopped)

    def _advance(self, state: TrainState) -> TrainState:
        """One call to the device: up to the next stop, or for about a second."""
        start, before = time.perf_counter(), state.reached
        state = self.programs.train(state, min(before + self.pace, self._next_stop(before)))
        iteration = state.reached
        if jax.numpy.all(state.skipped_in_a_row >= self.settings.max_skipped_updates):
            said = keep_failure(
                self.settings, self.population, self.programs, state, self.description
            )
            raise TrainingError(said)
        speed = (iteration - before) / (time.perf_counter() - start)
        (slower,) = processes.most(-max(1, min(2 * self.pace, int(speed * CALL_SECONDS))))
        self.pace = -slower
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
        iteration, known = state.reached, self.description["validation"]
        error = self.examine(state.model, "validation")["mean_error"]
        self.score = Score("validation error", error)
        if known["error"] is None or error < known["error"]:
            known = {"error": error, "iteration": iteration, "worse": 0}
            state = state._replace(best=copied(state.model))
        else:
            known = known | {"worse": known["worse"] + 1}
        self.description = self.description | {"validation": known}
        self.reports.note(
            {"iteration": iteration, "validation_error": error},
            f"iteration {iteration}: validation error {error:.4g} %, "
            f"the best is {known['error']:.4g} % at {known['iteration']}",
        )
        return state

    def _next_lesson(self, state: TrainState) -> bool:
        """Whether the present lesson has just been learned and another one follows."""
        task, iteration = self.task, state.reached
        if not isinstance(task, Course) or iteration % task.gate.every:
            return False
        if self.lesson == task.num_lessons:
            return False
        score = float(self.programs.measure(state)[task.gate.score])
        if not score <= task.gate.at_most:  # nor if it is not a number
            return False
        self.reports.note(
            {"iteration": iteration, "lesson": self.lesson, task.gate.score: score},
            f"iteration {iteration}: lesson {self.lesson} of {task.num_lessons} is learned "
            f"({task.gate.score.replace('_', ' ')} {score:.1%})",
        )
        self.description = self.description | {"lesson": self.lesson + 1}
        return True

    def _report(self, state: TrainState, speed: float) -> None:
        one = self.population.first(state)
        sample = self.task.render(*self.programs.answer(one))
        loss = self.reports.report(state, self.lesson, speed, sample, lambda: self._trace(one))
        if "validation" not in self.description and loss is not None:
            self.score = Score(f"loss in lesson {self.lesson}" if self.lesson else "loss", loss)

    def _trace(self, state: TrainState) -> Any:
        """What the memory does in a fresh sequence, always the same one."""
        from dncx.explore.tracing import trace_task  # which only pictures need

        task = self.task.at_lesson(self.lesson) if isinstance(self.task, Course) else self.task
        return trace_task(task, nnx.merge(self.recipe.graph, state.model), num_episodes=1)
