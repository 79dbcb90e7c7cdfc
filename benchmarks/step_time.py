"""Forward and backward of a batch: every implementation beside eager PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.measure import Report, round_robin
from benchmarks.models import Size, make_cell, make_gradient, make_inputs
from dncx.kernels.choice import Implementation

IMPLEMENTATIONS: tuple[Implementation, ...] = ("plain", "xla", "native")


def run(sizes: dict[str, Size], rounds: int = 3) -> Report:
    """Milliseconds, and the share of PyTorch's."""
    rows = []
    for name, size in sizes.items():
        inputs = make_inputs(size)
        calls: dict[str, Callable[[], Any]] = {}
        for implementation in IMPLEMENTATIONS:
            if implementation == "native" and jax.default_backend() != "cpu":
                continue
            gradient, params = make_gradient(make_cell(size, implementation))
            calls[implementation] = partial(gradient, params, inputs)
        eager = _torch_call(size, inputs, calls["plain"])
        if eager:
            calls["PyTorch eager"] = eager
        runs = max(3, min(50, 20_000 // (size.time * size.slots)))
        seconds = round_robin(calls, runs, rounds)
        for call, time in seconds.items():
            row = {"size": name, "implementation": call, "ms": 1e3 * time}
            if eager:
                row["share of PyTorch"] = time / seconds["PyTorch eager"]
            rows.append(row)
    return Report("step_time", "Forward + backward of a batch, float32", rows)


def _torch_call(size: Size, inputs: jax.Array, ours: Callable[[], Any]) -> Callable[[], Any] | None:
    """The same in PyTorch, where it is installed; checked to compute the same."""
    try:
        import torch

        from benchmarks.pytorch_dnc import PyTorchDNC
    except ImportError:
        return None
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    model = PyTorchDNC(make_cell(size, "plain")).to(device)
    x = torch.from_numpy(np.array(inputs)).to(device)

    def call() -> Any:
        model.zero_grad()
        outputs, _ = model(x)
        loss = (outputs**2).sum()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.detach()

    loss, gradient = ours()
    np.testing.assert_allclose(float(call()), float(loss), rtol=1e-4)
    mine, theirs = gradient["access"]["interface_linear"]["kernel"], model.interface.weight.grad.T
    difference = np.abs(np.asarray(mine) - theirs.cpu().numpy()).max()
    assert difference <= 1e-3 * np.abs(np.asarray(mine)).max(), difference
    return call
