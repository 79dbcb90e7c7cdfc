"""How the cost of a gradient grows with time, slots, batch and read heads."""

import math

import numpy as np

from benchmarks.measure import Report, median_seconds
from benchmarks.models import Size, make_cell, make_gradient, make_inputs

AXES = {
    "time": (25, 50, 100, 200, 400),
    "slots": (32, 64, 128, 256, 512),
    "batch": (4, 8, 16, 32, 64),
    "reads": (1, 2, 4, 8),
}


def run(base: Size, axes: dict[str, tuple[int, ...]] | None = None) -> Report:
    """Milliseconds as one size varies from `base`, and the exponent over the upper half."""
    rows, notes = [], []
    for axis, values in (axes or AXES).items():
        times = []
        for value in values:
            size = base._replace(**{axis: value})
            inputs = make_inputs(size)
            gradient, params = make_gradient(make_cell(size))
            seconds = median_seconds(lambda g=gradient, p=params, x=inputs: g(p, x), 5)
            times.append(seconds)
            rows.append({"axis": axis, "value": value, "ms": 1e3 * seconds})
        upper = len(values) // 2
        slope = np.polyfit(np.log(values[upper:]), np.log(times[upper:]), 1)[0]
        first = values[upper]
        notes.append(f"{axis}: the cost grows with exponent {slope:.2f} from {first} upwards")
    assert all(math.isfinite(row["ms"]) for row in rows)
    return Report("scaling", "Forward and backward pass; one size varies at a time", rows, notes)
