"""The errors of a run by task, next to the paper's."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dncx.tasks.babi.data import Gap
from dncx.tasks.babi.files import NAMES
from dncx.tasks.babi.published import COLUMNS, NOT_READ, NOTES, SOURCE, Column
from dncx.tasks.babi.scoring import Tally
from dncx.text import table as in_columns

FAILED = 5  # per cent; the paper counts a task with a larger error as failed


def results(tally: Tally, gaps: Sequence[Gap] = (), notes: Sequence[str] = ()) -> dict[str, Any]:
    """The errors of a split, in per cent, as plain JSON.

    Args:
      tally: counts by task, over all stories of a split.
      gaps: `Babi.data.gaps`; their tasks are marked as incomplete.
      notes: `Babi.notes`.

    Returns:
      "tasks" (those with questions), the "mean_error" of these, the number of "failed" ones,
      "notes", and the "published" errors.

    Raises:
      ValueError: if there was no question.
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
            "complete": number + 1 not in with_gap,
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
    """The results as text."""
    tasks, rows = results["tasks"], []
    for task in tasks:
        name = f"{task['task']:2} {task['name']}{'' if task['complete'] else ' [incomplete]'}"
        cells = [column.cells[task["task"] - 1] for column in COLUMNS]
        rows.append([name, f"{task['error']:.1f}", f"{task['wrong']}/{task['questions']}", *cells])
    numbers = [task["task"] for task in tasks]
    means = [_mean(column, numbers) for column in COLUMNS]
    failed = [_failed(column, numbers) for column in COLUMNS]
    rows.append(["mean", f"{results['mean_error']:.1f}", "", *means])
    rows.append([f"failed (error > {FAILED} %)", str(results["failed"]), "", *failed])
    header = ["task", "error", "wrong/asked", *(column.name for column in COLUMNS)]
    lines = in_columns(header, rows, left=1)
    paper_begins = lines.index(header[2]) + len(header[2]) + 2
    heading = "error in per cent".ljust(paper_begins) + "paper: mean of 20 runs"
    notes = [*results["notes"], *NOTES]
    if len(tasks) < len(NAMES):
        notes.append("in the paper's columns, mean and failed count only these tasks")
    return "\n".join([heading, lines, *notes])


def _mean(column: Column, numbers: Sequence[int]) -> str:
    """The mean error of some tasks: as printed if these are all tasks, else computed."""
    if len(numbers) == len(NAMES):
        return column.mean
    errors = [column.error(number) for number in numbers]
    known = [error for error in errors if error is not None]
    return f"{sum(known) / len(known):.1f}" if len(known) == len(errors) else NOT_READ


def _failed(column: Column, numbers: Sequence[int]) -> str:
    """The number of failed tasks: as printed if these are all tasks, else counted."""
    if len(numbers) == len(NAMES):
        return column.failed
    errors = [column.error(number) for number in numbers]
    if None in errors:
        return NOT_READ
    return str(sum(error > FAILED for error in errors if error is not None))
