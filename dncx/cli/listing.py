"""`dncx runs`: the state of the runs in a folder. No JAX here, so that it starts at once."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.runs.codec import to_plain
from dncx.runs.lock import is_locked
from dncx.runs.metrics import parse_lines
from dncx.runs.paths import CONFIG, FAILURE, METRICS, MODEL
from dncx.runs.progress import Progress, Validation
from dncx.runs.summary import read_summary
from dncx.runs.trained import trained_progress
from dncx.settings.commands import RunsSettings
from dncx.settings.training import NO_MEMORY
from dncx.text import table, wrapped

_LAST = 2**24  # bytes of metrics.jsonl that are read: some hundred thousand reports
_AGES = {"d": 86_400, "h": 3_600, "min": 60}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The state of a run.

    Attributes:
      task: its name.
      lesson: the current lesson; 0 if the task has none.
      model: its kind and sizes: slots x word size of a memory, layers x layer size of an LSTM.
      seeds: number of networks.
      iteration: iterations so far.
      iterations: iterations in total.
      state: "running", "finished", "stopped early" (by validation), "failed" or "interrupted".
      best_validation_error: in per cent; None without validation.
      best_validation_iteration: the iteration at which it was measured.
      loss: in the last report; the median of several seeds.
      loss_unit: unit of the loss.
      skipped: updates skipped in the last report.
      iterations_per_second: in the last report.
    """

    task: str
    lesson: int
    model: str
    seeds: int
    iteration: int
    iterations: int
    state: str
    best_validation_error: float | None
    best_validation_iteration: int | None
    loss: float | None
    loss_unit: str
    skipped: int | float | None
    iterations_per_second: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A folder in the list: a run and its status, or the reason why it is not a run.

    Attributes:
      name: its path.
      seconds_since_report: age of the last report, or of the folder.
      status: None if there is a problem.
      problem: why the folder cannot be read as a run, or "".
    """

    name: str
    seconds_since_report: float
    status: RunStatus | None = None
    problem: str = ""


def show_runs(settings: RunsSettings) -> str:
    """The runs in a folder, as a table or as JSON.

    Raises:
      UsageError: if there is no such folder.
    """
    rows = list_runs(settings.folder)
    if settings.json:
        return json.dumps([_plain(row) for row in rows], indent=2)
    return _in_words(settings.folder, rows) if rows else f"there are no runs in {settings.folder}"


def _plain(row: ListedRun) -> dict[str, Any]:
    """One flat object, for programs."""
    plain = to_plain(row)
    status = plain.pop("status")
    return plain | status if status else plain


def list_runs(folder: Path) -> list[ListedRun]:
    """The runs in a folder, the latest report first.

    Raises:
      UsageError: if there is no such folder.
    """
    try:
        if not folder.is_dir():
            if folder.exists():
                raise UsageError(f"{folder} is not a folder")
            raise UsageError(
                f"there is no folder {folder}; `dncx train` writes to runs/ in its own directory"
            )
        runs = [folder] if (folder / CONFIG).exists() else [*_runs_in(folder)]
    except OSError as error:
        raise UsageError(f"{str(folder)[:300]}: {error.strerror}") from error
    return sorted(map(_listed, runs), key=lambda row: row.seconds_since_report)


def _runs_in(folder: Path) -> Iterator[Path]:
    """Its subfolders; a subfolder that is not a run is replaced by the runs in it, if any."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            inner = [] if (path / CONFIG).exists() else path.glob(f"*/{CONFIG}")
            yield from [config.parent for config in inner] or [path]


def _listed(run: Path) -> ListedRun:
    newest = next(path for path in (run / METRICS, run / CONFIG, run) if path.exists())
    age = round(time.time() - newest.stat().st_mtime, 1)
    status, problem = None, ""
    try:
        if (run / CONFIG).exists():
            status = _status(run)
        else:
            problem = f"not a dncx run: it has no {CONFIG}"
    except (UsageError, OSError) as error:
        problem = str(error)
    return ListedRun(name=str(run), seconds_since_report=age, status=status, problem=problem)


