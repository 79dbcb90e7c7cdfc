"""The reports of a run during training: lines for people, metrics.jsonl, and loggers."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from dncx.reporting.console import Reporter
from dncx.runs.manifest import Score
from dncx.runs.metrics import Metrics
from dncx.runs.paths import METRICS
from dncx.runs.population import Population
from dncx.runs.processes import is_primary
from dncx.runs.state import TrainState
from dncx.settings.training import RunSettings

Logger = Callable[[dict[str, Any]], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a report says of training besides its iteration.

    Attributes:
      loss_unit: the unit of the loss.
      of_method: the method's own figures by name, from the state of one network; None: not known.
    """

    loss_unit: str
    of_method: Callable[[TrainState], dict[str, float | None]] = lambda state: {}


class Reports:
    """Reports of a run, to people and to programs.

    Args:
      run: the settings of the run.
      population: its networks.
      figures: what else to report.
      reporter: prints the reports.
      loggers: functions that are called with every line of metrics.jsonl, after it was written.
    """

    def __init__(
        self,
        run: RunSettings,
        population: Population,
        figures: Figures,
        reporter: Reporter,
        loggers: Sequence[Logger],
    ):
        self._run = run
        self._population = population
        self._figures = figures
        self._reporter = reporter
        self._loggers = loggers
        self.steps: int | None = None  # in an iteration, for agents

    def speed(self, iterations: float) -> str:
        """The speed in words, from the iterations per second."""
        if self.steps is None:
            return f"{iterations:.0f} iterations/s"
        return f"{iterations * self.steps:,.0f} steps/s"

    def note(self, line: dict[str, Any], text: str) -> None:
        """Writes a line of metrics.jsonl, and prints its text."""
        self._log(line)
        self._reporter.say(text)

    def _log(self, line: dict[str, Any]) -> None:
        if is_primary():
            Metrics(self._run.run_dir / METRICS).append(line)
            for logger in self._loggers:
                logger(line)

    def to_disk(self) -> None:
        """Waits until all lines are on the disk and would survive a power failure."""
        if is_primary():
            self._population.metrics_to_disk()

    def report(self, state: TrainState, lesson: int, speed: float, sample: str) -> Score | None:
        """Reports the state.

        Args:
          state: the state to report.
          lesson: the current lesson; 0 if there are no lessons.
          speed: iterations per second.
          sample: an answer of the network as text.

        Returns:
          The score of the model: minus the return if it acts, else the average loss; the median of
          a population.
        """
        states = self._population.split(state)
        figures = [self._figures.of_method(one) for one in states]
        pairs = zip(states, figures, strict=True)
        lines = [self._line(one, its, lesson, speed) for one, its in pairs]
        own = [*figures[0]]
        line = lines[0] if len(lines) == 1 else _together(lines, own)
        if len(lines) > 1 and is_primary():
            for folder, its_line in zip(self._population.folders, lines, strict=True):
                Metrics(folder / METRICS).append(its_line)
        self._log(line)
        self._reporter.report(self._in_words(line, own, speed), sample, line["iteration"])
        of = f" in lesson {lesson}" if lesson else ""
        if line.get("return") is not None:
            return Score(f"negative return{of}", -line["return"])
        return None if line["loss"] is None else Score(f"loss{of}", line["loss"])

    def _in_words(self, line: dict[str, Any], own: Sequence[str], speed: float) -> str:
        parts = [f"lesson {line['lesson']}"] if "lesson" in line else []
        if line["skipped"]:
            parts.append(f"{line['skipped']} non-finite updates skipped")
        if line.get("spikes"):
            parts.append(f"{line['spikes']} updates skipped because of their loss")
        if line["loss"] is not None:
            parts.append(self._loss(line))
        known = {name: line[name] for name in own if line[name] is not None}
        parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in known.items()]
        parts.append(self.speed(speed))
        total = self._run.num_training_iterations
        return f"iteration {line['iteration']}/{total}: {', '.join(parts)}"

    def _line(
        self, state: TrainState, figures: dict[str, float | None], lesson: int, speed: float
    ) -> dict[str, Any]:
        iteration, skipped, spikes = state.reached, int(state.skipped), int(state.spikes)
        updates = iteration - int(state.reported) - skipped - spikes
        return {
            "iteration": iteration,
            "loss": float(state.loss_sum) / updates if updates else None,
            **figures,
            "grad_norm_max": float(state.grad_norm_max),
            "skipped": skipped,
            **({"spikes": spikes} if self._run.skip_spikes else {}),
            "iterations_per_second": round(speed, 1),
            **({"lesson": lesson} if lesson else {}),
        }

    def _loss(self, line: dict[str, Any]) -> str:
        text = f"average loss {line['loss']:.4g} {self._figures.loss_unit}"
        if "losses" not in line:
            return text
        known = [loss for loss in line["losses"] if loss is not None]
        of = f"{len(known)} of " if len(known) < len(line["losses"]) else ""
        number = f"{of}{len(line['losses'])} seeds"
        return f"{text} (median of {number}, {min(known):.4g} to {max(known):.4g})"


def _together(lines: list[dict[str, Any]], own: Sequence[str]) -> dict[str, Any]:
    """A line for all seeds of a population: each loss, and the medians of their figures."""
    losses = [line["loss"] for line in lines]
    medians = {name: _median([line[name] for line in lines]) for name in ("loss", *own)}
    counts = {
        name: sum(line[name] for line in lines)
        for name in ("skipped", "spikes")
        if name in lines[0]
    }
    return (
        lines[0]
        | medians
        | {
            "losses": losses,
            "grad_norm_max": max(line["grad_norm_max"] for line in lines),
        }
        | counts
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
