"""Measuring a trained model on fresh episodes, at one setting or at several."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.errors import UsageError, did_you_mean, quoted
from dncx.networks.build import small_memory_warning
from dncx.runs.codec import to_json
from dncx.runs.directory import TrainedRun, flat, load_trained
from dncx.runs.files import check_new_file, write_whole
from dncx.runs.hub import is_on_hub
from dncx.runs.paths import find_run
from dncx.runs.state import EVALUATION, stream
from dncx.runs.trained import TrainedModel, find_trained
from dncx.runs.weights import weights_digest
from dncx.settings.commands import EvalSettings
from dncx.settings.flags import Flag, flags_of
from dncx.settings.training import fields_of
from dncx.tasks.base import HasEvalSplits, ListsWrongAnswers
from dncx.text import table
from dncx.training.batches import data_of
from dncx.training.scoring import (
    make_answer,
    make_measure,
    make_split_evaluator,
    wrong_answers,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """The scores of a model at one setting.

    Attributes:
      swept: the options of the sweep and their values here.
      task: its name and its settings.
      memory_size: slots; None for a network without a memory.
      scores: error rates by name, between 0 (perfect) and 1.
      loss: mean over all batches; None on a test set.
      loss_unit: the unit of the loss.
      num_episodes: number of measured episodes, in complete batches; None on a test set.
      warning: a warning if the memory is too small for the task, else "".
      sample: one episode as text, or "".
      results: see `HasEvalSplits.results`; None for a task without a test set.
      report: see `HasEvalSplits.report`, or "".
      wrong_answers: texts of `ListsWrongAnswers.wrong_answers`; empty unless requested.
      weights: `weights_digest` of the measured model, so that a model card cannot quote the scores
        of another one.
    """

    swept: dict[str, Any]
    task: dict[str, Any]
    memory_size: int | None
    scores: dict[str, float]
    loss: float | None = None
    loss_unit: str = ""
    num_episodes: int | None = None
    warning: str = ""
    sample: str = ""
    results: dict[str, Any] | None = None
    report: str = ""
    wrong_answers: tuple[str, ...] = ()
    weights: str = ""


def evaluate(settings: EvalSettings[Any]) -> list[Measurement]:
    """Scores of a trained model: one measurement, or one per point of the sweeps.

    Raises:
      UsageError: if there is no such run, or it cannot be measured with these settings.
    """
    settings.check()
    if settings.out:
        check_new_file(settings.out, "out")
    names = [text.partition("=")[0] for text in settings.sweep]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--sweep {name}: given twice; join all values, as in {name}=1,2,3")
    # All points measure the same model, even during training.
    model = find_trained(find_run(settings.run_dir), settings.checkpoint)
    points = itertools.product(*(_values(text, settings) for text in settings.sweep))
    results = [_measure(model, settings, dict(point)) for point in points]
    if settings.out:
        write_whole(settings.out, to_json(results))
    return results


def _values(text: str, settings: EvalSettings[Any]) -> list[tuple[str, Any]]:
    """The points of "name=1,2,3": the name with each value."""
    name, equals, values = text.partition("=")
    flags = {flag.name: flag for flag in flags_of(settings) if _can_be_swept(flag)}
    flag = flags.get(name, flags.get(f"min_{name}"))
    names = sorted({key.removeprefix("min_") for key in flags if not key.startswith("max_")})
    start = f"--sweep={quoted(text)}: must be NAME=VALUE,VALUE,..."
    if not flag or not equals:
        hint = did_you_mean(name, names) if not flag else ""
        raise UsageError(f"{start} with one of {', '.join(names)}{hint}")
    try:
        return [(name, flag.read([value])) for value in values.split(",")]
    except UsageError as error:
        raise UsageError(f"{start}; {error}") from error


def _can_be_swept(flag: Flag) -> bool:
    """Whether an option can be swept: the memory size, or a number, word or choice of the task."""
    is_single = flag.kind in (int, float, str) or bool(flag.choices)
    return is_single and (flag.section == "task" or flag.name == "memory_size")


def _measure(
    model: TrainedModel, settings: EvalSettings[Any], swept: dict[str, Any]
) -> Measurement:
    changes = fields_of(settings.task)
    if settings.memory_size is not None:
        changes["memory_size"] = settings.memory_size
    for name, value in swept.items():
        bounds = [f"min_{name}", f"max_{name}"]
        names = [name] if name in changes or name == "memory_size" else bounds
        changes |= dict.fromkeys(names, value)
    run = load_trained(
        model, settings.network, elsewhere=is_on_hub(settings.run_dir), changes=changes
    )
    measured = Measurement(
        swept=swept,
        task={"name": run.config.task.name, **run.config.task.settings},
        memory_size=run.config.network.memory_size,
        scores={},
        warning=small_memory_warning(run.config.network, run.task),
        weights=weights_digest(flat(nnx.to_pure_dict(nnx.split(run.network)[1]))),
    )
    if isinstance(run.task, HasEvalSplits):
        return _on_test_set(measured, run, settings)
    return _on_fresh_episodes(measured, run, settings)


def _on_test_set(
    measured: Measurement, run: TrainedRun, settings: EvalSettings[Any]
) -> Measurement:
    graph, state = nnx.split(run.network)
    params, size = nnx.to_pure_dict(state), settings.batch_size
    results = make_split_evaluator(graph, run.task, size)(params, "test")
    wrong: list[str] = []
    if settings.show_errors and isinstance(run.task, ListsWrongAnswers):
        wrong = wrong_answers(graph, params, run.task, size, settings.show_errors)
    return dataclasses.replace(
        measured,
        scores={"mean_error": results["mean_error"] / 100},
        results=results,
        report=run.task.report(results),
        wrong_answers=tuple(wrong),
    )


def _on_fresh_episodes(
    measured: Measurement, run: TrainedRun, settings: EvalSettings[Any]
) -> Measurement:
    graph, state = nnx.split(run.network)
    params, key = nnx.to_pure_dict(state), stream(settings.seed, EVALUATION)
    batch_size = min(settings.batch_size, settings.num_episodes)
    batches = math.ceil(settings.num_episodes / batch_size)
    measure = make_measure(graph, run.task, batch_size)
    data = data_of(run.task)
    scores = [measure(params, key, jnp.asarray(number), data) for number in range(batches)]
    means = jax.tree.map(lambda *values: float(sum(values)) / batches, *scores)
    answer = make_answer(graph, run.task, 1)
    return dataclasses.replace(
        measured,
        loss=means.pop("loss"),
        loss_unit=run.task.loss_unit,
        scores=means,
        num_episodes=batches * batch_size,
        sample=run.task.render(*answer(params, key, jnp.asarray(0), data)),
    )


def report(results: Sequence[Measurement]) -> str:
    """The results of `evaluate` for people."""
    if results[0].swept:
        return _table(results)
    (result,) = results
    if result.report:
        return "\n\n".join([result.report, *result.wrong_answers])
    task = dict(result.task)
    name = task.pop("name")
    settings = ", ".join(f"{key} {value}" for key, value in task.items())
    memory = "no memory" if result.memory_size is None else f"memory_size {result.memory_size}"
    lines = [result.warning] if result.warning else []
    lines += [f"{name}: {settings}; {memory}", f"{result.num_episodes} episodes"]
    lines += [f"{'loss':15} {result.loss:.4g} {result.loss_unit}"]
    lines += [f"{n.replace('_', ' '):15} {value:.4%}" for n, value in result.scores.items()]
    return "\n".join([*lines, result.sample])


def _table(results: Sequence[Measurement]) -> str:
    """One line per point, in columns."""
    first = results[0]
    header = [name.replace("_", " ") for name in [*first.swept, *first.scores]]
    header += [f"loss ({first.loss_unit})"] if first.loss is not None else []
    rows = []
    for result in results:
        row = [*map(str, result.swept.values())]
        row += [f"{value:.3%}" for value in result.scores.values()]
        row += [f"{result.loss:.4g}"] if result.loss is not None else []
        rows.append(row)
    episodes = f"{first.num_episodes} episodes" if first.num_episodes else "the complete test set"
    return "\n".join([f"{episodes} per line", table(header, rows)])
