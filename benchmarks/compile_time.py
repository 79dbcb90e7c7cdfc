"""Time to the first step: compilation with empty caches, and the second start of a command."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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


def run(size: Size, flags: Sequence[str] = ()) -> Report:
    """Seconds, each measured in a fresh process; the caches are temporary.

    Args:
      size: of the gradient.
      flags: for `dncx train repeat-copy`; by default it trains its default network.
    """
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
            ("gradient, native, including compilation of the C++", "native"),
            ("gradient, native", "native"),
        ):
            seconds = float(measured("-c", _COMPILE, root, implementation, sizes))
            rows.append({"case": label, "seconds": seconds})
        command = ("-m", "dncx", "train", "repeat-copy", "--num_training_iterations=1", *flags)
        for which in ("first", "second"):
            start = time.perf_counter()
            measured(*command, f"--run_dir={caches}/{len(rows)}")
            seconds = time.perf_counter() - start
            label = f"dncx train until its first iteration, {which} start"
            rows.append({"case": label, "seconds": seconds})
    return Report("compile_time", "Seconds until the first step (size S)", rows)
