"""Where numbers that are not finite come from, in words."""

import linecache
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dncx.debugging.origins import Origin, Place, Step
from dncx.runs.integrity import NonFinite

_SHOWN = 5  # of what there may be many of
_SAME = 1e-3  # relative difference of norms up to which only rounding differs
HUGE = 1e15  # a number whose square nearly overflows
_DOMAIN = {"div", "log", "log1p", "sqrt", "rsqrt", "cbrt", "pow", "integer_pow", "rem"}
_DOMAIN |= {"acos", "asin", "acosh", "atanh", "erf_inv", "logistic", "lgamma", "digamma"}
_GROWTH = {"exp", "exp2", "expm1", "sinh", "cosh"}


def counted(array: Any) -> int:
    """How many numbers of an array are not finite."""
    return int((~_finite(array)).sum())


def _finite(array: Any) -> np.ndarray:
    if not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
        return np.ones(np.shape(array), bool)
    return np.asarray(np.isfinite(np.asarray(array)))


def number_range(array: Any) -> str:
    """From where to where the numbers of an array go, and how many are not finite."""
    if jnp.issubdtype(jnp.result_type(array), jax.dtypes.extended):
        return "random keys"
    numbers, finite = np.asarray(array), _finite(array)
    if not numbers.size:
        return "empty"
    found = np.unique(numbers[finite].astype(np.float64)) if finite.any() else []
    words = []
    if len(found):
        low, high = found[0], found[-1]
        words.append(f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}")
    if bad := counted(array):
        nan = int(np.isnan(numbers).sum())
        kinds = [f"{nan} NaN"] * bool(nan) + [f"{bad - nan} infinite"] * bool(bad - nan)
        words.insert(0, f"{' and '.join(kinds)} of {numbers.size}")
    return ", else ".join(words)


def about_arrays(named: Mapping[str, Any], *, largest: bool = False) -> str:
    """Arrays by name in one line: their ranges, or only the largest number of all of them."""
    bad = [f"{name} ({number_range(array)})" for name, array in named.items() if counted(array)]
    state = "all finite" if not bad else f"NOT finite: {listed(bad)}"
    if not largest:
        each = [f"{name} {_shape(array)} {number_range(array)}" for name, array in named.items()]
        return f"{'; '.join(each)}; {state}"
    sizes = {name: np.abs(np.asarray(array))[_finite(array)] for name, array in named.items()}
    most = {name: float(found.max()) for name, found in sizes.items() if found.size}
    if not most:
        return state
    name = max(most, key=lambda name: most[name])
    return f"{state}; the largest number is {most[name]:.4g}, in {name}"


def about_replay(before: NonFinite, now: NonFinite) -> list[str]:
    """What the update is, and whether it is the one that was seen."""
    seen, again = _as_numbers(before), _as_numbers(now)
    bad, then = _not_finite(again["gradient"]), _not_finite(seen["gradient"])
    pairs = [(seen["loss"], again["loss"])]
    for norms in ("gradient", "updated"):
        pairs += [(seen[norms].get(name, math.nan), now) for name, now in again[norms].items()]
    if all(_equal(a, b, 0.0) for a, b in pairs):
        verdict = "the same numbers as when the run stopped"
    elif all(_equal(a, b, _SAME) for a, b in pairs):
        verdict = "as when the run stopped, but for rounding"
    else:
        verdict = f"NOT as when the run stopped: loss {seen['loss']:.4g}, gradients of "
        verdict += f"{len(then)} parameters not finite"
    lines = [f"  loss {again['loss']:.4g}, {verdict}"]
    total = len(again["gradient"])
    if len(bad) == total:
        lines.append(f"  norms of gradients: those of all {total} parameters are not finite")
    elif bad:
        lines.append(f"  norms of gradients: not finite of {len(bad)} of {total}: {listed(bad)}")
    finite = {name: n for name, n in again["gradient"].items() if math.isfinite(n)}
    largest = sorted(finite, key=lambda name: -finite[name])[:3]
    if largest:
        named = ", ".join(f"{name} {finite[name]:.3g}" for name in largest)
        lines.append(f"  largest norms of gradients that are finite: {named}")
    return lines


def _as_numbers(record: NonFinite) -> dict[str, Any]:
    norms = {"gradient": record.gradient, "updated": record.updated}
    numbers = {kind: {n: float(x) for n, x in named.items()} for kind, named in norms.items()}
    return {"loss": float(record.loss), **numbers}


def _not_finite(norms: dict[str, float]) -> list[str]:
    return [name for name, norm in norms.items() if not math.isfinite(norm)]


def _equal(before: float, now: float, tolerance: float) -> bool:
    """Whether two numbers are the same; what is not finite is so in many ways, by rounding."""
    if math.isfinite(before) and math.isfinite(now):
        return math.isclose(before, now, rel_tol=tolerance)
    if tolerance:
        return math.isfinite(before) == math.isfinite(now)
    return before == now or (math.isnan(before) and math.isnan(now))


