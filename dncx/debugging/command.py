"""Replays the non-finite update at which a run stopped."""

import bisect
import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dncx.debugging.replay import find_origin
from dncx.errors import UsageError
from dncx.networks.build import make_network
from dncx.runs import checkpoints
from dncx.runs.codec import to_plain
from dncx.runs.directory import task_of, with_source
from dncx.runs.manifest import NonFinite
from dncx.runs.paths import CONFIG, FAILURE
from dncx.runs.state import DATA, TrainState, stream
from dncx.runs.trained import check_exists, why_no_run
from dncx.settings.commands import DebugSettings
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.base import Episode
from dncx.tasks.curriculum import lesson_of
from dncx.training.batches import (
    batch_key,
    data_of,
    drawn_bucket,
    keys_for,
    part_keys,
    sources,
)
from dncx.training.failure import seen_of
from dncx.training.gradient import loss_and_gradient, respond
from dncx.training.setup import first_state, restore, update_config
from dncx.training.update import Attempt, UpdateConfig, attempt, batch_gradient

_SMALLER = "a smaller --learning_rate or --max_grad_norm, if numbers grew before"


class Part(NamedTuple):
    """A part of a batch that is drawn separately."""

    task: Any  # its source
    episode: Episode
    key: jax.Array


class Case(NamedTuple):
    """A non-finite update, and the state before it."""

    path: Path
    seen: NonFinite  # the numbers when the run stopped
    state: TrainState
    update: UpdateConfig  # for one part; the devices of the run are left out
    plain: nnx.GraphDef  # the network in the plain implementation
    parts: tuple[Part, ...]  # of the batch

    def named_parts(self) -> list[tuple[str, Part]]:
        """The parts, with their names for messages."""
        if len(self.parts) == 1:
            return [("batch", self.parts[0])]
        return [(f"part {number} of the batch", part) for number, part in enumerate(self.parts)]


def debug(settings: DebugSettings) -> str:
    """Replays the update at which a run stopped, and names the operation that went wrong first.

    Raises:
      UsageError: if there is no such run, or it has no update to replay.
    """
    case = _load_case(settings.run_dir, settings.network)
    again = _replayed(case)
    seen = (to_plain(norms) for norms in (case.seen, seen_of(again.norms())))
    before, now = ([float(x) for x in jax.tree.leaves(norms)] for norms in seen)
    same = np.allclose(before, now, rtol=1e-3, equal_nan=True)  # except for rounding
    finding, advice = _finding(case, again)
    return "\n".join(
        [
            f"{case.path}: the update of iteration {int(case.state.iteration) + 1}, replayed",
            f"  loss {float(again.loss):.4g}, {'' if same else 'NOT '}as when the run stopped",
            *(f"  {name}: {_about(part.episode)}" for name, part in case.named_parts()),
            f"  parameters: {_about(case.state.params)}",
            f"  gradients: {_about(again.gradient)}",
            f"\n{finding}\n\nTry: {advice}.",
        ]
    )


def _load_case(run_dir: Path, network: str | None) -> Case:
    """The checkpoint that a run wrote when it stopped, and the batch of the update."""
    checkpoint, _ = checkpoints.newest_intact((run_dir / FAILURE).resolve())
    if checkpoint is None or checkpoint.manifest.failure is None:
        seeds = sorted(run_dir.glob(f"seed-*/{FAILURE}"))
        hint = f"; name one of its networks, such as {seeds[0].parent}" if seeds else ""
        check_exists(run_dir)
        if not (seeds or (run_dir / CONFIG).is_file()):
            raise UsageError(why_no_run(run_dir))
        raise UsageError(
            f"there is no {run_dir / FAILURE}; a run writes it when --max_skipped_updates stops "
            f"it{hint}"
        )
    config, seen = checkpoint.manifest.config, checkpoint.manifest.failure
    config = dataclasses.replace(config, network=with_source(config.network, network, run_dir))
    task = task_of(run_dir, config.task.name, config.task.settings)
    if is_environment(task):
        raise UsageError(
            f"{run_dir} is a run of {config.task.name}, an environment: debug repeats updates from "
            "targets only"
        )
    task = lesson_of(task, checkpoint.manifest.progress.lesson, mixed=True)
    update = update_config(config)
    state = restore(checkpoint, jax.eval_shape(lambda: first_state(config, update)))
    key = batch_key(stream(config.updates.seed, DATA), state.iteration)
    keys = part_keys(task, key, update.gradient.accumulation)
    update = update.of_a_part(len(keys))
    parts = tuple(_part(task, part_key, update.batch_size) for part_key in keys)
    plain = nnx.graphdef(nnx.eval_shape(lambda: make_network(config.network, nnx.Rngs(0), "plain")))
    return Case(checkpoint.path, seen, state, update, plain, parts)


def _part(task: Any, key: jax.Array, size: int) -> Part:
    """The part of a batch that a key draws."""
    source = sources(task, data_of(task))[int(drawn_bucket(task, key))]
    return Part(source, jax.jit(lambda key: source.sample(key, size))(key), key)


def _replayed(case: Case) -> Attempt:
    """Repeats the update."""

    @jax.jit
    def replay(state: TrainState, batches: Any) -> Attempt:
        found = [
            batch_gradient(state.params, case.update, part.task, *batch)
            for part, batch in zip(case.parts, batches, strict=True)
        ]
        mean = jax.tree.map(lambda *numbers: sum(numbers) / len(numbers), *found)
        return attempt(state, case.update, *mean)

    return replay(case.state, [(part.episode, part.key) for part in case.parts])


