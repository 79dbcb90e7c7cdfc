"""Timing, and the reports of benchmarks."""

import dataclasses
import gc
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table


@dataclasses.dataclass
class Report:
    """The results of a benchmark: rows of named values."""

    name: str
    title: str
    rows: list[dict[str, Any]]
    notes: list[str] = dataclasses.field(default_factory=list)

    def show(self) -> None:
        """Prints the table."""
        table = Table(title=self.title, title_justify="left")
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        for name in names:
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(*(_text(row.get(name)) for name in names))
        console = Console(width=120)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False)

    def save(self, folder: Path) -> None:
        """Writes NAME.json: command, machine, notes and rows."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "benchmark": self.name,
            "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            "machine": machine(),
            "notes": self.notes,
            "rows": self.rows,
        }
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """The processor, device and software that this runs on."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "device": f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    torch = sys.modules.get("torch")
    return found | ({"torch": torch.__version__} if torch else {})


def median_seconds(function: Callable[[], Any], runs: int = 3, turn: float = 0.0) -> float:
    """The median time of a call, including the wait for the device.

    Python's garbage collector is off during the measurement, as in `timeit`.

    Args:
      function: the call.
      runs: the minimum number of calls.
      turn: seconds; calls are repeated until they have passed. Calls in a warm-up of a tenth of
        this time (at least one call) are not counted.

    Returns:
      Seconds.
    """
    times: list[float] = []
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        jax.block_until_ready(function())
        while time.perf_counter() - began < turn / 10:
            jax.block_until_ready(function())
        began = time.perf_counter()
        while len(times) < runs or time.perf_counter() - began < turn:
            start = time.perf_counter()
            jax.block_until_ready(function())
            times.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return statistics.median(times)


def round_robin(
    functions: dict[str, Callable[[], Any]], rounds: int, turn: float = 1.0
) -> dict[str, float]:
    """Median seconds of several functions, measured in turns so that a slow phase affects all."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(median_seconds(function, turn=turn))
    return {name: statistics.median(found) for name, found in times.items()}


def rates() -> dict[str, float]:
    """Current speed of the device: GFLOP/s of a matrix product, GB/s of a copy."""
    a, b = jnp.ones((1024, 1024)), jnp.ones(1 << 25)
    square, increment = jax.jit(lambda a: a @ a), jax.jit(lambda b: b + 1)
    product = median_seconds(lambda: square(a), 9)
    copied = median_seconds(lambda: increment(b), 9)
    return {"GFLOP/s": 2 * 1024**3 / product / 1e9, "GB/s": 2 * b.nbytes / copied / 1e9}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
