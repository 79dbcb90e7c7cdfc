"""The effect of a bfloat16 controller: deviation from the original's numbers, and time."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.measure import Report, round_robin
from benchmarks.models import Size, make_gradient, make_inputs
from dncx import DNC, DNCConfig, unroll
from dncx.config import ControllerDtype
from dncx.controllers import dot_general_in
from dncx.interop.deepmind import from_variables, to_variables

GOLDENS = Path(__file__).parent.parent / "tests" / "goldens"
MODELS = ("a_default", "b_multiwrite", "d_tiny")
DTYPES: tuple[ControllerDtype, ...] = (None, "bfloat16")


class ByStep(DNC):
    """A DNC that the kernel for whole sequences does not recognise, so it runs step by step."""


def goldens(models: Iterable[str] = MODELS) -> Report:
    """Differences from google-deepmind/dnc's own numbers, computed in float64."""
    rows = [{"model": name, **_differences(name, dtype)} for name in models for dtype in DTYPES]
    notes = [
        "outputs, gradients: largest difference divided by the largest value",
        "norm of gradients: norm of all differences divided by the norm of all gradients",
    ]
    return Report("controller_goldens", "The golden models compared with the original", rows, notes)


def _differences(name: str, dtype: ControllerDtype) -> dict[str, Any]:
    config = json.loads((GOLDENS / f"{name}.json").read_text())["config"]
    with np.load(GOLDENS / f"{name}.npz") as file:
        arrays = dict(file)
    names = [key.removeprefix("var/") for key in arrays if key.startswith("var/")]
    cell = from_variables(
        {key: arrays[f"var/{key}"].astype(np.float32) for key in names},
        memory_size=config["memory_size"],
        word_size=config["word_size"],
        num_read_heads=config["num_reads"],
        num_write_heads=config["num_writes"],
        clip_value=config["clip_value"],
    )
    cell.controller.gates.dot_general = dot_general_in(dtype, jnp.float32)
    graph, params = nnx.split(cell)

    def loss(params: Any, inputs: jax.Array) -> Any:
        outputs, _ = unroll(nnx.merge(graph, params), inputs, time_major=True)
        return jnp.sum(outputs * jnp.asarray(arrays["proj"], jnp.float32)), outputs

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (by_params, by_inputs), outputs = gradient(params, jnp.asarray(arrays["inputs"], jnp.float32))
    found = {f"var/{k}": v for k, v in to_variables(nnx.merge(graph, by_params)).items()}
    found["inputs"] = np.asarray(by_inputs)
    expected = {key: arrays[f"grad/{key}"] for key in found}
    errors = {key: value.astype(np.float64) - expected[key] for key, value in found.items()}
    output_error = np.asarray(outputs, np.float64) - arrays["outputs"]
    return {
        "controller": dtype or "float32",
        "outputs": _largest([output_error]) / _largest([arrays["outputs"]]),
        "gradients": _largest(errors.values()) / _largest(expected.values()),
        "norm of gradients": _norm(errors.values()) / _norm(expected.values()),
    }


def _largest(arrays: Iterable[np.ndarray]) -> float:
    return max(float(np.abs(array).max()) for array in arrays)


def _norm(arrays: Iterable[np.ndarray]) -> float:
    return sum(float((array**2).sum()) for array in arrays) ** 0.5


def times(sizes: dict[str, Size], rounds: int = 5, turn: float = 1.0) -> Report:
    """Forward and backward pass of a batch with both dtypes, measured in turns."""
    rows = []
    for name, size in sizes.items():
        config = partial(
            DNCConfig,
            memory_size=size.slots,
            word_size=size.word,
            num_read_heads=size.reads,
            hidden_size=size.hidden,
        )
        cells = {
            "float32, native, whole sequences": (DNC, None, None),
            "float32, native, step by step": (ByStep, None, None),
            "bfloat16, native, step by step": (DNC, None, "bfloat16"),
            "float32, xla": (DNC, "xla", None),
            "bfloat16, xla": (DNC, "xla", "bfloat16"),
        }
        inputs, calls, mebibytes = make_inputs(size), {}, {}
        for label, (kind, implementation, dtype) in cells.items():
            cell = kind(
                size.inputs,
                size.outputs,
                config(controller_dtype=dtype),
                implementation=implementation,
                rngs=nnx.Rngs(0),
            )
            gradient, params = make_gradient(cell)
            compiled = gradient.lower(params, inputs).compile()  # type: ignore[attr-defined]
            mebibytes[label] = compiled.memory_analysis().temp_size_in_bytes / 2**20
            calls[label] = partial(compiled, params, inputs)
        seconds = round_robin(calls, rounds, turn)
        rows += [
            {"size": name, "controller": k, "ms": 1e3 * s, "temporary MiB": mebibytes[k]}
            for k, s in seconds.items()
        ]
    return Report("controller_dtype", "Forward and backward pass of a batch", rows)