def _finding(case: Case, again: Attempt) -> tuple[str, str]:
    """The finding, and a suggestion."""
    if not _is_finite(case.state.params):
        return "The parameters were already non-finite before this update.", "another --seed"
    for where, part in case.named_parts():
        for name, array in zip(("inputs", "targets", "mask"), part.episode, strict=False):
            for sequence, step in np.argwhere(~np.isfinite(np.asarray(array)))[:1, :2]:
                place = f"sequence {sequence}, time step {step}"
                return f"The {where} has non-finite numbers: {name} in {place}.", "other data"
    if not _is_finite((again.loss, again.gradient)):
        return _finding_in_equations(case)
    trees = {"gradients": again.gradient, "parameters after the update": again.params}
    for what, tree in trees.items():
        if not math.isfinite(optax.tree.norm(tree)):
            advice = f"{_SMALLER}, or a larger --optimizer_epsilon"
            return f"The {what} have no finite norm: {_about(tree)}.", advice
    return (
        "All numbers are finite in the replay.",
        "the run again, in case the machine failed, or another --seed",
    )


def _part_at_fault(case: Case) -> tuple[str, Part]:
    """The first part of the batch with a non-finite loss or gradient, or else the first part."""
    parts = case.named_parts()
    for name, part in parts if len(parts) > 1 else []:
        gradient = jax.jit(partial(batch_gradient, config=case.update, task=part.task))
        if not _is_finite(gradient(case.state.params, episode=part.episode, key=part.key)):
            return name, part
    return parts[0]


def _finding_in_equations(case: Case) -> tuple[str, str]:
    """The operation, in the first sequence that fails alone, or otherwise in the batch.

    For a batch in parts, this examines the first part that fails.
    """
    plain, params = case.plain, case.state.params
    options = case.update.gradient._replace(accumulation=1)
    name, (task, episode, key) = _part_at_fault(case)
    batch = episode, keys_for(episode, key)
    size, time = episode.inputs.shape[:2]
    compute = jax.jit(lambda e, keys: loss_and_gradient(plain, params, task, e, keys, options))
    sequences = [jax.tree.map(lambda x, n=n: x[n : n + 1], batch) for n in range(size)]
    bad = [n for n, sequence in enumerate(sequences) if not _is_finite(compute(*sequence))]
    episode, keys = sequences[bad[0]] if bad else batch
    value, gradient = compute(episode, keys)
    if _is_finite((value, gradient)):
        return "In the plain implementation (implementation=plain) all numbers are finite.", (
            f"{_SMALLER}; if the parameters are not huge, the implementation that trained the run "
            "has a bug: use --implementation=plain, and please report it"
        )

    def loss(network: Any) -> jax.Array:
        return task.loss(*respond(network, task, episode, keys, training=True))

    backward = math.isfinite(value)
    origin = find_origin(loss, plain, params, gradient=backward)
    origin = origin or find_origin(loss, plain, params, gradient=backward, infinite=True)
    where = f"{'backward' if backward else 'forward'} pass"
    where += f", {name}" if len(case.parts) > 1 else ""
    where += f", sequence {bad[0]} of 0 to {size - 1}" if bad else ""
    if origin is None:
        return f"The {where}, but only as one program, because of its rounding.", _SMALLER
    step = origin.step
    if step is None:
        answer = respond(nnx.merge(plain, params), task, episode, keys, training=True)
        step = _step_of_loss(task, *answer)
    where += f", time step {step} of 0 to {time - 1}" if step is not None else ""
    return (
        f"What went wrong first, in the plain implementation:\n  {where}\n"
        f"  {origin.operation} gives {origin.kind}{origin.place and f', at {origin.place}'}"
    ), (
        f"{_SMALLER}. If the line is in your code, keep the argument away from points where the "
        "function or its derivative is not finite: add an epsilon, or put a jnp.where around the "
        "argument, not around the result"
    )


def _step_of_loss(task: Any, outputs: jax.Array, episode: Episode) -> int | None:
    """The last step of the shortest prefix whose loss, or its gradient, is not finite."""

    def is_bad(steps: int) -> bool:
        start, *others = [x[:, :steps] for x in (outputs, *episode[:3])]
        part = Episode(*others, extra=episode.extra)
        return not _is_finite(jax.value_and_grad(task.loss)(start, part))

    try:
        return bisect.bisect_left(range(1, outputs.shape[1] + 1), True, key=is_bad)
    except Exception:  # a custom loss may need all steps
        return None


def _largest(tree: Any) -> dict[str, float]:
    """The largest absolute value in each array; non-finite if any number is."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): float(np.abs(leaf).max(initial=0))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def _is_finite(tree: Any) -> bool:
    return all(map(math.isfinite, _largest(tree).values()))


def _about(tree: Any) -> str:
    """The number of non-finite arrays, or the largest number of all."""
    largest = _largest(tree)
    if bad := [name for name, size in largest.items() if not math.isfinite(size)]:
        return f"NOT finite: {len(bad)} of {len(largest)} arrays, such as {bad[0]}"
    name = max(largest, key=largest.__getitem__)
    return f"finite, at most {largest[name]:.4g} (in {name})"
