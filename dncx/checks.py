"""Checks of the arguments of constructors, cells and `unroll`.

Each error names the wrong value and the correct form.
"""

import difflib
import functools
import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

Arguments = ParamSpec("Arguments")

FLOATS = ("float32", "float64", "bfloat16")


def check_size(name: str, value: Any) -> int:
    """The length of an axis as a Python integer.

    Raises:
      ValueError: if it is not an integer from 1 to 2^31 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) < 2**31:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least 1, below 2^31")
    return int(value)


def check_number(name: str, value: Any, optional: bool = False) -> Any:
    """A setting as a Python number.

    Args:
      name: name of the setting.
      value: a Python or NumPy number.
      optional: whether None is allowed.

    Raises:
      ValueError: if it is negative, non-finite, or not a number.
    """
    if optional and value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool) or not _is_finite(value) or value < 0:
        raise ValueError(f"{name}={value!r}: must be a finite number of at least 0")
    return value if isinstance(value, int | float) else float(value)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def check_flag(name: str, value: Any) -> bool:
    """A switch as a Python boolean; a string such as "False" would count as true.

    Raises:
      ValueError: if it is neither true nor false.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r}: must be True or False")
    return bool(value)


def check_dtype(name: str, dtype: Any) -> None:
    """Refuses a dtype in which a DNC cannot be trained.

    float16 overflows in the backward pass: gradients silently become infinite.

    Raises:
      ValueError: if it is not float32, float64 or bfloat16, or if it is float64 and JAX has
        float64 disabled.
    """
    try:
        found = jnp.dtype(dtype).name if dtype is not None else None
    except TypeError:
        found = None
    if found not in FLOATS:
        shown = found or repr(dtype)
        raise ValueError(f"{name}={shown}: must be one of {', '.join(FLOATS)}")
    if found == "float64" and jax.dtypes.canonicalize_dtype(jnp.float64) != jnp.float64:
        raise ValueError(
            f"{name}=float64: JAX converts it to float32 unless you first call "
            "jax.config.update('jax_enable_x64', True)"
        )


def check_features(cell: Any, shape: Any) -> None:
    """Refuses what is not the shape of one step's inputs of a cell.

    Raises:
      TypeError: if it is no shape.
      ValueError: if its last axis is not the cell's input_size.
    """
    name, size = type(cell).__name__, cell.input_size
    if not isinstance(shape, tuple | list):
        raise TypeError(
            f"initialize_carry takes the shape of one step's inputs, such as (16, {size}) for a "
            f"batch of 16; got a {type(shape).__name__}"
        )
    if not shape or shape[-1] != size:
        raise ValueError(
            f"this {name} takes inputs of {size} features, [*batch, {size}] at a step; "
            f"got {tuple(shape)}"
        )


def as_array(name: str, value: Any) -> Array:
    """`jnp.asarray` with an error that names the argument.

    Raises:
      TypeError: if the value cannot be converted to an array of real numbers.
    """
    array = value if isinstance(value, jax.Array) else _converted(name, value)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real numbers; got {array.dtype}")
    return array


def _converted(name: str, value: Any) -> Array:
    try:
        if any(isinstance(leaf, str | bytes) for leaf in jax.tree.leaves(value)):
            raise TypeError("text is not a number")  # JAX would take some for names of dtypes
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of numbers; got {_short(value)}: {error}"
        ) from error


def checked_arguments(
    config_class: type | None = None,
) -> Callable[[Callable[Arguments, None]], Callable[Arguments, None]]:
    """For an `__init__` with keyword-only `rngs`: errors that explain where an argument belongs.

    Args:
      config_class: class of the argument `config`, if there is one.
    """

    def decorate(init: Callable[Arguments, None]) -> Callable[Arguments, None]:
        own = list(inspect.signature(init).parameters)
        fields = list(inspect.signature(config_class).parameters) if config_class else []

        @functools.wraps(init)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            name = type(args[0]).__name__
            for key in kwargs:
                if key not in own:
                    raise TypeError(_wrong_argument(name, args[1:3], key, kwargs[key], own, fields))
            if not isinstance(kwargs.get("rngs"), nnx.Rngs | nnx.RngStream):
                given = _short(kwargs["rngs"]) if "rngs" in kwargs else "nothing"
                raise TypeError(
                    f"{name} needs rngs=nnx.Rngs(SEED) to draw its weights (from flax import nnx); "
                    f"got {given}"
                )
            init(*args, **kwargs)

        return checked

    return decorate


