"""The choice of the implementation (form) that computes a cell, for steps and for sequences."""

import functools
import inspect
import logging
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from dncx.kernels import library

# The implementations that a user can select:
# plain: the equations, differentiated by JAX; any device.
# xla: the equations, with hand-written gradients of the largest operations; any device.
# native: C++ for the CPU.
Implementation = Literal["plain", "xla", "native"]
FormName = Literal["native sequence", "native step", "xla", "plain"]
Role = Literal[
    "cell", "access", "content", "freeness", "linkage", "controller", "norm", "norms of a layer"
]
# Nouns for messages.
_TITLES: dict[Role, str] = {
    "content": "content addressing",
    "norms of a layer": "layer norm of the controller",
}
Class = TypeVar("Class", bound=type)

# The kernel keeps a vector of each read head in registers while it processes a row of the link.
# Processors have 16 or 32 vector registers, so more heads would spill to memory.
MOST_READ_HEADS = 16
_LOG = logging.getLogger("dncx")
_parts: dict[type, Role] = {}


class Form(NamedTuple):
    """The implementation that computes a cell.

    The forms, fastest first:
      native sequence: C++ for the controller, interface and memory of all steps, in one call.
      native step: C++ for the memory access of a step; XLA for the rest.
      xla: the equations by XLA, with hand-written gradients of the largest operations.
      plain: the equations by XLA, differentiated by JAX.
    """

    name: FormName
    reason: str  # why no faster form is used; empty for the fastest

    def __str__(self) -> str:
        titles = {
            "native sequence": "native sequence kernel",
            "native step": "native step kernel",
            "xla": "equations by XLA",
            "plain": "plain equations",
        }
        return f"{titles[self.name]}: {self.reason}" if self.reason else titles[self.name]


def known_to_kernels(role: Role) -> Callable[[Class], Class]:
    """Class decorator: the fast forms support this class in its role.

    They also support a subclass that overrides only `__init__`.
    """

    def register(part: Class) -> Class:
        _parts[part] = role
        return part

    return register


def select(cell: Any) -> Form:
    """The form that computes a recurrent cell.

    All code that computes a cell calls this function or `select_for_access`. Within the form "xla",
    the access also asks `custom_reason` whether the gradient of the links applies.

    Args:
      cell: a `dncx.DNC`, whose access may require an implementation, or any other cell.

    Raises:
      ValueError: if the access requires an implementation that cannot compute it; the message
        gives the reason.
    """
    if _base(cell, "cell") is None:
        return Form("plain", f"{type(cell).__name__} is not a DNC")
    form = select_for_access(cell.access, cell.dtype)
    if form.name != "native step":
        return form
    reason = _why_no_sequences(cell)
    return Form("native step", reason) if reason else Form("native sequence", "")


def select_for_access(access: Any, dtype: Any) -> Form:
    """The form that computes one step of an access; see `select`.

    Args:
      access: a `MemoryAccess`, or a custom one.
      dtype: dtype of its state.
    """
    if _base(access, "access") is None:
        return Form("xla", f"the access is custom ({type(access).__name__})")
    asked = access.implementation
    if asked not in (None, *get_args(Implementation)):
        raise ValueError(
            f"implementation={asked!r}: must be None or one of {get_args(Implementation)}"
        )
    if asked in ("plain", "xla"):
        return Form(asked, f"implementation={asked!r}")
    reason = _why_no_steps(access, jnp.dtype(dtype).name)
    if reason and asked == "native":
        raise ValueError(f"implementation='native' cannot compute this cell: {reason}")
    return Form("xla", reason) if reason else Form("native step", "")


def custom_reason(role: Role, part: Any) -> str | None:
    """The reason why the fast forms do not support a part; None if they do."""
    base = _base(part, role)
    name, title = type(part).__name__, _TITLES.get(role, role)
    if base is None and type(part).__module__.startswith("dncx."):
        return f"the kernel does not support {name}"
    if base is None:
        return f"the {title} is custom ({name})"
    changed = [
        method
        for method, own in vars(base).items()
        if method != "__init__"
        and isinstance(own, FunctionType | property)
        and inspect.getattr_static(type(part), method) is not own
    ]
    if not changed:
        return None
    reason = f"the {title} is custom ({name} overrides {', '.join(changed)})"
    _tell_once(reason)
    return reason


