"""metrics.jsonl: the reports of training for programs. No JAX here."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dncx.runs.files import on_disk, write_whole


class Metrics:
    """metrics.jsonl: one JSON object per line, appended with each report."""

    def __init__(self, path: Path):
        self.path = path

    def keep_up_to(self, iteration: int) -> None:
        """Drops the lines after the iteration from which training continues."""
        if self.path.exists():
            kept = [line for line in read_metrics(self.path) if line["iteration"] <= iteration]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_whole(self.path, text.encode())

    def append(self, line: dict[str, Any]) -> None:
        """Appends a line; it is in the file when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def to_disk(self) -> None:
        """Waits until the lines would survive a power failure, like the checkpoint after them."""
        if self.path.exists():
            on_disk(self.path)
            on_disk(self.path.parent)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, except for a line that a crash has truncated."""
    return parse_lines(path.read_bytes())


def parse_lines(text: bytes) -> list[dict[str, Any]]:
    """The valid lines in a part of a metrics.jsonl."""
    lines = []
    for one in text.splitlines():
        try:
            line = json.loads(one)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("iteration"), int):
            lines.append(line)
    return lines


def losses(lines: Iterable[dict[str, Any]]) -> dict[int, float]:
    """The loss of each report by its iteration, without reports that contain no update."""
    found = {line["iteration"]: line.get("loss") for line in lines}
    return {iteration: loss for iteration, loss in found.items() if loss is not None}