class InitSignature:
    """`__signature__ = InitSignature()` lets `help` show the arguments of a class's `__init__`.

    Flax's metaclass would show (*args, **kwargs).
    """

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:  # a callable module has another signature: its class knows it
            raise AttributeError("__signature__")
        signature = inspect.signature(owner.__init__)
        return signature.replace(parameters=[*signature.parameters.values()][1:])


def _wrong_argument(
    name: str, sizes: Any, key: str, value: Any, own: list[str], fields: list[str]
) -> str:
    near = [key] if key in fields else difflib.get_close_matches(key, [*fields, *own], 1)
    message = f"{name} has no argument {key}"
    if near and near[0] in fields:
        config = f"DNCConfig({near[0]}={value!r:.40})"
        call = ", ".join([*map(repr, sizes), config, "rngs=nnx.Rngs(0)"])
        return f"{message}; {near[0]} is a field of the config: {name}({call})"
    return f"{message}; did you mean {near[0]}?" if near else message


def check_config(config: Any, config_class: type) -> None:
    """Refuses a config of another class.

    Raises:
      TypeError: if it is not of `config_class`; the message says how to make one.
    """
    if not isinstance(config, config_class):
        name = config_class.__name__
        hint = f"; use {name}(**config) for a dictionary" if isinstance(config, dict) else ""
        raise TypeError(f"config must be a {name}; got {_short(config)}{hint}")


def check_instance(name: str, part: Any) -> None:
    """Refuses a class where an instance is needed.

    Raises:
      TypeError: if `part` is a class; the message names it.
    """
    if isinstance(part, type):
        raise TypeError(f"{name} must be an instance; got the class {part.__name__}")


def _short(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_state(name: str, given: Any, like: Any, *, cast: bool) -> Any:
    """A state with the structure, the shapes and the dtypes of another one.

    Args:
      name: name of the argument.
      given: the state that was passed.
      like: a state of the right structure; its arrays may be shapes and dtypes only.
      cast: whether arrays of other dtypes are converted or refused.

    Raises:
      ValueError: if a part is missing or unknown, or has the wrong shape or dtype; the message
        names it.
      TypeError: if a part is not an array of numbers.
    """
    if jax.tree.structure(given) != jax.tree.structure(like):
        raise ValueError(f"{name} must be like {_kind(like)}; {_difference(given, like)}")

    def convert(path: Any, own: Any, part: Any) -> Array:
        part_name = name + jax.tree_util.keystr(path)
        array = as_array(part_name, part)
        if array.shape != own.shape:
            raise ValueError(
                f"{part_name} must have shape {own.shape} for these inputs; got {array.shape}"
            )
        if array.dtype == own.dtype:
            return array
        if not cast:
            raise ValueError(f"{part_name} must be {own.dtype}; got {array.dtype}")
        return array.astype(own.dtype)

    return jax.tree_util.tree_map_with_path(convert, like, given)


def _difference(given: Any, like: Any) -> str:
    """The first parts in which two trees differ, or else their types."""
    wanted, found = _parts(like), _parts(given)
    missing, unknown = sorted(wanted - found), sorted(found - wanted)
    if missing:
        return f"got {_kind(given)} without {', '.join(missing[:3])}"
    if unknown:
        return f"got {_kind(given)} with {', '.join(unknown[:3])}"
    return f"got {_kind(given)}"


def _parts(tree: Any) -> set[str]:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path) for path, _ in paths}


def _kind(tree: Any) -> str:
    return f"a {type(tree).__name__}"
