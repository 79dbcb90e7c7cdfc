"""Why a run stopped: the update that was not finite, replayed."""

import bisect
import math
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
from dncx.runs.directory import task_of
from dncx.runs.integrity import Checkpoint, NonFinite
from dncx.runs.paths import FAILURE
from dncx.runs.state import DATA, TrainState, stream
from dncx.settings.commands import DebugSettings
from dncx.tasks.base import Episode
from dncx.tasks.curriculum import Course
from dncx.training.batches import batch_key, data_of, drawn_bucket, keys_for, sources
from dncx.training.failure import seen_of
from dncx.training.gradient import loss_and_gradient, respond
from dncx.training.setup import first_state, restore, update_config
from dncx.training.update import Attempt, UpdateConfig, attempt

_NAMED = 3  # arrays in a list
_SMALLER = "a smaller --learning_rate or --max_grad_norm, as numbers had grown before"


class Case(NamedTuple):
    """An update that was not finite, and the state before it."""

    path: Path
    seen: NonFinite  # when the run stopped
    state: TrainState
    update: UpdateConfig  # of the run, except for its devices
    plain: nnx.GraphDef  # the network in the plain implementation
    task: Any  # what the batch is drawn from
    episode: Episode
    key: jax.Array  # of the batch


def debug(settings: DebugSettings) -> str:
    """Replays the update at which a run stopped, and names the operation that went wrong first.

    Raises:
      UsageError: if there is no such run, or it left nothing to replay.
    """
    case = load_case(settings.run_dir)
    again = jax.jit(lambda state, *batch: attempt(state, case.update, case.task, *batch))(
        case.state, case.episode, case.key
    )
    before, now = _numbers(case.seen), _numbers(seen_of(again.norms()))
    same = np.allclose(before, now, rtol=1e-3, equal_nan=True)  # except for rounding
    finding, advice = _finding(case, again)
    return "\n".join(
        [
            f"{case.path}: the update of iteration {int(case.state.iteration) + 1}, replayed",
            f"  loss {float(again.loss):.4g}, {'' if same else 'NOT '}as when the run stopped",
            f"  batch: {_about(case.episode)}",
            f"  parameters: {_about(case.state.params)}",
            f"  gradients: {_about(again.gradient)}",
            f"\n{finding}\n\nTry: {advice}.",
        ]
    )


def load_case(run_dir: Path) -> Case:
    """What a run left when it stopped, and the batch of the update.

    Raises:
      UsageError: if there is no such run, or it left nothing to replay.
    """
    checkpoint = _newest(run_dir)
    config, seen = checkpoint.manifest.config, checkpoint.manifest.failure
    assert seen is not None
    task = task_of(run_dir, config.task.name, config.task.settings)
    if isinstance(task, Course):
        task = task.at_lesson(checkpoint.manifest.progress.lesson, task.gate.earlier_share)
    update = update_config(config)
    state = restore(checkpoint, jax.eval_shape(lambda: first_state(config, update)))
    key = batch_key(stream(config.updates.seed, DATA), state.iteration)
    source = sources(task, data_of(task))[int(drawn_bucket(task, key))]
    episode = jax.jit(lambda key: source.sample(key, update.batch_size))(key)
    plain = nnx.graphdef(nnx.eval_shape(lambda: make_network(config.network, nnx.Rngs(0), "plain")))
    return Case(checkpoint.path, seen, state, update, plain, source, episode, key)


def _newest(run_dir: Path) -> Checkpoint:
    """What the run left when it stopped."""
    if not run_dir.is_dir():
        raise UsageError(f"there is no run {run_dir}")
    found, _ = checkpoints.newest_intact((run_dir / FAILURE).resolve())
    if seeds := sorted(path.parent for path in run_dir.glob(f"seed-*/{FAILURE}")):
        raise UsageError(f"{run_dir} has a network of each seed; name one, such as {seeds[0]}")
    if found is None or found.manifest.failure is None:
        raise UsageError(
            f"{run_dir} has no {FAILURE}/. Training leaves it when it stops because of "
            "--max_skipped_updates. To catch an update that fails now and then, train with "
            "--max_skipped_updates=1"
        )
    return found


