"""Models of google-deepmind/dnc: from its TensorFlow variables to a `dncx.DNC` and back."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dncx.access import MemoryAccess
from dncx.addressing import ContentAddressing, Freeness, TemporalLinkage
from dncx.config import DNCConfig
from dncx.controllers import LSTM
from dncx.dnc import DNC
from dncx.glossary import Number
from dncx.interface import interface_ends, interface_shapes

SCOPE = "dnc/"  # of the original's module, in front of the names below
GATES = "lstm/{}_gates"
OUTPUT = "output_linear/{}"
ACCESS = "memory_access/{}/{}"

# TensorFlow also saves counters, the decay powers of Adam and, since version 2, the object graph.
# A second variable of the same name gets the suffix _1.
_COUNTERS = re.compile(
    r"(?:.*/)?(?:global_step|save_counter|learning_rate|beta[12]_power)(?:_\d+)?"
    r"|_CHECKPOINTABLE_OBJECT_GRAPH"
)
_ENDINGS = (":0", "/.ATTRIBUTES/VARIABLE_VALUE")  # of the names of TensorFlow 1 and 2


def from_variables(
    variables: Mapping[str, Any],
    *,
    memory_size: int,
    word_size: int,
    num_read_heads: int,
    num_write_heads: int,
    clip_value: Number | None,
) -> DNC:
    """A cell that computes the same as the original, made from the original's variables.

    Args:
      variables: arrays by their TensorFlow names ("dnc/lstm/w_gates", ...), as a checkpoint lists
        them. The weights can be in any single scope ("agent/dnc/lstm/w_gates") and end in ":0".
        Counters (`global_step`) and the slots of optimisers and averages
        ("dnc/lstm/w_gates/RMSProp") are ignored. The sizes of controller, inputs and outputs
        follow from the shapes; the cell has the dtype of the arrays (float64 needs
        `jax_enable_x64`).
      memory_size, word_size, num_read_heads, num_write_heads, clip_value: the original's flags,
        which do not follow from the variables. A clip_value of 0 or None means no clipping.

    Raises:
      TypeError: if `variables` is not a mapping.
      ValueError: if a weight is missing or duplicated, if there are other variables, or if a shape
        or a dtype does not fit.

    Example:
      >>> reader = tf.train.load_checkpoint(folder)  # doctest: +SKIP
      >>> cell = from_variables(
      ...     {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()},
      ...     memory_size=16, word_size=16, num_read_heads=4, num_write_heads=1, clip_value=20,
      ... )  # doctest: +SKIP
    """
    shapes = interface_shapes(word_size, num_read_heads, num_write_heads)
    arrays = _weights(variables, _weight_names(shapes))
    dtype = _common_dtype(arrays)
    gates, output = arrays[GATES.format("w")].shape, arrays[OUTPUT.format("w")].shape
    hidden_size = gates[-1] // 4 if len(gates) == 2 else 0
    input_size = gates[0] - num_read_heads * word_size - hidden_size if hidden_size else 0
    if input_size < 1:
        raise ValueError(
            f"{GATES.format('w')} has shape {gates}: it must be [input + {num_read_heads} * "
            f"{word_size} + hidden, 4 * hidden]; check num_read_heads and word_size"
        )
    cell = DNC(
        input_size,
        output[-1] if output else 0,
        DNCConfig(
            memory_size=memory_size,
            word_size=word_size,
            num_read_heads=num_read_heads,
            num_write_heads=num_write_heads,
            hidden_size=hidden_size,
            clip_value=clip_value,
        ),
        rngs=nnx.Rngs(0),
        param_dtype=dtype,
    )
    _check_shapes(arrays, to_variables(cell))
    for kind, kernel_or_bias in (("w", "kernel"), ("b", "bias")):
        parts = [arrays[ACCESS.format(name, kind)] for name in shapes]
        for layer, value in (
            (cell.controller.gates, arrays[GATES.format(kind)]),
            (cell.access.interface_linear, np.concatenate(parts, axis=-1)),
            (cell.output_linear, arrays[OUTPUT.format(kind)]),
        ):
            getattr(layer, kernel_or_bias)[...] = jnp.asarray(value)
    return cell


def to_variables(cell: DNC) -> dict[str, np.ndarray]:
    """The inverse of `from_variables`: the cell's variables under the original's names.

    Raises:
      ValueError: if the cell's equations are not those of the original.
    """
    _check_equations(cell)
    access = cell.access
    shapes = interface_shapes(access.word_size, access.num_read_heads, access.num_write_heads)
    cuts = interface_ends(shapes)[:-1]
    variables = {}
    for kind, kernel_or_bias in (("w", "kernel"), ("b", "bias")):
        fused = np.asarray(getattr(access.interface_linear, kernel_or_bias)[...])
        for name, part in zip(shapes, np.split(fused, cuts, axis=-1), strict=True):
            variables[SCOPE + ACCESS.format(name, kind)] = part
        for name, layer in ((GATES, cell.controller.gates), (OUTPUT, cell.output_linear)):
            variables[SCOPE + name.format(kind)] = np.asarray(getattr(layer, kernel_or_bias)[...])
    return variables


def _check_equations(cell: DNC) -> None:
    access, original = cell.access, DNCConfig.deepmind()
    same = (
        type(cell.controller) is LSTM
        and cell.controller.forget_bias == original.forget_bias
        and cell.controller.norms is None
        and type(access) is MemoryAccess
        and type(access.content) is ContentAddressing
        and type(access.freeness) is Freeness
        and type(access.linkage) is TemporalLinkage
        and access.freeness.epsilon == original.allocation_epsilon
        and access.content.epsilon == original.cosine_epsilon
        and access.strength_activation == original.strength_activation
        and access.read_mode_order == original.read_mode_order
        and access.interface_linear.use_bias
        and access.interface_norm is None
        and not access.wipe_freed
        and not access.sharpen_links
        and cell.output_linear.use_bias
    )
    if not same:
        raise ValueError(
            "only a cell with the original's parts and equations (DNCConfig.deepmind) can be "
            "converted to the original's variables"
        )


def _weight_names(shapes: Mapping[str, Any]) -> set[str]:
    """The names of all weights, without their scope."""
    names = {ACCESS.format(name, kind) for name in shapes for kind in "wb"}
    return names | {name.format(kind) for name in (GATES, OUTPUT) for kind in "wb"}


def _weights(variables: Mapping[str, Any], wanted: set[str]) -> dict[str, np.ndarray]:
    """The weights by their names without the scope; other variables are left out."""
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"variables: must be a mapping of names to arrays, got {type(variables).__name__}"
        )
    ends = "|".join(map(re.escape, sorted(wanted)))
    weight = re.compile(f"((?:.*/)?)({ends})")
    slot = re.compile(f"(?:.*/)?(?:{ends})/.+")  # TensorFlow names a slot below its variable
    scopes: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)
    unknown = []
    for full_name, value in variables.items():
        name = str(full_name)
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
        if slot.fullmatch(name) or _COUNTERS.fullmatch(name):
            continue
        match = weight.fullmatch(name)
        if match is None:
            unknown.append(str(full_name))
        elif match[2] in scopes[match[1]]:
            raise ValueError(f"{name}: duplicated, with different endings ({full_name})")
        else:
            scopes[match[1]][match[2]] = np.asarray(value)
    if len(scopes) > 1:
        raise ValueError(
            "the weights are in several scopes; pass those of one model: "
            + ", ".join(repr(scope.removesuffix("/")) for scope in sorted(scopes))
        )
    scope, arrays = next(iter(scopes.items()), (SCOPE, {}))
    missing = [scope + name for name in sorted(wanted - set(arrays))]
    if missing or unknown:
        raise ValueError(
            "not the variables of a google-deepmind/dnc model: "
            f"missing {missing or 'none'}, unknown {sorted(unknown) or 'none'}"
        )
    return arrays


def _common_dtype(arrays: Mapping[str, np.ndarray]) -> Any:
    """The one dtype of all weights."""
    names = defaultdict(list)
    for name, array in arrays.items():
        names[array.dtype].append(name)
    supported = {np.dtype(dtype) for dtype in (jnp.float32, jnp.float64, jnp.bfloat16)}
    if len(names) > 1 or not supported.issuperset(names):
        found = "\n  ".join(f"{dtype}: {_some(names[dtype])}" for dtype in sorted(names, key=str))
        raise ValueError(
            "the weights must all be float32, all float64 or all bfloat16; got\n  " + found
        )
    (dtype,) = names
    if jnp.asarray(np.zeros((), dtype)).dtype != dtype:
        raise ValueError(
            f"the weights are {dtype}, which JAX converts to float32: first call "
            "jax.config.update('jax_enable_x64', True), or pass float32 arrays"
        )
    return dtype


def _some(names: list[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(sorted(names)[:3]) + more


def _check_shapes(arrays: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> None:
    wrong = [
        f"{name}: {array.shape}, must be {own[SCOPE + name].shape}"
        for name, array in sorted(arrays.items())
        if array.shape != own[SCOPE + name].shape
    ]
    if wrong:
        raise ValueError("these weights do not fit the given sizes:\n  " + "\n  ".join(wrong))
