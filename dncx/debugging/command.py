"""Why a run stopped: the update that was not finite, made again and looked into."""

import math
from typing import Any

import jax
import numpy as np
import optax

from dncx.debugging.cases import Case, load_case
from dncx.debugging.findings import (
    HUGE,
    about_arrays,
    about_origin,
    about_replay,
    advice_for,
    counted,
    listed,
    number_range,
)
from dncx.debugging.origins import Origin, Value, earliest
from dncx.debugging.replay import replay
from dncx.runs import directory as runs
from dncx.settings.commands import DebugSettings
from dncx.tasks.base import Episode
from dncx.training.batches import keys_for
from dncx.training.failure import seen_of
from dncx.training.gradient import loss_and_gradient
from dncx.training.update import Attempt, attempt

_NAMED = 3  # parameters in a list


def debug(settings: DebugSettings) -> str:
    """What the update was at which a run stopped, and the operation that went wrong first.

    Raises:
      UsageError: there is no such run, or it left nothing to look into.
    """
    case = load_case(settings.run_dir)
    again = jax.jit(lambda state, *batch: attempt(state, case.recipe, case.source, *batch))(
        case.state, case.episode, case.key
    )
    finding, advice = _finding(case, again)
    lines = [
        f"{case.path}: the update of iteration {int(case.state.iteration) + 1} (seed {case.seed}), "
        "made again",
        *about_replay(case.seen, seen_of(again.norms())),
        *_before(case),
        "",
        *finding,
        "",
        f"Try: {advice}",
    ]
    return "\n".join(lines)


def _before(case: Case) -> list[str]:
    """What the update was made from."""
    episode = case.episode
    batch = {"inputs": episode.inputs, "targets": episode.targets, "mask": episode.mask}
    return [
        f"  batch: {about_arrays(batch)}",
        f"  parameters: {about_arrays(runs.flat(case.state.params), largest=True)}",
        f"  optimiser: {about_arrays(_memory(case.state.opt_state), largest=True)}",
    ]


def _memory(opt_state: Any) -> dict[str, Any]:
    """The optimiser's numbers, by name."""
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(opt_state)
    }
    return {name.lstrip("0123456789."): leaf for name, leaf in named.items()}


def _finding(case: Case, again: Attempt) -> tuple[list[str], str]:
    """What went wrong, in lines, and what to try."""
    params = case.state.params
    if bad := [name for name, array in runs.flat(params).items() if counted(array)]:
        return (
            [f"The parameters were not finite before this update: {listed(bad)}."],
            "an earlier checkpoint, or another --seed: training itself keeps such parameters out.",
        )
    if not any(map(counted, jax.tree.leaves((again.loss, again.gradient)))):
        return _finding_in_update(case, again)

    keys, plan = keys_for(case.episode, case.key), case.recipe.gradient._replace(accumulation=1)

    def compute(params: Any, episode: Episode, keys: jax.Array) -> Any:
        return loss_and_gradient(case.plain, params, case.source, episode, keys, plan)

    plain_loss, plain_gradient = replay(
        compute, {"parameters": params, "batch": case.episode, "keys": keys}
    )
    origin = plain_loss.origin or _first(plain_gradient)
    loss = f"loss {float(plain_loss.array):.4g}"
    if origin is None:
        compiled = jax.jit(compute)(params, case.episode, keys)
        if max(map(_size, jax.tree.leaves(params))) > HUGE:
            return [
                f"With the equations as they stand (implementation=plain; {loss}) all "
                "gradients are finite, but parameters are beyond what is computed reliably."
            ], ("a smaller --learning_rate or --max_grad_norm, as the numbers had grown before.")
        return _finding_in_form(loss, any(map(counted, jax.tree.leaves(compiled))))
    shape = case.episode.inputs.shape
    return [
        f"What went wrong first, in the equations as they stand (implementation=plain; {loss}):",
        *about_origin(origin, shape[0], shape[1], forward=bool(plain_loss.origin)),
    ], advice_for(origin)


def _finding_in_form(loss: str, also_compiled: bool) -> tuple[list[str], str]:
    """Where the equations, run one operation at a time, are finite."""
    found = (
        f"With the equations as they stand (implementation=plain; {loss}) all gradients are finite"
    )
    if also_compiled:
        how = "one operation at a time, but not as one compiled program: by other rounding"
        return [f"{found}, {how}."], (
            "a smaller --learning_rate or --max_grad_norm: the numbers are at the edge of what "
            "floats can hold."
        )
    return [f"{found}: the form that trained it rounds otherwise, or is at fault."], (
        "--implementation=plain or xla, or a smaller --learning_rate where numbers are huge. If "
        "they are not, please report it with the folder above."
    )


def _first(gradient: Any) -> Origin | None:
    values = jax.tree.leaves(gradient, is_leaf=lambda leaf: isinstance(leaf, Value))
    return earliest([value.origin for value in values if value.origin])


def _finding_in_update(case: Case, again: Attempt) -> tuple[list[str], str]:
    """What is wrong with an update of finite gradients."""
    if not math.isfinite(float(optax.tree.norm(again.gradient))):
        return _too_large("gradients", {"gradient": again.gradient}), (
            "a smaller --learning_rate or --max_grad_norm, as the numbers had grown before; or, "
            "if the loss is a task's own, a smaller one."
        )
    if math.isfinite(float(optax.tree.norm(again.params))):
        return ["All is finite now: the loss, the gradients and the update."], (
            "the run again: it may have been the machine. If it stops again, another --seed."
        )
    trees = {
        "updated": again.params,
        "before": case.state.params,
        "update": again.change,
        "gradient": again.gradient,
    }
    second = optax.tree.get(again.opt_state, "nu")
    trees |= {"mean square": second} if second is not None else {}
    rate, epsilon = case.settings.learning_rate, case.settings.optimizer_epsilon
    return _too_large("parameters after the update", trees), (
        f"a smaller --learning_rate than {rate:g}, or a larger --optimizer_epsilon than "
        f"{epsilon:g}."
    )


def _too_large(what: str, trees: dict[str, Any]) -> list[str]:
    """Lines about the worst arrays of the first tree, with their counterparts in the others."""
    flat = {name: runs.flat(tree) for name, tree in trees.items()}
    first = next(iter(flat.values()))
    finite = not any(map(counted, first.values()))
    state = "are finite, but their squares, of which a norm is made, are not" if finite else ""
    lines = [f"Loss and gradients are finite. The {what} {state or 'are not'}:"]
    for name in sorted(first, key=lambda name: -_size(first[name]))[:_NAMED]:
        lines.append(f"  {name} {[*np.shape(first[name])]}")
        lines += [f"    {word}: {number_range(arrays[name])}" for word, arrays in flat.items()]
    return lines


def _size(array: Any) -> float:
    numbers = np.abs(np.asarray(array, np.float64))
    return math.inf if counted(array) else float(numbers.max(initial=0.0))