def _finding(case: Case, again: Attempt) -> tuple[str, str]:
    """What went wrong, and what to try."""
    if not _is_finite(case.state.params):
        return "The parameters were not finite before this update.", "another --seed"
    for name, array in zip(("inputs", "targets", "mask"), case.episode, strict=False):
        for sequence, step in np.argwhere(~np.isfinite(np.asarray(array)))[:1, :2]:
            place = f"sequence {sequence}, time step {step}"
            return f"The batch is not finite: {name} in {place}.", "other data"
    if not _is_finite((again.loss, again.gradient)):
        return _finding_in_equations(case)
    trees = {"gradients": again.gradient, "parameters after the update": again.params}
    for what, tree in trees.items():
        if not math.isfinite(optax.tree.norm(tree)):
            advice = f"{_SMALLER}, or a larger --optimizer_epsilon"
            return f"The {what} have no finite norm: {_about(tree)}.", advice
    return "All is finite now.", "the run again, as it may have been the machine, or another --seed"


def _finding_in_equations(case: Case) -> tuple[str, str]:
    """The operation, in the first sequence that shows it alone, or else in the batch."""
    task, params = case.task, case.state.params
    options = case.update.gradient._replace(accumulation=1)
    compute = jax.jit(
        lambda episode, keys: loss_and_gradient(case.plain, params, task, episode, keys, options)
    )
    batch = case.episode, keys_for(case.episode, case.key)
    size, time = case.episode.inputs.shape[:2]
    sequences = [jax.tree.map(lambda x, n=n: x[n : n + 1], batch) for n in range(size)]
    bad = [n for n, sequence in enumerate(sequences) if not _is_finite(compute(*sequence))]
    episode, keys = sequences[bad[0]] if bad else batch
    value, gradient = compute(episode, keys)
    if _is_finite((value, gradient)):
        return "In the plain implementation (implementation=plain) all numbers are finite.", (
            f"{_SMALLER}; if parameters are not huge, the implementation that trained the run is "
            "at fault: --implementation=plain, and please report it"
        )

    def answer(network: Any) -> tuple[jax.Array, Episode]:
        return respond(network, task, episode, keys, training=True)

    forward = not math.isfinite(value)
    has_nan = any(jnp.isnan(x).any() for x in jax.tree.leaves(value if forward else gradient))
    origin = find_origin(
        lambda network: task.loss(*answer(network)),
        case.plain,
        params,
        gradient=not forward,
        infinite=not has_nan,
    )
    where = f"{'forward' if forward else 'backward'} pass"
    where += f", sequence {bad[0]} of 0 to {size - 1}" if bad else ""
    if origin is None:
        return f"The {where}, but only as one program: by its rounding.", _SMALLER
    step = origin.step
    if step is None:
        step = _step_of_loss(task, *answer(nnx.merge(case.plain, params)))
    where += f", time step {step} of 0 to {time - 1}" if step is not None else ""
    return (
        f"What went wrong first, in the plain implementation:\n  {where}\n"
        f"  {origin.operation} gives {origin.kind}{origin.place and f', at {origin.place}'}"
    ), (
        f"{_SMALLER}. If the line is yours, keep its argument away from where the function or its "
        "slope is not finite, by an epsilon or a jnp.where around the argument; a jnp.where around "
        "the result alone leaves the gradient NaN"
    )


def _step_of_loss(task: Any, outputs: jax.Array, episode: Episode) -> int | None:
    """The last step of the shortest prefix whose loss, or its gradient, is not finite."""

    def is_bad(steps: int) -> bool:
        start = [x[:, :steps] for x in (outputs, *episode[:3])]
        part = Episode(*start[1:], extra=episode.extra)
        return not _is_finite(jax.value_and_grad(task.loss)(start[0], part))

    try:
        return bisect.bisect_left(range(1, outputs.shape[1] + 1), True, key=is_bad)
    except Exception:  # a custom loss may need all steps
        return None


def _numbers(seen: NonFinite) -> list[float]:
    return [float(x) for x in (seen.loss, *seen.gradient.values(), *seen.updated.values())]


def _largest(tree: Any) -> dict[str, float]:
    """The largest size of a number in each array; it is not finite if one of them is not."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): float(np.abs(leaf).max(initial=0))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def _is_finite(tree: Any) -> bool:
    return all(map(math.isfinite, _largest(tree).values()))


def _about(tree: Any) -> str:
    """Which arrays are not finite, or the largest number of all."""
    largest = _largest(tree)
    if bad := [name for name, size in largest.items() if not math.isfinite(size)]:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        return f"NOT finite: {', '.join(bad[:_NAMED])}{more}"
    name = max(largest, key=largest.__getitem__)
    return f"finite, at most {largest[name]:.4g} (in {name})"
