"""Checks that long runs stay finite: 100,000 updates, and sequences of 5,000 and 100,000 steps.

    python docs/results/long_runs.py

Writes long_runs.json to the folder of this script. Trains in a temporary folder; takes about five
minutes on two cores.
"""

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.parts import cell_of
from dncx.runs.directory import load_run
from dncx.runs.metrics import losses, read_metrics
from dncx.settings.presets import DEFAULTS
from dncx.training.loop import train

STEPS, CHUNK = 100_000, 1_000


def trained(task: str, case: str, sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Trains and summarises all reports."""
    settings = DEFAULTS[task]
    for section, changes in sections.items():
        changed = dataclasses.replace(getattr(settings, section), **changes)
        settings = dataclasses.replace(settings, **{section: changed})
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(settings.run, run_dir=Path(folder) / "run", report_interval=10)
        began = time.perf_counter()
        lines = read_metrics(train(dataclasses.replace(settings, run=run)) / "metrics.jsonl")
    loss = losses(lines)
    return {
        "case": case,
        "updates": lines[-1]["iteration"],
        "non-finite updates, skipped": sum(line["skipped"] for line in lines),
        "largest gradient norm": max(line["grad_norm_max"] for line in lines),
        "first loss": next(iter(loss.values())),
        "last loss": loss[max(loss)],
        "seconds": round(time.perf_counter() - began),
    }


def stepped(case: str, cell: DNC, seed: int) -> dict[str, Any]:
    """Runs over one long sequence of random inputs and checks the state after each chunk."""
    run = jax.jit(lambda cell, inputs, state: unroll(cell, inputs, initial_state=state))
    state = cell.initialize_carry((cell.input_size,))
    largest, out_of_range, began = 0.0, 0, time.time()
    for chunk in range(STEPS // CHUNK):
        key = jax.random.fold_in(jax.random.key(seed), chunk)
        bits = jax.random.bernoulli(key, 0.5, (CHUNK, cell.input_size)).astype(cell.dtype)
        outputs, state = run(cell, bits, state)
        access = jax.tree.map(np.asarray, state.access_state)
        finite = all(np.isfinite(x).all() for x in [outputs, *jax.tree.leaves(state)])
        weights = [access.usage, access.linkage.link, access.read_weights, access.write_weights]
        sums = [access.linkage.link.sum(axis) for axis in (-1, -2)]
        sums += [x.sum(-1) for x in (access.read_weights, access.write_weights)]
        in_range = all((x >= 0).all() and (x <= 1 + 1e-5).all() for x in [*weights, *sums])
        out_of_range += not (finite and in_range)
        largest = max(largest, float(np.abs(access.memory).max()))
    return {
        "case": case,
        "steps": STEPS,
        "states out of range": out_of_range,
        "largest number in the memory": largest,
        "seconds": round(time.time() - began),
    }


def main() -> None:
    """Runs all cases, writes their results and prints them."""
    long = {"task": {"min_length": 2500, "max_length": 2500}}
    few = {"run": {"batch_size": 4, "num_training_iterations": 200}}
    rows = [
        trained("repeat-copy", "repeat copy at its defaults", {"run": {"seed": 1}}),
        trained("copy", "copy, 5,001 steps", long | few),
        trained(
            "copy",
            "copy, 5,001 steps, the paper's equations",
            long | few | {"model": {"equations": "nature"}},
        ),
    ]
    for name in ("associative-recall", "memory-reuse", "traversal"):
        cell = cell_of(load_run(name)[1])
        rows.append(stepped(f"{name} (trained)", cell, 0))
    for preset in ("deepmind", "nature"):
        config = getattr(DNCConfig, preset)(memory_size=128, word_size=32, hidden_size=128)
        rows.append(stepped(f"{preset}, fresh weights", DNC(10, 8, config, rngs=nnx.Rngs(0)), 1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