@functools.cache
def _tell_once(reason: str) -> None:
    # A user who derives from a part may not expect to lose its fast form.
    _LOG.warning("no native kernel for this cell: %s; see dncx.explain(cell)", reason)


def _base(part: Any, role: Role) -> type | None:
    """The class of dncx in this role of which a part is an instance."""
    return next((kind for kind in type(part).__mro__ if _parts.get(kind) == role), None)


def _why_no_steps(access: Any, dtype: str) -> str | None:
    if jax.default_backend() != "cpu":
        return f"the native kernel runs on the CPU, not on {jax.default_backend()}"
    reason = (
        custom_reason("content", access.content)
        or custom_reason("freeness", access.freeness)
        or custom_reason("linkage", access.linkage)
    )
    if reason:
        return reason
    if access.num_write_heads != 1:
        return f"the native kernel supports 1 write head, not {access.num_write_heads}"
    if access.num_read_heads > MOST_READ_HEADS:
        return (
            f"the native kernel supports at most {MOST_READ_HEADS} read heads, not "
            f"{access.num_read_heads}"
        )
    settings = [access.content.epsilon, access.freeness.epsilon]
    if access.content.mask_size:
        settings.append(access.content.least_mask)
    if not all(isinstance(setting, int | float) for setting in settings):
        return "an epsilon or least_mask is not a Python number"
    if dtype not in library.NUMBERS:
        return f"the native kernel computes in {' or '.join(library.NUMBERS)}, not in {dtype}"
    return library.load(dtype, access.num_read_heads)


def _why_no_sequences(cell: Any) -> str | None:
    reason = (
        custom_reason("cell", cell)
        or custom_reason("access", cell.access)
        or custom_reason("controller", cell.controller)
    )
    if reason:
        return reason
    layers = list(getattr(cell.controller, "layers", [cell.controller]))
    for layer in layers:
        if not hasattr(layer, "gates"):
            return f"a layer of the controller is custom ({type(layer).__name__})"
        if reason := custom_reason("controller", layer):
            return reason
        if layer.norms is None:
            continue
        if reason := custom_reason("norms of a layer", layer.norms):
            return reason
        if layer.gates.bias is not None:
            return "a layer with layer norm has a bias before it"
    if len({(layer.forget_bias, layer.gradient_clip, layer.norms is None) for layer in layers}) > 1:
        return "the layers of the controller differ in forget_bias, gradient_clip or norm"
    for norms in ([cell.access.interface_norm], _norms_of(layers)):
        if reason := _other_norms(norms, cell.dtype):
            return reason
    linears = [("interface", cell.access.interface_linear)]
    linears += [("controller", layer.gates) for layer in layers]
    for name, linear in linears:
        if reason := _other_product(name, linear, cell.dtype):
            return reason
    return None


def _norms_of(layers: list[Any]) -> list[Any]:
    """The layer norms of LSTM layers."""
    norms = [layer.norms for layer in layers if layer.norms is not None]
    return [norm for both in norms for norm in (*both.gates, both.cell)]


def _other_norms(norms: list[Any], dtype: Any) -> str | None:
    """How norms differ from `LayerNorm` in the cell's dtype, all with the same epsilon."""
    norms = [norm for norm in norms if norm is not None]
    for norm in norms:
        if reason := custom_reason("norm", norm):
            return reason
        if norm.scale is None or norm.bias is None or norm.scale.dtype != dtype:
            return "a layer norm has no scale, no bias or another dtype"
        if not isinstance(norm.epsilon, int | float):
            return "an epsilon is not a Python number"
    if len({norm.epsilon for norm in norms}) > 1:
        return "the layer norms of the controller differ in epsilon"
    return None


def _other_product(name: str, linear: Any, dtype: Any) -> str | None:
    """How a layer differs from x W + b in the cell's dtype, the only product that it supports."""
    if type(linear) is not nnx.Linear:
        return f"the {name} uses a custom layer ({type(linear).__name__})"
    rounded = getattr(linear.dot_general, "dtype", None)
    for other in (linear.kernel.dtype, linear.dtype or dtype, rounded or dtype):
        if other != dtype:
            return f"the {name} multiplies in {jnp.dtype(other).name}"
    if linear.dot_general is not jax.lax.dot_general:
        return f"the {name} uses a custom dot_general"
    return None
