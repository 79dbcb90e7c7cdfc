"""`dncx explore`: the page, the trace and the figures of a run."""

import functools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.explore.archive import load, save
from dncx.explore.record import Trace
from dncx.explore.tracing import trace_run
from dncx.explore.webpage import page
from dncx.runs.directory import task_of
from dncx.runs.files import check_folder, free_path
from dncx.runs.metrics import losses, read_metrics
from dncx.runs.paths import CONFIG, METRICS, find_run
from dncx.runs.trained import find_trained
from dncx.settings.commands import ExploreSettings
from dncx.settings.training import fields_of
from dncx.tasks.registry import TASKS

FILES = ("memory.html", "trace.npz", "compared.npz")


def explore(settings: ExploreSettings[Any]) -> Iterator[str]:
    """Writes memory.html, trace.npz and figures/, and yields a line of text for each.

    Raises:
      UsageError: if there is no such run, or files would be overwritten; nothing is written then.
    """
    settings.check()
    out = _folder(settings)
    if settings.compare and settings.compare.suffix != ".npz":
        find_trained(find_run(settings.compare))  # before the first trace, which takes seconds
    traces = {"trace.npz": _trace(settings.run_dir, settings, fields_of(settings.task))}
    trace, compared = traces["trace.npz"], None
    if settings.compare:
        compared = traces["compared.npz"] = _compared(settings.compare, settings, trace)
    for one in traces.values():
        yield _about(one)
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES if settings.force else ():
        (out / name).unlink(missing_ok=True)
    file = page(trace, out / "memory.html", compared=compared, force=settings.force)
    yield f"the explorer page, for a browser: {file.resolve()}"
    for name, one in traces.items():
        yield f"all its numbers: {save(one, out / name, force=settings.force)}"
    if settings.figures:
        yield _draw(trace, settings.run_dir / METRICS, out / "figures")


def _folder(settings: ExploreSettings[Any]) -> Path:
    """The folder for the files, checked."""
    run, out = settings.run_dir, settings.out
    if out is None:
        place = run if (run / CONFIG).exists() else Path("explore")
        name = "explore" if place == run else run.stem
        out = place / name if settings.force else free_path(place / name)
    check_folder(out, "out")
    for name in (*FILES, "figures"):
        if (out / name).exists() and (out / name).is_dir() != (name == "figures"):
            kind = "a file" if name == "figures" else "a folder"
            raise UsageError(f"--out: {out / name} is {kind}; remove it, or use another --out")
    if out.is_dir() and any(out.iterdir()) and not settings.force:
        raise UsageError(
            f"--out: {out} is not empty; --force replaces the files of an earlier call, "
            "--out=OTHER writes elsewhere"
        )
    return out


def _trace(run: Path, settings: ExploreSettings[Any], changes: dict[str, Any]) -> Trace:
    """A trace of a run, or the trace in a file."""
    if run.suffix != ".npz":
        return trace_run(
            run,
            num_episodes=settings.num_episodes,
            seed=settings.seed,
            checkpoint=settings.checkpoint,
            network=settings.network,
            memory_size=settings.memory_size,
            **changes,
        )
    for name in ("num_episodes", "seed", "memory_size", "checkpoint", "network"):
        if getattr(settings, name) != getattr(ExploreSettings, name):
            raise UsageError(f"--{name}: needs a run; {run} contains a fixed set of episodes")
    return load(run)


def _compared(run: Path, settings: ExploreSettings[Any], first: Trace) -> Trace:
    """The other trace, on the same episodes if its task is the same."""
    if run.suffix == ".npz":
        return load(run)
    seed, task = first.about.get("seed"), first.about.get("task", {})
    seed = seed if isinstance(seed, int) else settings.seed
    found = find_trained(find_run(run))
    name = found.summary.task.name
    changes = {}
    if name == task.get("name") and name in TASKS:
        traced = {field: value for field, value in task.items() if field != "name"}
        changes = fields_of(task_of(run, name, traced))
    custom = found.summary.network.kind == "custom"  # of the same function as the first run
    network = settings.network if custom else None
    return trace_run(run, num_episodes=len(first), seed=seed, network=network, **changes)


def _about(trace: Trace) -> str:
    """A line on a trace, and notes on the parts that it leaves out."""
    steps = ", ".join(str(episode.num_steps) for episode in trace.episodes)
    line = f"{trace.title}: {trace[0].num_slots} slots; episodes of {steps} steps"
    scores = ", ".join(f"{name.replace('_', ' ')} {x:.2%}" for name, x in trace[0].scores.items())
    if scores:
        line += f"; first episode: {scores}"
    return "\n  ".join([line, *trace.notes])


def _draw(trace: Trace, metrics: Path, folder: Path) -> str:
    """Writes the figures of the first episode, and the learning curve if there are metrics."""
    if find_spec("matplotlib") is None:
        return 'no figures: they need matplotlib, pip install "dncx[plots]"'
    from dncx.explore import plots

    episode, task = trace[0], trace.about.get("task", {})
    draw = [plots.overview, plots.memory, plots.weightings, plots.usage, plots.gates]
    draw += [plots.link] if episode.link is not None else []
    draw += [plots.answer_origins] if task.get("name") == "babi" else []
    draw += [plots.traversal] if task.get("name") == "traversal" else []
    draw += [plots.boards] if task.get("name") == "mini-shrdlu" else []
    several = task.get("num_sequences")
    draw += [plots.memory_reuse] if isinstance(several, int) and several > 1 else []
    figures: dict[str, Callable[[], Any]] = {
        function.__name__: functools.partial(function, episode) for function in draw
    }
    if metrics.exists() and losses(read_metrics(metrics)):
        figures["learning_curves"] = lambda: plots.learning_curves({"": [metrics.parent]})
    folder.mkdir(exist_ok=True)
    drawn, failed = [], ""
    for name, figure in figures.items():
        try:
            plots.save(figure(), folder / name)
            drawn.append(name)
        except UsageError as error:  # the episode has no data for this figure
            failed += f"\n  no {name}: {error}"
    return f"figures of the first episode ({', '.join(drawn)}): {folder}{failed}"