def _status(run: Path) -> RunStatus:
    summary, reports = read_summary(run), _reports(run / METRICS)
    seeds, total = summary.updates.num_seeds, summary.updates.num_training_iterations
    trained = _trained(run, seeds)
    reported = reports[-1]["iteration"] if reports else 0
    lesson = trained.lesson if trained else int(_last_number(reports, "lesson") or 0)
    validation = trained.validation if trained else _best_validation(reports)
    if is_locked(run):
        state = "running"
    elif trained and trained.iteration >= total:
        state = "finished"
    elif trained and trained.iteration >= reported and validation and validation.worse:
        state = "stopped early"
    elif _failed(run):
        state = "failed"
    else:
        state = "interrupted"
    cell = summary.network.cell
    sizes = (cell.memory_size, cell.word_size)
    if summary.network.kind in NO_MEMORY:
        sizes = (cell.num_layers, cell.hidden_size)
    return RunStatus(
        task=summary.task.name,
        lesson=lesson,
        model=f"{summary.network.kind} {sizes[0]}x{sizes[1]}",
        seeds=seeds,
        iteration=max(reported, trained.iteration if trained else 0),
        iterations=total,
        state=state,
        best_validation_error=validation.error if validation else None,
        best_validation_iteration=validation.iteration if validation else None,
        loss=_last_number(reports, "loss"),
        loss_unit=summary.loss_unit,
        skipped=_last_number(reports, "skipped"),
        iterations_per_second=_last_number(reports, "iterations_per_second"),
    )


def _trained(run: Path, seeds: int) -> Progress | None:
    """The progress of the trained models; None while one is missing."""
    folders = [run] if seeds == 1 else [path.parent for path in run.glob(f"seed-*/{MODEL}")]
    found = [progress for progress in map(trained_progress, folders) if progress]
    return min(found, key=lambda p: p.iteration) if found and len(found) == seeds else None


def _best_validation(reports: list[dict[str, Any]]) -> Validation | None:
    """The best validation in the reports."""
    best = None
    for line in reports:
        error = line.get("validation_error")
        if isinstance(error, int | float):
            best = (best or Validation()).after(error, line["iteration"])
    return best


def _failed(run: Path) -> bool:
    """Whether a run ended because of non-finite updates and was not started again."""
    began = (run / CONFIG).stat().st_mtime_ns
    failures = [run / FAILURE, *run.glob(f"seed-*/{FAILURE}")]
    return any(path.is_dir() and path.stat().st_mtime_ns >= began for path in failures)


def _reports(path: Path) -> list[dict[str, Any]]:
    """The last lines of a metrics.jsonl."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST))
        return parse_lines(file.read())


def _last_number(reports: list[dict[str, Any]], name: str) -> int | float | None:
    """The last finite number of this name; some lines lack it, as validations have no loss."""
    values = (report.get(name) for report in reversed(reports))
    numbers = (x for x in values if isinstance(x, int | float) and math.isfinite(x))
    return next(numbers, None)


def _in_words(folder: Path, runs: list[ListedRun]) -> str:
    """A table that fits the terminal, followed by the folders that are not runs and the reasons."""
    titles = ["run", "task (model)", "state", "loss", "it/s", "age"]
    rows = [_cells(folder, run) for run in runs if not run.problem]
    problems = [f"{_printable(run.name)}: {_printable(run.problem)}" for run in runs if run.problem]
    parts = [table(titles, rows, left=len(titles), width=None)] if rows else []
    return "\n".join([*parts, *map(wrapped, problems)])


def _cells(folder: Path, row: ListedRun) -> list[str]:
    run, path = row.status, Path(row.name)
    assert run is not None
    name = path.relative_to(folder) if path != folder else path
    seeds = f", {run.seeds} seeds" if run.seeds > 1 else ""
    lesson = f", lesson {run.lesson}" if run.lesson else ""
    state = f"{run.state} {run.iteration}/{run.iterations}"
    if run.best_validation_error is not None:
        state += f", best {run.best_validation_error:.4g} % at {run.best_validation_iteration}"
    if run.skipped:
        state += f", {run.skipped:.0f} skipped"
    speed = run.iterations_per_second
    return [
        _printable(str(name)),
        _printable(f"{run.task}{lesson} ({run.model}{seeds})"),
        state,
        "-" if run.loss is None else f"{run.loss:.4g} {_printable(run.loss_unit)}".strip(),
        "-" if speed is None else f"{speed:.0f}",
        _age(row.seconds_since_report),
    ]


def _printable(text: str) -> str:
    """The text without characters that end a line or move the cursor, and of limited length."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:500])


def _age(seconds: float) -> str:
    for unit, length in _AGES.items():
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
