"""How long until the first step: compilation from nothing, and a whole second start."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Report
from benchmarks.models import Size

_COMPILE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from benchmarks.models import Size, make_cell, make_gradient, make_inputs
size = Size(*map(int, sys.argv[3].split(",")))
start = time.perf_counter()
gradient, params = make_gradient(make_cell(size, sys.argv[2]))
gradient.lower(params, make_inputs(size)).compile()
print(time.perf_counter() - start)
"""


def run(size: Size) -> Report:
    """Seconds; each in a process of its own, with caches of its own."""
    rows = []
    root = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as caches:
        environment = os.environ | {"XDG_CACHE_HOME": caches, "JAX_PLATFORMS": "cpu"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)

        def measured(*command: str) -> str:
            return subprocess.run(
                [sys.executable, *command], env=environment, cwd=caches, check=True,
                capture_output=True, text=True,
            ).stdout  # fmt: skip

        sizes = ",".join(map(str, size))
        for label, implementation in (
            ("gradient, plain", "plain"),
            ("gradient, xla", "xla"),
            ("gradient, native, with the C++ itself", "native"),
            ("gradient, native", "native"),
        ):
            seconds = float(measured("-c", _COMPILE, root, implementation, sizes))
            rows.append({"what": label, "seconds": seconds})
        command = ("-m", "dncx", "train", "repeat-copy", "--num_training_iterations=1")
        for label in ("dncx train to its 1st iteration, first start", "the same, second start"):
            start = time.perf_counter()
            measured(*command, f"--run_dir={caches}/{len(rows)}")
            rows.append({"what": label, "seconds": time.perf_counter() - start})
    return Report("compile_time", "Seconds until there is something to run (size S)", rows)
