"""`dncx runs`: what became of the runs in a folder. No JAX here, so that it answers at once."""

import fcntl
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.runs.config import CONFIG, FAILURE, METRICS, MODEL, read_config
from dncx.runs.lock import LOCK
from dncx.runs.metrics import parse_lines
from dncx.settings.commands import RunsSettings

_LAST = 2**16  # bytes of metrics.jsonl that are read: some hundred reports
_LARGEST_HEADER = 2**24  # bytes; that of a model is some thousand
_AGES = {"d": 86_400, "h": 3_600, "min": 60}


def show_runs(settings: RunsSettings) -> str:
    """The runs in a folder, as a table or as JSON.

    Raises:
      UsageError: there is no such folder.
    """
    rows = list_runs(settings.folder)
    if settings.json:
        return json.dumps(rows, indent=2)
    return _table(rows) if rows else f"there are no runs in {settings.folder}"


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """What is known of each run in a folder, those that reported last first.

    Returns:
      A dictionary a run with "name" and "seconds_since_report", and either "problem" or "task",
      "lesson" (0: it has none), "model", "seeds", "iteration", "iterations" (in all), "state"
      (running, finished, stopped early, failed, interrupted), "best" (validation: "error" in % and
      "iteration"), "loss" (of several seeds the median), "loss_unit", "skipped" (updates, both in
      the last report) and "iterations_per_second".
      What is not known is None.

    Raises:
      UsageError: there is no such folder.
    """
    try:
        if not folder.is_dir():
            if folder.exists():
                raise UsageError(f"{folder} is not a folder")
            raise UsageError(
                f"there is no folder {folder}; runs are in runs/ where `dncx train` began"
            )
        runs = [folder] if (folder / CONFIG).exists() else [*_runs_in(folder)]
    except OSError as error:
        raise UsageError(f"{str(folder)[:300]}: {error.strerror}") from error
    rows = [{"name": str(run), **_described(run)} for run in runs]
    return sorted(rows, key=lambda row: row["seconds_since_report"])


def _runs_in(folder: Path) -> Iterator[Path]:
    """Its folders; of one that is no run itself, the runs in it, if any."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            inner = [] if (path / CONFIG).exists() else path.glob(f"*/{CONFIG}")
            yield from [config.parent for config in inner] or [path]


def _described(run: Path) -> dict[str, Any]:
    there = [path for path in (run / METRICS, run / CONFIG, run) if path.exists()]
    age = {"seconds_since_report": round(time.time() - there[0].stat().st_mtime, 1)}
    if not (run / CONFIG).exists():
        return age | {"problem": f"not a dncx run: it has no {CONFIG}"}
    try:
        return age | _state(run)
    except (UsageError, OSError) as error:
        return age | {"problem": str(error)}
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return age | {"problem": f"{CONFIG} or {MODEL} is broken"}


def _state(run: Path) -> dict[str, Any]:
    config, reports = read_config(run / CONFIG), _last_reports(run / METRICS)
    model, seeds = config["model"], int(config["training"].get("num_seeds", 1))
    models = sorted(run.glob(f"seed-*/{MODEL}")) if seeds > 1 else [run / MODEL]
    reached = [_trained_iterations(path) for path in models]
    trained = min((x for x in reached if x is not None), default=None)
    trained = trained if len(models) == seeds else None
    reported = reports[-1]["iteration"] if reports else 0
    total, best = config["training"]["num_training_iterations"], config.get("validation")
    if _is_locked(run):
        state = "running"
    elif trained is not None and trained >= total:
        state = "finished"
    elif trained is not None and trained >= reported and best and best["worse"]:
        state = "stopped early"
    elif _failed(run):
        state = "failed"
    else:
        state = "interrupted"
    memory = (model["memory_size"], model["word_size"])
    sizes = (model["num_layers"], model["hidden_size"]) if model["name"] == "lstm" else memory
    return {
        "task": str(config["task"]["name"]),
        "lesson": int(config.get("lesson", 0)),
        "model": f"{model['name']} {sizes[0]}x{sizes[1]}",
        "seeds": seeds,
        "iteration": max(reported, trained or 0),
        "iterations": total,
        "state": state,
        "best": _best(best["error"], best["iteration"]) if best else None,
        "loss": _last_number(reports, "loss"),
        "loss_unit": str(config.get("loss_unit", "")),
        "skipped": _last_number(reports, "skipped"),
        "iterations_per_second": _last_number(reports, "iterations_per_second"),
    }


def _failed(run: Path) -> bool:
    """Whether a run ended for updates that were not finite, and was not started again."""
    began = (run / CONFIG).stat().st_mtime_ns
    failures = [run / FAILURE, *run.glob(f"seed-*/{FAILURE}")]
    return any(path.is_dir() and path.stat().st_mtime_ns >= began for path in failures)


def _best(error: Any, iteration: Any) -> dict[str, Any]:
    """The best validation; nothing else than numbers."""
    return {"error": None if error is None else float(error), "iteration": int(iteration)}


def _last_reports(path: Path) -> list[dict[str, Any]]:
    """The last lines of a metrics.jsonl; what is none is left out."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST))
        return parse_lines(file.read())


