"""Training, from the flags to the trained model."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.errors import TrainingError, UsageError
from dncx.networks.build import small_memory_warning
from dncx.networks.config import network_config
from dncx.networks.custom import custom_network
from dncx.reporting.console import Reporter
from dncx.reporting.logs import log_shown
from dncx.reporting.reports import Figures, Logger, Reports
from dncx.runs import checkpoints, directory, processes
from dncx.runs.config import RunConfig
from dncx.runs.files import check_folder
from dncx.runs.lock import Locks
from dncx.runs.manifest import Score
from dncx.runs.population import Population, population_of
from dncx.runs.progress import Progress, Validation
from dncx.runs.state import TrainState, copied
from dncx.settings.training import RunSettings, TrainSettings
from dncx.tasks.base import HasEvalSplits, Objective, num_saved_outputs
from dncx.tasks.curriculum import Course, lesson_of
from dncx.tasks.registry import make_task, resolved
from dncx.training.compilation import Programs, compile_programs
from dncx.training.devices import check_devices, in_words
from dncx.training.failure import keep_failure
from dncx.training.interruption import Interrupted, Interruption
from dncx.training.method import FromTargets, Method
from dncx.training.resume import NextAction, next_action, own_folders
from dncx.training.scoring import make_split_evaluator
from dncx.training.setup import (
    Start,
    check_task,
    claim_run_dir,
    first_carried,
    prepare,
)
from dncx.training.update import UpdateConfig

CALL_SECONDS = 1.0  # an interruption waits at most about this long for the device
VALIDATED_AT_ONCE = 32  # sequences of the validation set in a batch
PICTURES = 9  # in a complete training, in addition to one at its first report

Picture = Callable[[Any, Any, int], object]  # (task, network, iteration)


def train(
    settings: TrainSettings[Any],
    loggers: Sequence[Logger] = (),
    picture: Picture | None = None,
    network: Callable[..., Any] | None = None,
    method: Method | None = None,
) -> Path:
    """Trains with the given settings and writes a run directory (runs/directory.py).

    Args:
      settings: the settings of task, network, optimiser and run.
      loggers: functions that are called with each line of metrics.jsonl, a dictionary.
      picture: called at ten of the reports, after the loggers, with the task, the network and the
        iteration; for example `TensorBoard.picture`.
      network: makes a custom network; takes the arguments of `dncx.DNC` and replaces
        `settings.model.network`.
      method: how the network learns; by default from targets. `dncx.rl.train` learns by acting.

    Returns:
      The run directory.

    Raises:
      UsageError: if the settings cannot be used; nothing was written.
      TrainingError: if too many updates in a row were non-finite, or the disk failed; the message
        names the last checkpoint.
      Interrupted: after Ctrl-C, SIGTERM or a closed terminal; training can resume from a
        checkpoint.
    """
    if not isinstance(settings, TrainSettings):
        raise TypeError(
            "train takes a TrainSettings, such as dncx.settings.presets.DEFAULTS['copy']; got a "
            f"{type(settings).__name__}"
        )
    settings.check()
    processes.join(settings.scale)
    check_devices()
    processes.agree(settings)
    run, task = settings.run, make_task(settings.task_name, settings.task)
    settings = dataclasses.replace(settings, task=resolved(settings.task, task))
    if network is not None:
        model = dataclasses.replace(settings.model, network=custom_network(network).name)
        settings = dataclasses.replace(settings, model=model)
    method = method or FromTargets()
    method.check(settings, task)
    described = network_config(
        settings.model,
        task.input_size,
        task.output_size,
        separate_value=getattr(task, "separate_value", False),
    )
    check_task(settings, task)
    directory.check_run_dir(run.run_dir)
    check_folder(run.checkpoints, "checkpoint_dir")
    if run.tensorboard and picture is None:
        raise UsageError(
            "tensorboard: in Python, pass the logger to train: with TensorBoard(run_dir) as board: "
            "train(settings, loggers=[board], picture=board.picture)"
        )

    population, quiet = population_of(settings), not processes.is_primary()
    with (
        Reporter(run.num_training_iterations, quiet) as reporter,
        log_shown(reporter.say),
        Locks(reporter.say) as locks,
        processes.losses_reported(lambda: checkpoints.last_saved(run.checkpoints)),
    ):
        processes.on_primary(lambda: locks.take(own_folders(run)))
        start = prepare(settings, task, described, method)
        for path, reason in start.corrupt.items():
            reporter.say(f"skipping the checkpoint {path}: {reason}")
        trained = population.trained_iterations(start.config.id)
        action = next_action(run, start.progress, trained, start.changed)
        if action is NextAction.NOTHING:
            reached = max(start.progress.iteration, trained or 0)
            reporter.say(f"{run.run_dir} is already trained to iteration {reached}")
            return run.run_dir
        _report_start(start, reporter)
        figures = Figures(
            loss_unit=start.config.loss_unit,
            of_method=method.figures,
        )
        reports = Reports(run, population, figures, reporter, loggers)
        loop = _Loop(
            run, task, method, start.update, population, start.config, reporter, reports, picture
        )
        loop.progress = start.progress
        loop.score = start.checkpoint.manifest.score if start.checkpoint else None
        state = start.state
        if action is NextAction.TRAIN:
            state = loop.compile(state)

        with Interruption(reporter.say, reporter.nobody_reads) as interruption, _disk_errors(run):
            processes.on_primary(
                lambda: claim_run_dir(settings, population, start, locks, reporter.say)
            )
            if action is NextAction.TRAIN:
                state = loop.run(state, interruption)
            processes.on_primary(lambda: loop.finish(state))
    return run.run_dir


def _report_start(start: Start, reporter: Reporter) -> None:
    """Reports where the run begins or resumes, and which settings differ."""
    if start.initial:
        reporter.say(start.initial.report(start.config.network))
    if start.checkpoint is None:
        return
    changed = ", with changed settings:" if start.changed else ""
    reporter.say("\n  ".join([f"resuming from {start.checkpoint.path}{changed}", *start.changed]))
    reporter.advance(start.progress.iteration)


@contextmanager
def _disk_errors(run: RunSettings) -> Iterator[None]:
    """Names the last checkpoint when a full or read-only disk ends a run."""
    try:
        yield
    except OSError as error:
        why, left = error.strerror or error, checkpoints.last_saved(run.checkpoints)
        raise TrainingError(f"cannot write to {run.run_dir}: {why}; {left}") from error


@dataclasses.dataclass
class _Loop:
    """Runs iterations on the device, and reports and saves between them."""

    settings: RunSettings
    task: Objective
    method: Method
    update: UpdateConfig
    population: Population
    config: RunConfig
    reporter: Reporter
    reports: Reports
    picture: Picture | None = None
    programs: Programs = dataclasses.field(init=False)
    progress: Progress = dataclasses.field(default_factory=Progress)
    evaluate_split: Any = None
    pace: int = 1  # iterations that take about CALL_SECONDS
    score: Score | None = None  # the newest validation error or average loss

    def compile(self, state: TrainState) -> TrainState:
        """Compiles the programs and runs them for zero iterations, to check that they fit."""
        start = time.perf_counter()
        devices = in_words(self.update.gradient.devices)
        self.reporter.say(f"compiling for {devices}: 5 to 30 s, about 1 s when started again")
        if self.progress.validation and isinstance(self.task, HasEvalSplits):
            self.evaluate_split = make_split_evaluator(
                self.update.graph, self.task, VALIDATED_AT_ONCE, self.update.gradient.devices
            )
        self.programs = compile_programs(
            self.method, self.update, self.task, self.population, state, self.progress.lesson
        )
        self.reporter.say(f"compiled in {time.perf_counter() - start:.1f} s")
        self.reports.steps = self.method.steps_per_iteration(
            self._present_task(), self.settings.batch_size
        )
        self._introduce()
        return jax.block_until_ready(self.programs.train(state, state.reached))

    def _introduce(self) -> None:
        """Prints notes on the task and the network that explain the reports."""
        if about := getattr(self.task, "about", ""):
            self.reporter.say(about)
        if warning := small_memory_warning(self.config.network, self._present_task()):
            self.reporter.say(warning)

    def _present_task(self) -> Objective:
        """The task, or its current lesson."""
        return lesson_of(self.task, self.progress.lesson)

    def run(self, state: TrainState, interruption: Interruption) -> TrainState:
        """Runs all iterations, or those before an interruption; returns the last state."""
        settings, iteration = self.settings, state.reached
        clock, done = time.perf_counter(), iteration
        self.reporter.show_bar()
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
                state = self.compile(self._begin_lesson(state))
                clock, done = time.perf_counter(), iteration
            (stopped,) = processes.allreduce_max(interruption.signal or 0)
            if self._ends(iteration):
                stopped = 0
            if stopped or self._due(iteration, settings.checkpoint_interval):
                self._save(state, stopped)
        return state

    def finish(self, state: TrainState) -> None:
        """Writes the trained networks."""
        progress = dataclasses.replace(self.progress, iteration=state.reached)
        outputs = num_saved_outputs(self.task)
        for path in self.population.save_models(state, progress, outputs):
            self.reporter.say(f"trained model: {path}")

    def _save(self, state: TrainState, stopped: int) -> None:
        """Writes a checkpoint; after a signal, ends training."""
        run = self.settings
        self.reports.to_disk()
        kept = checkpoints.Kept(run.keep_checkpoints, run.keep_best_checkpoints)
        path = checkpoints.save(
            run.checkpoints, state, self.config, self.progress, kept, score=self.score
        )
        if stopped:
            command = "the same command" + ("" if run.resume else ", without --no-resume,")
            left = f"{command} resumes from the checkpoint {path}"
            raise Interrupted(f"stopped after iteration {state.reached}; {left}", stopped)

    def _advance(self, state: TrainState) -> TrainState:
        """One call to the device: until the next stop, or for about a second."""
        start, before = time.perf_counter(), state.reached
        state = self.programs.train(state, min(before + self.pace, self._next_stop(before)))
        iteration = state.reached
        if jnp.all(state.skipped_in_a_row >= self.settings.max_skipped_updates):
            raise TrainingError(
                keep_failure(
                    self.settings, self.population, self.programs, state, self.config, self.progress
                )
            )
        speed = (iteration - before) / (time.perf_counter() - start)
        # At most twice as many as before, since the first call of a program is slow. All processes
        # must agree, so the slowest decides.
        pace = max(1, min(2 * self.pace, int(speed * CALL_SECONDS)))
        (slowest,) = processes.allreduce_max(-pace)
        self.pace = -slowest
        self.reporter.advance(iteration, self.reports.speed(speed))
        return state

    def _next_stop(self, iteration: int) -> int:
        """The next iteration after which something other than training is due."""
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
        """Whether something with this interval is due; at the end, everything is."""
        return interval > 0 and (iteration % interval == 0 or self._ends(iteration))

    def _ends(self, iteration: int) -> bool:
        """Whether nothing is left to train."""
        done = iteration >= self.settings.num_training_iterations
        return done or self.progress.out_of_patience(self.settings.patience)

    def _validate(self, state: TrainState) -> TrainState:
        """Measures the model on the validation set, and keeps it if it is the best so far."""
        iteration, before = state.reached, self.progress.validation or Validation()
        error = self.evaluate_split(state.model, "validation")["mean_error"]
        self.score = Score("validation error", error)
        best = before.after(error, iteration)
        if best.iteration == iteration:
            state = state._replace(best=copied(state.model))
        self.progress = dataclasses.replace(self.progress, validation=best)
        self.reports.note(
            {"iteration": iteration, "validation_error": error},
            f"iteration {iteration}: validation error {error:.4g} %, "
            f"the best is {best.error:.4g} % at {best.iteration}",
        )
        return state

    def _next_lesson(self, state: TrainState) -> bool:
        """Whether the current lesson has just been learned and another one follows."""
        task, iteration, lesson = self.task, state.reached, self.progress.lesson
        if not isinstance(task, Course) or iteration % task.gate.every:
            return False
        if lesson == task.num_lessons:
            return False
        score = float(self.programs.measure(state)[task.gate.score])
        if not score <= task.gate.at_most:  # also false if the score is NaN
            return False
        self.reports.note(
            {"iteration": iteration, "lesson": lesson, task.gate.score: score},
            f"iteration {iteration}: lesson {lesson} of {task.num_lessons} is learned "
            f"({task.gate.score.replace('_', ' ')} {score:.1%})",
        )
        self.progress = dataclasses.replace(self.progress, lesson=lesson + 1)
        return True

    def _begin_lesson(self, state: TrainState) -> TrainState:
        """The state before the first iteration of a new lesson."""
        task = lesson_of(self.task, self.progress.lesson, mixed=True)
        first = first_carried(state, self.config, self.update, task, self.method)
        return state.at_new_lesson()._replace(carried=first["carried"])

    def _report(self, state: TrainState, speed: float) -> None:
        one, lesson = self.population.first(state), self.progress.lesson
        sample = self._present_task().render(*self.programs.answer(one))
        score = self.reports.report(state, lesson, speed, sample)
        self._draw(one)
        if self.progress.validation is None and score is not None:
            self.score = score

    def _draw(self, state: TrainState) -> None:
        """Draws a picture of the current network at some of the reports."""
        before, now = int(state.reported), state.reached
        total = self.settings.num_training_iterations
        due = before == 0 or PICTURES * before // total != PICTURES * now // total
        if self.picture and due and processes.is_primary():
            self.picture(self._present_task(), nnx.merge(self.update.graph, state.model), now)
