"""Forward and backward pass of a batch: every implementation, compared with eager PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.measure import Report, rates, round_robin
from benchmarks.models import Size, make_cell, make_gradient, make_inputs, operations
from dncx.kernels.choice import Implementation

IMPLEMENTATIONS: tuple[Implementation, ...] = ("plain", "xla", "native")


def run(sizes: dict[str, Size], rounds: int = 3, turn: float = 1.0) -> Report:
    """Milliseconds, absolute and relative to PyTorch."""
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
        seconds = round_robin(calls, rounds, turn)
        for call, time in seconds.items():
            row = {"size": name, "implementation": call, "ms": 1e3 * time}
            if eager:
                row["relative to PyTorch"] = time / seconds["PyTorch eager"]
            rows.append(row)
    found = rates()
    notes = [
        f"rate in this run: product of two 1024 x 1024 matrices {found['GFLOP/s']:.0f} GFLOP/s, "
        f"copy of 128 MiB {found['GB/s']:.0f} GB/s"
    ]
    for name, size in sizes.items():
        needed = operations(size) / found["GFLOP/s"] / 1e6
        notes.append(f"{name}: {operations(size) / 1e9:.3g} GFLOP, {needed:.3g} ms at that rate")
    return Report("step_time", "Forward and backward pass of a batch, float32", rows, notes)


def _torch_call(size: Size, inputs: jax.Array, ours: Callable[[], Any]) -> Callable[[], Any] | None:
    """The same in PyTorch, after a check that the results agree; None if it is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]

        from benchmarks.pytorch_dnc import pytorch_dnc
    except ImportError:
        return None
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    model = pytorch_dnc(size, make_cell(size, "plain")).to(device)
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
    mine = np.asarray(gradient["access"]["interface_linear"]["kernel"])
    grad = model.interface_linear.weight.grad
    assert grad is not None
    difference = np.abs(mine - grad.T.cpu().numpy()).max()
    if not difference <= 1e-3 * np.abs(mine).max():
        raise RuntimeError(f"PyTorch's gradient differs by {difference}")
    return call
