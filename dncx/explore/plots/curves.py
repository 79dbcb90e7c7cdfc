"""Figures of training: the loss from the metrics of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dncx.errors import UsageError
from dncx.explore.plots.panels import whole_numbers
from dncx.explore.plots.style import LINES, Drawing, Width, new, styled
from dncx.runs.metrics import losses, read_metrics
from dncx.runs.paths import METRICS
from dncx.runs.summary import read_summary


@styled()
def learning_curves(
    runs: Mapping[str, Sequence[Path | str]], *, width: Width = "single"
) -> Drawing:
    """Loss against iteration: one line per label; for several runs, the median and shaded range.

    If a label has one run, dotted lines show where a lesson was learned and the next began.

    Args:
      runs: run directories by label; several runs of a label differ only in their seeds.
      width: width of the figure.

    Raises:
      UsageError: if there is no such run, it has no losses, or their units differ.
    """
    if not all(runs.values()):
        raise UsageError("a label has no runs")
    shades = colours(len(runs))
    units = {_unit(Path(run)) for group in runs.values() for run in group}
    if len(units) > 1:
        raise UsageError(f"losses in one figure must have one unit, not {sorted(units)}")
    figure = new(width, 2.2)
    axes = figure.subplots()
    for colour, (label, group) in zip(shades, runs.items(), strict=True):
        metrics = [_metrics(Path(run)) for run in group]
        draw_curves(axes, [losses(lines) for lines in metrics], label, colour)
        if len(group) == 1:
            for line in metrics[0]:
                if "loss" not in line and "lesson" in line:
                    axes.axvline(line["iteration"], color=colour, lw=0.6, ls=":")
    finish(axes, " ".join(["loss", *(f"({unit})" for unit in units if unit)]))
    return figure


def finish(axes: Axes, label: str) -> None:
    """Axes from 0 with their labels, and a legend if lines have labels."""
    axes.set(xlabel="iteration", ylabel=label, xlim=(0, axes.dataLim.x1), ylim=(0, None))
    axes.xaxis.set_major_locator(whole_numbers(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def draw_curves(axes: Axes, runs: Sequence[Mapping[int, float]], label: str, colour: str) -> None:
    """The median and range of losses by iteration, where all runs have a loss."""
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    table = np.array([[run[iteration] for iteration in shared] for run in runs])
    if len(runs) > 1:
        low, high = table.min(axis=0), table.max(axis=0)
        axes.fill_between(shared, low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(shared, np.median(table, axis=0), color=colour, label=label)


def colours(count: int) -> Sequence[str]:
    """A colour for each line.

    Raises:
      UsageError: if there are no lines, or too many to distinguish.
    """
    if not 0 < count <= len(LINES):
        raise UsageError(f"{count} lines: a figure must have 1 to {len(LINES)}")
    return LINES[:count]


def _unit(run: Path) -> str:
    """The unit of a run's losses; "" if it is not known."""
    return read_summary(run).loss_unit


def _metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    path = run / METRICS
    if not path.is_file():
        raise UsageError(f"{run} has no {METRICS}")
    lines = read_metrics(path)
    if not losses(lines):
        raise UsageError(f"{path} has no losses")
    return lines
