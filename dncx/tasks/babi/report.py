"""The errors of a run by task, beside the paper's."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dncx.tasks.babi.data import Gap
from dncx.tasks.babi.files import NAMES
from dncx.tasks.babi.judge import Tally
from dncx.tasks.babi.published import COLUMNS, NOTES, SOURCE

FAILED = 5  # per cent; a task with a larger error counts as failed (the paper)


def results(tally: Tally, gaps: Sequence[Gap] = (), notes: Sequence[str] = ()) -> dict[str, Any]:
    """What a tally comes to, as JSON can hold it; errors in per cent.

    Args:
      tally: by task, of a whole split.
      gaps: `Babi.data.gaps`: their tasks are marked.
      notes: `Babi.notes`.

    Returns:
      "tasks" (those with questions), "mean_error" of them, how many "failed", "notes", and what
      is "published".

    Raises:
      ValueError: nothing was asked.
    """
    questions, wrong = (np.asarray(counts) for counts in tally[:2])
    with_gap = {gap.task for gap in gaps}
    tasks = [
        {
            "task": number + 1,
            "name": NAMES[number],
            "questions": int(questions[number]),
            "wrong": int(wrong[number]),
            "error": 100 * int(wrong[number]) / int(questions[number]),
            "whole": number + 1 not in with_gap,
        }
        for number in questions.nonzero()[0].tolist()
    ]
    if not tasks:
        raise ValueError("the tally is empty: no question was asked")
    errors = [task["error"] for task in tasks]
    columns = [column._asdict() for column in COLUMNS]
    return {
        "tasks": tasks,
        "mean_error": sum(errors) / len(errors),
        "failed": sum(error > FAILED for error in errors),
        "notes": list(notes),
        "published": {"source": SOURCE, "notes": list(NOTES), "columns": columns},
    }


def table(results: dict[str, Any]) -> str:
    """The results for people."""
    tasks = results["tasks"]
    numbers = [task["task"] for task in tasks]
    rows = [["task", "error", "wrong/asked", *(column.name for column in COLUMNS)]]
    for task in tasks:
        name = f"{task['task']:2} {task['name']}{'' if task['whole'] else ' [not whole]'}"
        cells = [column.cells[task["task"] - 1] for column in COLUMNS]
        rows.append([name, f"{task['error']:.1f}", f"{task['wrong']}/{task['questions']}", *cells])
    every = len(tasks) == 20
    means = [column.mean if every else _mean(column.errors, numbers) for column in COLUMNS]
    failed = [column.failed if every else _failed(column.errors, numbers) for column in COLUMNS]
    rows.append(["mean", f"{results['mean_error']:.1f}", "", *means])
    rows.append([f"failed (error > {FAILED} %)", str(results["failed"]), "", *failed])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    best = sum(widths[:-4]) + 2 * len(widths[:-4])  # where the columns of the best run begin
    means_at = sum(widths[:3]) + 6
    heads = "error in per cent".ljust(means_at) + "paper: mean of 20 runs"
    notes = [*results["notes"], *NOTES]
    if not every:
        notes.append("mean and failed of the paper's columns are here of the same tasks only")
    return "\n".join([heads.ljust(best) + "paper: best of 20", *lines, *notes])


def _of(errors: Sequence[float], numbers: Sequence[int]) -> list[float]:
    return [errors[number - 1] for number in numbers]


def _mean(errors: Sequence[float], numbers: Sequence[int]) -> str:
    return f"{sum(_of(errors, numbers)) / len(numbers):.1f}"


def _failed(errors: Sequence[float], numbers: Sequence[int]) -> str:
    return str(sum(error > FAILED for error in _of(errors, numbers)))
