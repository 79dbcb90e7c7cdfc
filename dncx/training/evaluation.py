"""Measuring a trained run on fresh episodes."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from dncx.tasks.base import Episode
from dncx.training.runs import load_run
from dncx.training.settings import Eval
from dncx.training.step import EVALUATION, make_answer, stream


def evaluate(settings: Eval) -> dict[str, Any]:
    """Loss and scores of a run, averaged over fresh episodes, and one episode in print.

    Returns:
      "loss" and "loss_unit", the task's "scores" by name, "num_episodes" (whole batches), the
      "task" settings, "memory_size" and a "sample".

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

    @jax.jit
    def measure(outputs: Array, episode: Episode) -> tuple[Array, dict[str, Array]]:
        return task.loss(outputs, episode), task.score(outputs, episode)

    params, key = nnx.to_pure_dict(params), stream(settings.seed, EVALUATION)
    sample, measured = "", []
    for number in range(batches):
        outputs, episode = answer(params, key, jnp.asarray(number))
        sample = sample or task.render(outputs, episode)
        measured.append(measure(outputs, episode))
    loss, scores = jax.tree.map(lambda *values: float(sum(values)) / batches, *measured)
    return {
        "loss": loss,
        "loss_unit": task.loss_unit,
        "scores": scores,
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
    lines = [
        f"{name}: {settings}; memory_size {results['memory_size']}",
        f"{results['num_episodes']} episodes",
        f"{'loss':15} {results['loss']:.4g} {results['loss_unit']}",
    ]
    lines += [f"{n.replace('_', ' '):15} {value:.4%}" for n, value in results["scores"].items()]
    return "\n".join([*lines, results["sample"]])
