"""What a run tells while it trains: lines for people, metrics.jsonl, and loggers."""

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
    """Reports of a run to all who are to know.

    Args:
      run: its settings.
      population: its networks.
      loss_unit: of the task.
      reporter: prints.
      loggers: are called with every line of metrics.jsonl, once it is in the file.
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
        """A line of metrics.jsonl, and what it says in words."""
        if is_primary():
            Metrics(self._run.run_dir / METRICS).append(line)
            for logger in self._loggers:
                logger(line)
        self._reporter.say(text)

    def to_disk(self) -> None:
        """Waits until the lines so far would outlast a power cut."""
        if is_primary():
            self._population.metrics_to_disk()

    def report(self, state: TrainState, lesson: int, speed: float, sample: str) -> float | None:
        """Reports of the state.

        Args:
          state: of which.
          lesson: the present one; 0: there are none.
          speed: iterations a second.
          sample: an answer of the network in print.

        Returns:
          The average loss, of a population the median of those.
        """
        lines = [self._line(one, lesson, speed) for one in self._population.split(state)]
        line = lines[0] if len(lines) == 1 else _together(lines)
        if len(lines) > 1 and is_primary():
            for folder, own in zip(self._population.folders, lines, strict=True):
                Metrics(folder / METRICS).append(own)
        spikes = line.get("spikes", 0)
        self.note(
            line,
            f"iteration {line['iteration']}/{self._run.num_training_iterations}: "
            + (f"lesson {lesson}, " if lesson else "")
            + (f"{line['skipped']} updates not finite and skipped, " if line["skipped"] else "")
            + (f"{spikes} updates skipped for their loss, " if spikes else "")
            + (f"{self._loss(line)}, " if line["loss"] is not None else "")
            + f"{speed:.0f} iterations/s\n{sample}",
        )
        return line["loss"]

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
    """A line for all seeds of a population: the median of their losses, and each of them."""
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
