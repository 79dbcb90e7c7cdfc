"""The reports of a run during training: lines for people, metrics.jsonl, and loggers."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from dncx.reporting.console import Reporter
from dncx.runs.metrics import Metrics
from dncx.runs.paths import METRICS
from dncx.runs.population import Population
from dncx.runs.processes import is_primary
from dncx.runs.state import TrainState
from dncx.settings.training import RunSettings

Logger = Callable[[dict[str, Any]], object]


class Reports:
    """Reports of a run, to people and to programs.

    Args:
      run: the settings of the run.
      population: its networks.
      loss_unit: the unit of the task's loss.
      reporter: prints the reports.
      loggers: functions that are called with every line of metrics.jsonl, after it was written.
    """

    def __init__(
        self,
        run: RunSettings,
        population: Population,
        loss_unit: str,
        reporter: Reporter,
        loggers: Sequence[Logger],
    ):
        self._run = run
        self._population = population
        self._loss_unit = loss_unit
        self._reporter = reporter
        self._loggers = loggers

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

    def report(self, state: TrainState, lesson: int, speed: float, sample: str) -> float | None:
        """Reports the state.

        Args:
          state: the state to report.
          lesson: the current lesson; 0 if there are no lessons.
          speed: iterations per second.
          sample: an answer of the network as text.

        Returns:
          The average loss; the median of a population.
        """
        lines = [self._line(one, lesson, speed) for one in self._population.split(state)]
        line = lines[0] if len(lines) == 1 else _together(lines)
        if len(lines) > 1 and is_primary():
            for folder, own in zip(self._population.folders, lines, strict=True):
                Metrics(folder / METRICS).append(own)
        self._log(line)
        self._reporter.report(self._in_words(line, speed), sample, line["iteration"])
        return line["loss"]

    def _in_words(self, line: dict[str, Any], speed: float) -> str:
        parts = [f"lesson {line['lesson']}"] if "lesson" in line else []
        if line["skipped"]:
            parts.append(f"{line['skipped']} non-finite updates skipped")
        if line.get("spikes"):
            parts.append(f"{line['spikes']} updates skipped because of their loss")
        if line["loss"] is not None:
            parts.append(self._loss(line))
        parts.append(f"{speed:.0f} iterations/s")
        total = self._run.num_training_iterations
        return f"iteration {line['iteration']}/{total}: {', '.join(parts)}"

    def _line(self, state: TrainState, lesson: int, speed: float) -> dict[str, Any]:
        iteration, skipped, spikes = state.reached, int(state.skipped), int(state.spikes)
        updates = iteration - int(state.reported) - skipped - spikes
        return {
            "iteration": iteration,
            "loss": float(state.loss_sum) / updates if updates else None,
            "grad_norm_max": float(state.grad_norm_max),
            "skipped": skipped,
            **({"spikes": spikes} if self._run.skip_spikes else {}),
            "iterations_per_second": round(speed, 1),
            **({"lesson": lesson} if lesson else {}),
        }

    def _loss(self, line: dict[str, Any]) -> str:
        text = f"average loss {line['loss']:.4g} {self._loss_unit}"
        if "losses" not in line:
            return text
        known = [loss for loss in line["losses"] if loss is not None]
        of = f"{len(known)} of " if len(known) < len(line["losses"]) else ""
        number = f"{of}{len(line['losses'])} seeds"
        return f"{text} (median of {number}, {min(known):.4g} to {max(known):.4g})"


def _together(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """A line for all seeds of a population: each loss, and their median."""
    losses = [line["loss"] for line in lines]
    known = [loss for loss in losses if loss is not None]
    counts = {
        name: sum(line[name] for line in lines)
        for name in ("skipped", "spikes")
        if name in lines[0]
    }
    return (
        lines[0]
        | {
            "loss": statistics.median(known) if known else None,
            "losses": losses,
            "grad_norm_max": max(line["grad_norm_max"] for line in lines),
        }
        | counts
    )
