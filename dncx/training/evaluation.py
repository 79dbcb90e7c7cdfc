"""Measuring a trained run on fresh episodes, at one setting or at several."""

import itertools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.errors import UsageError
from dncx.networks.build import too_small
from dncx.runs.config import fields_of
from dncx.runs.directory import load_run
from dncx.runs.files import write_whole
from dncx.runs.state import EVALUATION, stream
from dncx.settings.commands import EvalSettings
from dncx.tasks.base import Examined
from dncx.training.scoring import data_of, make_answer, make_examination, make_measure


def evaluate(settings: EvalSettings[Any]) -> list[dict[str, Any]]:
    """Loss and scores of a run, averaged over fresh episodes, for every point of the sweeps.

    Returns:
      A dictionary a point: "swept" (what was set, by name), "loss" and "loss_unit", the task's
      "scores" by name, "num_episodes" (whole batches), the "task" settings, "memory_size", a
      "warning" where that is too small (or "") and a "sample" of one episode in print; of an
      `Examined` task its "results" on the test set and their "report". Without a sweep there is
      one point.

    Raises:
      UsageError: there is no such run, or it cannot be measured so.
    """
    settings.check()
    names = [text.partition("=")[0] for text in settings.sweep]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--sweep {name}: given twice; all values go into one, {name}=1,2,3")
    points = itertools.product(*(_values(text, settings) for text in settings.sweep))
    results = [_measure(settings, dict(point)) for point in points]
    if settings.out:
        write_whole(settings.out, (json.dumps(results, indent=2, default=str) + "\n").encode())
    return results


def _values(text: str, settings: EvalSettings[Any]) -> list[tuple[str, Any]]:
    """The points of "name=1,2,3": the name with each value."""
    name, equals, values = text.partition("=")
    known = {"memory_size": settings.memory_size} | fields_of(settings.task)
    known = {key: value for key, value in known.items() if type(value) in (int, float, str)}
    like = known.get(name, known.get(f"min_{name}"))
    try:
        if equals and like is not None:
            return [(name, type(like)(value)) for value in values.split(",")]
    except ValueError:
        pass
    names = sorted({key.removeprefix("min_") for key in known if not key.startswith("max_")})
    raise UsageError(f"--sweep {text}: must be NAME=VALUE,VALUE,... with one of {', '.join(names)}")


def _measure(settings: EvalSettings[Any], swept: dict[str, Any]) -> dict[str, Any]:
    changes = {"memory_size": settings.memory_size} | fields_of(settings.task)
    for name, value in swept.items():
        names = [name] if name in changes else [f"min_{name}", f"max_{name}"]
        changes |= dict.fromkeys(names, value)
    task, cell, config = load_run(settings.run_dir, **changes)
    graph, params = nnx.split(cell)
    params, key = nnx.to_pure_dict(params), stream(settings.seed, EVALUATION)
    batch_size = min(settings.batch_size, settings.num_episodes)
    batches = math.ceil(settings.num_episodes / batch_size)
    measure = make_measure(graph, task, batch_size)
    model = config["model"]
    memory_size = None if model["name"] == "lstm" else model["memory_size"]
    result = {"swept": swept, "task": config["task"], "memory_size": memory_size}
    result["warning"] = too_small(model, task)
    if isinstance(task, Examined):
        results = make_examination(graph, task, settings.batch_size)(params, "test")
        scores = {"mean_error": results["mean_error"] / 100}
        return result | {"scores": scores, "results": results, "report": task.report(results)}
    data = data_of(task)
    measured = [measure(params, key, jnp.asarray(number), data) for number in range(batches)]
    means = jax.tree.map(lambda *values: float(sum(values)) / batches, *measured)
    answer = make_answer(graph, task, 1)
    return result | {
        "loss": means.pop("loss"),
        "loss_unit": task.loss_unit,
        "scores": means,
        "num_episodes": batches * batch_size,
        "sample": task.render(*answer(params, key, jnp.asarray(0), data)),
    }


def report(results: list[dict[str, Any]]) -> str:
    """The results of `evaluate` for people."""
    if results[0]["swept"]:
        return _table(results)
    (result,) = results
    if "report" in result:
        return result["report"]
    task = dict(result["task"])
    name = task.pop("name")
    settings = ", ".join(f"{key} {value}" for key, value in task.items())
    lines = [
        f"{name}: {settings}; memory_size {result['memory_size'] or '- (an LSTM has none)'}",
        f"{result['num_episodes']} episodes",
        f"{'loss':15} {result['loss']:.4g} {result['loss_unit']}",
    ]
    lines += [f"{n.replace('_', ' '):15} {value:.4%}" for n, value in result["scores"].items()]
    warnings = [result["warning"]] if result["warning"] else []
    return "\n".join([*warnings, *lines, result["sample"]])


def _table(results: list[dict[str, Any]]) -> str:
    """A line a point, in columns."""
    swept, scores = results[0]["swept"], results[0]["scores"]
    losses = "loss" in results[0]
    loss = [f"loss ({results[0]['loss_unit']})"] if losses else []
    rows = [[*(name.replace("_", " ") for name in [*swept, *scores]), *loss]]
    rows += [
        [
            *map(str, result["swept"].values()),
            *(f"{value:.3%}" for value in result["scores"].values()),
            *([f"{result['loss']:.4g}"] if losses else []),
        ]
        for result in results
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{v:>{w}}" for v, w in zip(row, widths, strict=True)) for row in rows]
    episodes = f"{results[0]['num_episodes']} episodes" if losses else "the whole test set"
    return "\n".join([f"{episodes} a line", *lines])
