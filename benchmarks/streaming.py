"""Stepping: one step per call, forward only; the state stays on the device."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.measure import Report, round_robin
from benchmarks.models import Size, make_cell
from dncx import DNC, Stepper

# The benchmark waits for each step, so handing it to another thread only costs time. The setting
# has an effect only before JAX computes anything, hence the separate process.
SETTING = "jax_cpu_enable_async_dispatch"
ENVIRONMENTS = 8


def run(sizes: dict[str, Size], steps: int = 300) -> Report:
    """Microseconds per step."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.streaming", json.dumps(sizes), str(steps)],
        cwd=Path(__file__).parent.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    notes = [f"with {SETTING}=False"]
    title = "Stepping: batch size 1, one step per call, forward only"
    return Report("streaming", title, json.loads(child.stdout), notes)


def measure(sizes: dict[str, Size], steps: int) -> list[dict[str, Any]]:
    """The rows of the report."""
    rows = []
    for name, size in sizes.items():
        inputs = np.random.default_rng(0).normal(size=(steps, 1, size.inputs)).astype(np.float32)
        calls = {"dncx": _ours(make_cell(size), inputs)}
        calls |= _torch(size, inputs)
        seconds = round_robin(calls, 3, turn=0)
        several = np.repeat(inputs, ENVIRONMENTS, axis=1)
        ways = {"nnx.jit": _nnx_jit, "dncx.Stepper": _stepper}
        seconds |= round_robin(
            {
                f"{way}, {ENVIRONMENTS} environments": make(make_cell(size), several)
                for way, make in ways.items()
            },
            3,
            turn=0,
        )
        for call, time in seconds.items():
            row = {"size": name, "implementation": call, "us per step": 1e6 * time / steps}
            if "PyTorch eager" in seconds and "environments" not in call:
                row["speedup over PyTorch"] = seconds["PyTorch eager"] / time
            rows.append(row)
    return rows


def _ours(cell: DNC, inputs: np.ndarray) -> Callable[[], Any]:
    graph, state = nnx.split(cell)
    params = jax.device_put(nnx.to_pure_dict(state))

    @jax.jit
    def step(params: Any, carry: Any, x: jax.Array) -> Any:
        return nnx.merge(graph, params)(carry, x)

    return _calls(functools.partial(step, params), cell, inputs)


def _nnx_jit(cell: DNC, inputs: np.ndarray) -> Callable[[], Any]:
    step = nnx.jit(lambda cell, carry, x: cell(carry, x))
    return _calls(lambda carry, x: step(cell, carry, x), cell, inputs)


def _calls(step: Callable[..., Any], cell: DNC, inputs: np.ndarray) -> Callable[[], Any]:
    """Steps from the initial state; each output is waited for."""
    start = cell.initialize_carry(inputs.shape[1:])

    def call() -> Any:
        carry, outputs = start, []
        for x in inputs:
            carry, y = step(carry, x)
            outputs.append(np.asarray(y))
        return outputs

    return call


def _stepper(cell: DNC, inputs: np.ndarray) -> Callable[[], Any]:
    step = Stepper(cell, inputs.shape[1:2])

    def call() -> Any:
        step.reset()
        return [np.asarray(step(x)) for x in inputs]

    return call


def _torch(size: Size, inputs: np.ndarray) -> dict[str, Callable[[], Any]]:
    try:
        import torch  # pyright: ignore[reportMissingImports]

        from benchmarks.pytorch_dnc import pytorch_dnc
    except ImportError:
        return {}
    model, xs = pytorch_dnc(size, make_cell(size, "plain")), torch.from_numpy(inputs)

    def call() -> Any:
        outputs = []
        with torch.inference_mode():
            state = model.initial_state(1)
            for x in xs:
                y, state = model.step(x, state)
                outputs.append(y.numpy())
        return outputs

    return {"PyTorch eager": call}


if __name__ == "__main__":
    jax.config.update(SETTING, False)
    asked = {name: Size(*size) for name, size in json.loads(sys.argv[1]).items()}
    print(json.dumps(measure(asked, int(sys.argv[2]))))