def about_origin(origin: Origin, batch: int, time: int, *, forward: bool) -> list[str]:
    """An operation that went wrong, in lines.

    Args:
      origin: it, or what made NaN of its infinities.
      batch: sequences in the batch.
      time: steps of each.
      forward: whether the loss itself is not finite, not the gradient alone.
    """
    root, later = origin.root, []
    while origin.cause:
        later.insert(0, origin)
        origin = origin.cause
    where = _in_batch(root, batch, time)
    if root.place is None and not root.inputs:
        lines = [f"  none: {root.operation} is not finite before any, {where}".rstrip(", ")]
        return [*lines, f"    {_described(root.outputs[0])}"]
    side = "forward pass" if forward else "backward pass"
    if not forward and "transpose(" not in root.scope:
        side += ", in a factor of it that is computed with the forward pass"
    lines = [f"  {side}{_when(root, time)}", *_operation(root)]
    for word, arrays in (("takes", root.inputs), ("gives", root.outputs)):
        lines += [f"    {word} {_described(array)}" for array in arrays[:_SHOWN]]
    lines += [f"    {where}"] * bool(where)
    for event in later:
        lines += [f"  NaN is made of that{_when(event, time)}", *_operation(event)]
    return lines


def _operation(origin: Origin) -> list[str]:
    if origin.place is None:
        return [f"  {origin.operation}, in {origin.scope or 'no line that is known'}"]
    place = origin.place
    code = linecache.getline(place.file, place.line).strip()
    return [f"  {origin.operation}, at {_short(place)}"] + [f"      {code}"] * bool(code)


def _short(place: Place) -> str:
    file = Path(place.file)
    if file.is_relative_to(Path.cwd()):
        file = file.relative_to(Path.cwd())
    return f"{file}:{place.line}, in {place.function.replace('<locals>.', '')}"


def _when(origin: Origin, time: int) -> str:
    """The steps of the loops that an operation is in; that over time is taken for the longest."""
    return "".join(f", {_step(step, time)}" for step in origin.steps)


def _step(step: Step, time: int) -> str:
    if step.length is None:
        return f"round {step.number} of a while loop (from 0)"
    what = "time step" if step.length == time else "step"
    return f"{what} {step.number} of 0 to {step.length - 1}"


def _in_batch(origin: Origin, batch: int, time: int) -> str:
    """Which sequences of the batch, and which times, if the shapes tell."""
    words = []
    for array in origin.outputs:
        bad = ~_finite(array)
        if not bad.any():
            continue
        timed = any(step.length == time for step in origin.steps)
        for name, size, ask in (("sequence", batch, True), ("time step", time, not timed)):
            axis = _axis(bad.shape, size, name == "sequence")
            if not ask or axis is None:
                continue
            others = tuple(i for i in range(bad.ndim) if i != axis)
            found = np.flatnonzero(bad.any(axis=others)).tolist()
            words.append(_indices(name, found, size))
        break
    return ", ".join(words)


def _axis(shape: tuple[int, ...], size: int, first: bool) -> int | None:
    """The axis of that size, if there is one that can be meant."""
    if size == 1 or (not first and shape[:1] == (size,) and shape.count(size) > 1):
        return None
    if first and shape[:1] == (size,):
        return 0
    return shape.index(size) if shape.count(size) == 1 else None


def _indices(name: str, found: list[int], size: int) -> str:
    if len(found) == size:
        return f"in all {size} {name}s"
    return f"in {name}{'s' * (len(found) > 1)} {listed([*map(str, found)])} of 0 to {size - 1}"


def listed(words: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _shape(array: Any) -> str:
    return str([*np.shape(array)])


def _described(array: Any) -> str:
    if np.ndim(array) == 0 and not counted(array):
        return number_range(array)
    return f"{_shape(array)} {jnp.result_type(array)}: {number_range(array)}"


def advice_for(origin: Origin) -> str:
    """What to try against an operation that went wrong."""
    root = origin.root
    if root.place is None and not root.inputs:
        return "another task or data: what the batch was drawn from has such numbers."
    sizes = [
        np.abs(np.asarray(array, np.float64))[_finite(array)].max(initial=0.0)
        for array in root.inputs
        if jnp.issubdtype(jnp.result_type(array), jnp.inexact)
    ]
    if max(sizes, default=0.0) > HUGE or root.operation in _GROWTH:
        return (
            "a smaller --learning_rate or --max_grad_norm, as the numbers had grown before; or "
            "a limit to them (--equations=deepmind --clip_value=20)."
        )
    if root.operation in _DOMAIN:
        return (
            "to keep what this line takes away from where the function or its slope is not "
            "finite: an epsilon, or a jnp.where around the argument. One around the result alone "
            "leaves the gradient NaN. If the line is not yours, a smaller --learning_rate."
        )
    return "a smaller --learning_rate or --max_grad_norm, or another --seed."
