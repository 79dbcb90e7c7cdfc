"""Helps loggers, which `train` calls with every line of metrics.jsonl (docs/watching.md)."""

from collections.abc import Mapping
from typing import Any


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by name, without its iteration, null values and strings.

    A list has a number for each seed, and each number gets its own name.

    Example:
      >>> numbers({"iteration": 100, "losses": [0.5, 0.25], "loss": None, "skipped": 0})
      {'losses/0': 0.5, 'losses/1': 0.25, 'skipped': 0.0}
    """
    found = {}
    for name, value in line.items():
        several = isinstance(value, list)
        parts = {f"{name}/{n}": part for n, part in enumerate(value)} if several else {name: value}
        found |= {tag: float(part) for tag, part in parts.items() if isinstance(part, int | float)}
    return {tag: number for tag, number in found.items() if tag != "iteration"}
