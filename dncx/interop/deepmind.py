"""Models of google-deepmind/dnc: from its TensorFlow variables to a `dncx.DNC` and back."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dncx.access import MemoryAccess
from dncx.addressing import Freeness, TemporalLinkage
from dncx.config import DNCConfig
from dncx.controllers import LSTM
from dncx.dnc import DNC
from dncx.glossary import Number
from dncx.interface import interface_ends, interface_shapes

GATES = "dnc/lstm/{}_gates"
OUTPUT = "dnc/output_linear/{}"
ACCESS = "dnc/memory_access/{}/{}"


def from_variables(
    variables: Mapping[str, Any],
    *,
    memory_size: int,
    word_size: int,
    num_read_heads: int,
    num_write_heads: int,
    clip_value: Number | None,
) -> DNC:
    """The original's model, given its variables.

    Args:
      variables: arrays by their TensorFlow names ("dnc/lstm/w_gates", ...; a ":0" at the end
        is ignored). The sizes of controller, inputs and outputs follow from their shapes,
        the dtype of the cell from theirs (float64 needs `jax_enable_x64`).
      memory_size, word_size, num_read_heads, num_write_heads, clip_value: as the original's
        flags; they do not follow from the variables. A clip_value of 0 or None is none.

    Returns:
      A cell that computes what the original computes.

    Raises:
      ValueError: a variable is missing, unknown, or of a shape or dtype that does not fit.

    Example:
      >>> reader = tf.train.load_checkpoint(folder)  # doctest: +SKIP
      >>> cell = from_variables(
      ...     {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
      ...      if name.startswith("dnc/") and "RMSProp" not in name},
      ...     memory_size=16, word_size=16, num_read_heads=4, num_write_heads=1, clip_value=20,
      ... )  # doctest: +SKIP
    """
    arrays = {name.removesuffix(":0"): np.asarray(value) for name, value in variables.items()}
    shapes = interface_shapes(word_size, num_read_heads, num_write_heads)
    _check_names(arrays, shapes)
    _check_dtypes(arrays)
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
        param_dtype=jnp.asarray(arrays[OUTPUT.format("w")]).dtype,
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
      ValueError: the cell's equations are not those of the original.
    """
    _check_equations(cell)
    access = cell.access
    shapes = interface_shapes(access.word_size, access.num_read_heads, access.num_write_heads)
    cuts = interface_ends(shapes)[:-1]
    variables = {}
    for kind, kernel_or_bias in (("w", "kernel"), ("b", "bias")):
        fused = np.asarray(getattr(access.interface_linear, kernel_or_bias)[...])
        for name, part in zip(shapes, np.split(fused, cuts, axis=-1), strict=True):
            variables[ACCESS.format(name, kind)] = part
        for name, layer in ((GATES, cell.controller.gates), (OUTPUT, cell.output_linear)):
            variables[name.format(kind)] = np.asarray(getattr(layer, kernel_or_bias)[...])
    return variables


def _check_equations(cell: DNC) -> None:
    access, original = cell.access, DNCConfig.deepmind()
    same = (
        isinstance(cell.controller, LSTM)
        and cell.controller.forget_bias == original.forget_bias
        and type(access) is MemoryAccess
        and type(access.freeness) is Freeness
        and type(access.linkage) is TemporalLinkage
        and access.freeness.epsilon == original.allocation_epsilon
        and access.cosine_epsilon == original.cosine_epsilon
        and access.strength_activation == original.strength_activation
        and access.read_mode_order == original.read_mode_order
        and access.interface_linear.use_bias
        and cell.output_linear.use_bias
    )
    if not same:
        raise ValueError(
            "only a cell with the original's parts and equations (DNCConfig.deepmind) has the "
            "original's variables"
        )


def _check_names(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Any]) -> None:
    wanted = {ACCESS.format(name, kind) for name in shapes for kind in "wb"}
    wanted |= {name.format(kind) for name in (GATES, OUTPUT) for kind in "wb"}
    missing, unknown = sorted(wanted - set(arrays)), sorted(set(arrays) - wanted)
    if missing or unknown:
        raise ValueError(
            "not the variables of a google-deepmind/dnc model: "
            f"missing {missing or 'none'}, unknown {unknown or 'none'}"
        )


def _check_dtypes(arrays: Mapping[str, np.ndarray]) -> None:
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) != 1 or not jnp.issubdtype(next(iter(dtypes)), jnp.floating):
        raise ValueError(
            "the variables must all have one floating dtype; "
            f"got {', '.join(sorted(str(dtype) for dtype in dtypes))}"
        )
    (dtype,) = dtypes
    if jnp.asarray(np.zeros((), dtype)).dtype != dtype:
        raise ValueError(
            f"the variables are {dtype}, which JAX does not use as it stands: call "
            "jax.config.update('jax_enable_x64', True) first, or give variables of float32"
        )


def _check_shapes(arrays: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> None:
    wrong = [
        f"{name}: {array.shape}, must be {own[name].shape}"
        for name, array in arrays.items()
        if array.shape != own[name].shape
    ]
    if wrong:
        raise ValueError("variables that do not fit the given sizes:\n  " + "\n  ".join(wrong))
