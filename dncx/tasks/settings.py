"""The settings of every task, apart from the tasks so that `--help` need not load JAX."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatCopySettings:
    """Lengths and repeats are drawn uniformly between their bounds, both included."""

    num_bits: int = 4
    """Bits of each vector to copy."""
    min_length: int = 1
    """Lower bound of the number of vectors in a pattern."""
    max_length: int = 2
    """Upper bound of the number of vectors in a pattern."""
    min_repeats: int = 1
    """Lower bound of how often a pattern is to be repeated."""
    max_repeats: int = 2
    """Upper bound of how often a pattern is to be repeated."""
