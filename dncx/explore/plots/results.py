"""Figures of measurements by `dncx eval ... --out FILE.json`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dncx.errors import UsageError
from dncx.explore.plots import panels
from dncx.explore.plots.curves import colours
from dncx.explore.plots.style import (
    BLACK,
    BLUE,
    SHADE,
    VERMILION,
    Drawing,
    Width,
    new,
    ramp,
    styled,
)
from dncx.tasks.babi.published import COLUMNS, NOT_READ
from dncx.tasks.babi.report import FAILED

Results = Sequence[dict[str, Any]]
MARKS = (("0.45", "s"), (VERMILION, "D"), (BLACK, "^"), ("0.7", "v"))


@styled()
def evaluation(results: Results, score: str | None = None, *, width: Width = "single") -> Drawing:
    """The share without an error, 1 - score, against the first option swept.

    If two options were swept, there is one line per value of the second.

    Args:
      results: results of `dncx.training.evaluation.evaluate` with a sweep of one or two options.
      score: name of the score, or "loss"; by default sequence_error, or else the first score.
      width: width of the figure.

    Raises:
      UsageError: if the sweep does not have one or two options, or there is no such score.
    """
    first, *others = _swept(results, (1, 2))
    label, values = _values(results, score)
    lines: dict[str, list[tuple[Any, float]]] = {}
    for result, value in zip(results, values, strict=True):
        name = ", ".join(str(result["swept"][other]) for other in others)
        lines.setdefault(name, []).append((result["swept"][first], value))
    figure = new(width, 2.2)
    axes = figure.subplots()
    for colour, (name, points) in zip(colours(len(lines)), lines.items(), strict=True):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name, clip_on=False)
    axes.set(xlabel=_words(first), ylabel=label)
    if score != "loss":
        axes.set(ylim=(0, 100))
    if all(isinstance(result["swept"][first], int) for result in results):
        axes.xaxis.set_major_locator(panels.whole_numbers(8))
    axes.margins(x=0.02)
    if others:
        axes.legend(title=_words(others[0]), loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


@styled()
def evaluation_heatmap(
    results: Results, score: str | None = None, *, width: Width = "single"
) -> Drawing:
    """`evaluation` of two options as a grid with numbers: the first option is the x-axis.

    Source figure: Extended Data Fig. 2.

    Raises:
      UsageError: if the sweep does not have two options, a point is missing, or there is no such
        score.
    """
    first, second = _swept(results, (2,))
    label, values = _values(results, score)
    points = [tuple(result["swept"][name] for name in (second, first)) for result in results]
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*points, strict=True))
    found = dict(zip(points, values, strict=True))
    missing = [(row, column) for row in rows for column in columns if (row, column) not in found]
    if missing:
        raise UsageError(f"no result for {second}, {first} = {missing[0]}")
    table = np.array([[found[row, column] for column in columns] for row in rows])
    figure = new(width, max(1.9, 0.25 * len(rows) + 0.5))  # the least that the label needs
    axes = figure.subplots()
    limit = 100.0 if score != "loss" else float(table.max()) or 1.0
    image = panels.heat(axes, table, ramp(BLUE), _words(second), vmax=limit)
    axes.set(xlabel=_words(first), ylim=(-0.5, len(rows) - 0.5))
    axes.set_xticks(range(len(columns)), [str(value) for value in columns])
    axes.set_yticks(range(len(rows)), [str(value) for value in rows])
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(table):
        light = value > 0.5 * limit
        text = f"{value:.2g}" if score == "loss" else f"{value:.1f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=6,
                  color="white" if light else BLACK)  # fmt: skip
    panels.bar(image, axes, label)
    return figure


@styled()
def error_table(
    results: Results, networks: Sequence[str] = ("DNC1", "LSTM"), *, width: Width = "single"
) -> Drawing:
    """bAbI's errors by task in per cent (blue), compared with published errors.

    The published errors are the mean and the standard deviation of 20 runs. A task left of the
    dashed line counts as solved. The data of a task with an asterisk were incomplete.

    Args:
      results: results of `dncx eval` on a run of the task babi.
      networks: the published networks to compare with, some of "LSTM", "NTM", "DNC1", "DNC2".
      width: width of the figure.

    Raises:
      UsageError: if the results are not from bAbI, or there is no such network.

    Source: Extended Data Table 1.
    """
    if not results or "published" not in results[0].get("results", {}):
        raise UsageError("these results are not of the task babi")
    tasks = results[0]["results"]["tasks"]
    published = {column.name: column for column in COLUMNS}
    unknown = set(networks) - set(published)
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: must be one of {', '.join(published)}")
    rows = np.arange(len(tasks) + 1)
    figure = new(width, 0.17 * len(rows) + 0.6)
    axes = figure.subplots()
    axes.hlines(rows, 0, 100, color=SHADE, lw=0.5, zorder=0)
    axes.axvline(FAILED, color="0.5", lw=0.6, ls="--", zorder=0)
    axes.axhline(len(tasks) - 0.5, color="0.5", lw=0.4)
    for (colour, marker), name in zip(MARKS, networks, strict=False):
        cells = [published[name].cells[task["task"] - 1] for task in tasks]
        read = [(row, *map(float, c.split("±"))) for row, c in enumerate(cells) if c != NOT_READ]
        at, means, deviations = np.array(read).reshape(-1, 3).T
        axes.errorbar(means, at, xerr=deviations, fmt="none", ecolor=colour, elinewidth=0.5)
        if len(at) == len(tasks):  # the mean of all tasks is known
            at, means = rows, [*means, means.mean()]
        axes.plot(means, at, marker, color=colour, mfc="white", mew=0.6, label=f"{name}, paper")
    errors = [*(task["error"] for task in tasks), results[0]["results"]["mean_error"]]
    axes.plot(errors, rows, "o", color=BLUE, ms=3.5, label="here")
    names = [f"{task['task']} {task['name']}{'' if task['complete'] else '*'}" for task in tasks]
    axes.set_yticks(rows, [*names, "mean of these"])
    axes.set(xlim=(0, 100), ylim=(rows[-1] + 0.6, -0.6), xlabel="error (%)")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=5, columnspacing=1)
    return figure


def _swept(results: Results, counts: Sequence[int]) -> list[str]:
    """The names of the options swept."""
    swept = list(results[0]["swept"]) if results else []
    if len(swept) not in counts:
        names = ", ".join(swept) or "nothing"
        raise UsageError(f"swept: {names}; this figure needs {' or '.join(map(str, counts))}")
    return swept


def _values(results: Results, score: str | None) -> tuple[str, list[float]]:
    """The label of the values, and the value at each point."""
    names = list(results[0]["scores"])
    if score == "loss" and all("loss" in result for result in results):
        return f"loss ({results[0]['loss_unit']})", [result["loss"] for result in results]
    name = score or ("sequence_error" if "sequence_error" in names else names[0])
    if not all(name in result["scores"] for result in results):
        raise UsageError(f"the results have no score {name}; they have {', '.join(names)}")
    right = [100 * (1 - result["scores"][name]) for result in results]
    return f"without {_words(name)} (%)", right


def _words(name: str) -> str:
    return name.replace("_", " ")
