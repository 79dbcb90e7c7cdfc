"""Measuring a trained run on fresh episodes."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from flax import nnx

from dncx.training.runs import load_run
from dncx.training.settings import Eval
from dncx.training.step import EVALUATION, make_answer, stream


def evaluate(settings: Eval) -> dict[str, Any]:
    """Loss and scores of a run, averaged over fresh episodes, and one episode in print.

    Returns:
      "loss", the task's scores by name, "num_episodes", the "task" settings and a "sample".

    Raises:
      UsageError: there is no such run, or it cannot be measured so.
    """
    settings.check()
    given = dataclasses.asdict(settings)
    changes = {
        name: given[name]
        for name in ("min_length", "max_length", "min_repeats", "max_repeats", "memory_size")
        if given[name] is not None
    }
    task, cell, config = load_run(settings.run_dir, **changes)
    graph, params = nnx.split(cell)
    batch_size = min(settings.batch_size, settings.num_episodes)
    batches = math.ceil(settings.num_episodes / batch_size)
    answer = make_answer(graph, task, batch_size)

    totals: dict[str, float] = {}
    sample = ""
    key = stream(settings.seed, EVALUATION)
    for number in range(batches):
        outputs, episode = answer(nnx.to_pure_dict(params), key, jnp.asarray(number))
        sample = sample or task.render(outputs, episode)
        for name, value in {
            "loss": task.loss(outputs, episode),
            **task.score(outputs, episode),
        }.items():
            totals[name] = totals.get(name, 0.0) + float(value) / batches
    return {
        **totals,
        "num_episodes": batches * batch_size,
        "task": config["task"],
        "memory_size": config["model"]["memory_size"],
        "sample": sample,
    }


def report(results: dict[str, Any]) -> str:
    """The results of `evaluate` for people."""
    task = dict(results["task"])
    name = task.pop("name")
    settings = ", ".join(f"{key} {value}" for key, value in task.items())
    return "\n".join(
        (
            f"{name}: {settings}; memory_size {results['memory_size']}",
            f"{results['num_episodes']} episodes",
            f"loss            {results['loss']:.4g} nats per sequence",
            f"bit error       {results['bit_error']:.4%}",
            f"sequence error  {results['sequence_error']:.2%} (sequences with any wrong bit)",
            results["sample"],
        )
    )
