"""One step at a time with batch 1, the state kept on the device; forward only."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.measure import Report, round_robin
from benchmarks.models import Size, make_cell
from dncx import DNC


def run(sizes: dict[str, Size], steps: int = 300) -> Report:
    """Microseconds a step."""
    rows = []
    for name, size in sizes.items():
        inputs = np.random.default_rng(0).normal(size=(steps, 1, size.inputs)).astype(np.float32)
        calls = {"dncx": _ours(make_cell(size), inputs), "PyTorch eager": _torch(size, inputs)}
        seconds = round_robin({k: v for k, v in calls.items() if v}, 1, 5)
        for call, time in seconds.items():
            row = {"size": name, "by": call, "us a step": 1e6 * time / steps}
            if "PyTorch eager" in seconds:
                row["times faster than PyTorch"] = seconds["PyTorch eager"] / time
            rows.append(row)
    return Report("streaming", "Stepping: batch 1, one call a step, forward only", rows)


def _ours(cell: DNC, inputs: np.ndarray) -> Callable[[], Any]:
    graph, state = nnx.split(cell)
    params = jax.device_put(nnx.to_pure_dict(state))

    @jax.jit
    def step(params, carry, x):
        return nnx.merge(graph, params)(carry, x)

    start = cell.initialize_carry(inputs.shape[1:])

    def call() -> Any:
        carry = start
        for x in inputs:
            carry, y = step(params, carry, x)
            y.block_until_ready()
        return y

    return call


def _torch(size: Size, inputs: np.ndarray) -> Callable[[], Any] | None:
    try:
        import torch

        from benchmarks.pytorch_dnc import PyTorchDNC
    except ImportError:
        return None
    model, xs = PyTorchDNC(make_cell(size, "plain")), torch.from_numpy(inputs)

    def call() -> Any:
        with torch.inference_mode():
            state = model.start(1)
            for x in xs:
                y, state = model.step(x, state)
        return y.numpy()

    return call
