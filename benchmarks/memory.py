"""Temporary memory of the compiled gradient, and its time."""

import jax

from benchmarks.measure import Report, median_seconds
from benchmarks.models import SIZES, Size, make_cell, make_gradient, make_inputs
from dncx.kernels.choice import Implementation

# Memory is compared with "plain" within each case, time per step with L itself.
LONG: dict[str, tuple[Size, tuple[Implementation, ...]]] = {
    "L": (SIZES["L"], ("plain", "xla", "native")),
    "L, T=1000, B=4": (SIZES["L"]._replace(time=1000, batch=4), ("plain", "xla", "native")),
    "M, T=10000, B=1": (SIZES["M"]._replace(time=10_000, batch=1), ("plain", "xla", "native")),
}
# A gradient that needs more than this is compiled to read its memory, but not run.
MAX_BYTES = 8 << 30


def run(cases: dict[str, tuple[Size, tuple[Implementation, ...]]] | None = None) -> Report:
    """MiB, and microseconds per step and example."""
    rows = []
    for name, (size, implementations) in (cases or LONG).items():
        inputs = make_inputs(size)
        for implementation in implementations:
            if implementation == "native" and jax.default_backend() != "cpu":
                continue
            gradient, params = make_gradient(make_cell(size, implementation))
            compiled = gradient.lower(params, inputs).compile()  # type: ignore[attr-defined]
            temporary = compiled.memory_analysis().temp_size_in_bytes
            row = {"case": name, "implementation": implementation, "MiB": temporary / 2**20}
            if temporary < MAX_BYTES:
                seconds = median_seconds(lambda c=compiled, p=params, x=inputs: c(p, x), 3)
                row["us per step and example"] = 1e6 * seconds / (size.time * size.batch)
            rows.append(row)
    return Report("memory", "Temporary memory of the compiled gradient", rows)
