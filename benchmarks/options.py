"""Time of a gradient with an option of `DNCConfig`, relative to the same network without it."""

from functools import partial
from typing import Any

from benchmarks.measure import Report, round_robin
from benchmarks.models import Size, make_cell, make_gradient, make_inputs

OPTIONS: dict[str, dict[str, Any]] = {
    "linkage=none": {"linkage": "none"},
    "content_mask": {"content_mask": True},
    "wipe_freed": {"wipe_freed": True},
    "sharpen_links": {"sharpen_links": True},
    "interface_norm": {"interface_norm": True},
    "controller_norm": {"controller_norm": True},
}


def run(sizes: dict[str, Size], rounds: int = 9, turn: float = 0.4) -> Report:
    """Milliseconds, and relative to the defaults, in the fastest implementation."""
    rows = []
    for name, size in sizes.items():
        inputs = make_inputs(size)
        calls = {}
        for option, changes in ({"defaults": {}} | OPTIONS).items():
            gradient, params = make_gradient(make_cell(size, **changes))
            calls[option] = partial(gradient, params, inputs)
        seconds = round_robin(calls, rounds, turn)
        for option, time in seconds.items():
            share = time / seconds["defaults"]
            rows.append(
                {"size": name, "option": option, "ms": 1e3 * time, "relative to defaults": share}
            )
    return Report("options", "Forward and backward pass of a batch with one option", rows)
