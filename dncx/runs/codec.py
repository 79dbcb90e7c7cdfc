"""Conversion of frozen dataclasses to JSON and back, with strict types. No JAX here.

It uses msgspec instead of pydantic or cattrs because msgspec loads in 30 ms (the others take 200 or
more) and its errors name the field, the required type and the value found.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dncx.errors import UsageError

T = TypeVar("T")
_LONGEST = 400  # characters of an error


def to_plain(record: Any) -> Any:
    """A record as plain JSON values, equal to those that are read back.

    Paths become absolute, as a run may be read from anywhere.
    """
    # msgspec leaves out fields that it has not read, for example fields newer than a file.
    values: Any = record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        values = dataclasses.asdict(record)
    return _with_lists(msgspec.to_builtins(values, enc_hook=_encode, str_keys=True))


def _with_lists(plain: Any) -> Any:
    """Converts tuples, which msgspec keeps, to lists, since a tuple never equals a list."""
    if isinstance(plain, dict):
        return {name: _with_lists(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_with_lists(value) for value in plain]
    return plain


def to_json(record: Any) -> bytes:
    """A record as indented JSON with a final newline.

    Raises:
      UsageError: if a string, for example a file name, is not valid UTF-8.
    """
    try:
        return msgspec.json.format(msgspec.json.encode(to_plain(record)), indent=2) + b"\n"
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not valid UTF-8") from error


def from_json(content: bytes, kind: type[T], name: Path | str) -> T:
    """The record in `content`.

    Args:
      content: JSON.
      kind: a dataclass.
      name: the source of the content, for messages.

    Raises:
      UsageError: if it is not valid JSON, or a field is missing, unknown or has the wrong type; the
        message names the field, the required type and the value found.
    """
    return from_plain(parsed(content, name), kind, name)


def parsed(content: bytes, name: Path | str) -> Any:
    """The plain values of strict JSON: no NaN or infinity, valid UTF-8. Errors: see `from_json`."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is not valid JSON: {_short(error)}") from error


def from_plain(plain: Any, kind: type[T], name: Path | str, *, partial: bool = False) -> T:
    """`from_json` for values that are decoded already; `partial` accepts unknown fields."""
    try:
        record = msgspec.convert(plain, kind, dec_hook=_decode)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise UsageError(f"{name}: {_short(error)}") from error
    unknown = [] if partial else _unknown_fields(plain, to_plain(record))
    if unknown:
        raise UsageError(
            f"{name}: unknown fields {', '.join(unknown)[:_LONGEST]}; did a newer dncx write it?"
        )
    return record


def finite_or_name(number: float) -> float | str:
    """A number for JSON: "nan", "inf" and "-inf" represent non-finite numbers."""
    return number if math.isfinite(number) else str(number)


def _short(error: Exception) -> str:
    """An error in a bounded number of characters: it may quote a value of any length."""
    text = str(error)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} ... {text[-90:]}"


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _decode(kind: Any, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _unknown_fields(given: Any, known: Any, path: str = "$") -> list[str]:
    """The fields of `given` that a record does not have, which msgspec ignores."""
    if not (isinstance(given, dict) and isinstance(known, dict)):
        return []
    found = [f"{path}.{name}" for name in given if name not in known]
    for name in given.keys() & known.keys():
        found += _unknown_fields(given[name], known[name], f"{path}.{name}")
    return found
