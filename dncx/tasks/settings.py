"""The settings of the tasks with bits, in their own module so that `--help` need not load JAX."""

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatCopySettings:
    """Lengths and repeats are drawn uniformly between their bounds, both included."""

    name: ClassVar[str] = "repeat-copy"

    num_bits: int = 4
    """Bits per vector."""
    min_length: int = 1
    """Smallest number of vectors in a pattern."""
    max_length: int = 2
    """Largest number of vectors in a pattern."""
    min_repeats: int = 1
    """Smallest number of repeats."""
    max_repeats: int = 2
    """Largest number of repeats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopySettings:
    """Lengths are drawn uniformly between their bounds, both included."""

    name: ClassVar[str] = "copy"

    num_bits: int = 8
    """Bits per vector."""
    min_length: int = 1
    """Smallest number of vectors in a sequence."""
    max_length: int = 20
    """Largest number of vectors in a sequence."""
    num_sequences: int = 1
    """Sequences in a series; each is recalled before the next one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssociativeRecallSettings:
    """The number of items is drawn uniformly between its bounds, both included."""

    name: ClassVar[str] = "associative-recall"

    num_bits: int = 6
    """Bits per vector."""
    item_length: int = 3
    """Vectors per item."""
    min_items: int = 2
    """Smallest number of items."""
    max_items: int = 6
    """Largest number of items."""


def check_counts(settings: Any, lowest: int = 1) -> None:
    """Refuses integers that are below `lowest` or too large for the axis of an array."""
    for name, value in dataclasses.asdict(settings).items():
        if isinstance(value, int) and not lowest <= value < 2**31:
            raise ValueError(f"{name}={value}: must be at least {lowest} and below 2^31")


def check_ranges(settings: Any) -> None:
    """Refuses a min_... value that is above its max_... value."""
    values = dataclasses.asdict(settings)
    for name, low in values.items():
        if name.startswith("min_") and low > values["max_" + name[4:]]:
            high = "max_" + name[4:]
            raise ValueError(f"{name}={low} is above {high}={values[high]}")
