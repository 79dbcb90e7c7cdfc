"""What training tells: lines for people, and metrics.jsonl for programs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dncx.training.files import write_whole


class Metrics:
    """metrics.jsonl: one JSON object a line, appended report by report."""

    def __init__(self, path: Path):
        self.path = path

    def keep_up_to(self, iteration: int) -> None:
        """Drops the lines after the iteration from which training goes on."""
        if self.path.exists():
            kept = [line for line in read_metrics(self.path) if line["iteration"] <= iteration]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_whole(self.path, text.encode())

    def append(self, line: dict[str, Any]) -> None:
        """Adds a line; it is in the file when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; what is none, cut off by a crash, is left out."""
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("iteration"), int):
            lines.append(line)
    return lines


def losses(lines: Iterable[dict[str, Any]]) -> dict[int, float]:
    """The loss of each report by its iteration; of those before which an update was made."""
    found = {line["iteration"]: line.get("loss") for line in lines}
    return {iteration: loss for iteration, loss in found.items() if loss is not None}


class Reporter:
    """Prints reports: under a progress bar on a terminal, as plain lines elsewhere; or nothing."""

    def __init__(self, total: int, quiet: bool = False):
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            transient=True,
        )
        self.bar = self.progress.add_task("training", total=total)

    def __enter__(self) -> "Reporter":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """A line, or several."""
        self.console.print(text, markup=False)

    def advance(self, iteration: int) -> None:
        """Moves the bar."""
        self.progress.update(self.bar, completed=iteration)