def _last_number(reports: list[dict[str, Any]], name: str) -> int | float | None:
    """The newest one of a name: a validation, too, has a line, and no loss."""
    values = (report.get(name) for report in reversed(reports))
    numbers = (x for x in values if isinstance(x, int | float) and math.isfinite(x))
    return next(numbers, None)


def _trained_iterations(model: Path) -> int | None:
    """What the header of model.safetensors says; its library would load NumPy."""
    if not model.is_file():
        return None
    with model.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            raise ValueError("no header of a model")
        return int(json.loads(file.read(size))["__metadata__"]["iteration"])


def _is_locked(run: Path) -> bool:
    """Whether a process trains there (lock.py), asked for a moment and without changing it."""
    if not (run / LOCK).is_file():
        return False
    with (run / LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _table(rows: list[dict[str, Any]]) -> str:
    """A line a run, in columns; where there is a problem, it and no columns."""
    titles = ["run", "task", "model", "iteration", "state", "loss", "iterations/s", "last report"]
    cells = {number: _cells(row) for number, row in enumerate(rows) if "problem" not in row}
    widths = [max(map(len, column)) for column in zip(titles, *cells.values(), strict=True)]
    names = [_in_print(row["name"]) for row in rows]
    widths[0] = max(map(len, [*names, titles[0]]))

    def line(texts: list[str]) -> str:
        return "  ".join(f"{t:{w}}" for t, w in zip(texts, widths, strict=True)).rstrip()

    return "\n".join(
        [line(titles)]
        + [
            line(cells[number])
            if number in cells
            else f"{names[number]:{widths[0]}}  {_in_print(row['problem'])}"
            for number, row in enumerate(rows)
        ]
    )


def _cells(row: dict[str, Any]) -> list[str]:
    lesson, best, loss = row["lesson"], row["best"], row["loss"]
    known = best and best["error"] is not None
    return [
        _in_print(row["name"]),
        _in_print(row["task"]) + (f", lesson {lesson}" if lesson else ""),
        _in_print(row["model"]) + (f", {row['seeds']} seeds" if row["seeds"] > 1 else ""),
        f"{row['iteration']}/{row['iterations']}",
        row["state"]
        + (f", best {best['error']:.4g} % at {best['iteration']}" if known else "")
        + (f", {row['skipped']:.0f} skipped" if row["skipped"] else ""),
        "-" if loss is None else f"{loss:.4g} {_in_print(row['loss_unit'])}".strip(),
        "-" if row["iterations_per_second"] is None else f"{row['iterations_per_second']:.0f}",
        _age(row["seconds_since_report"]),
    ]


def _in_print(text: str) -> str:
    """Without signs that end a line, move the cursor or cannot be written; not endless."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:500])


def _age(seconds: float) -> str:
    for unit, length in _AGES.items():
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
