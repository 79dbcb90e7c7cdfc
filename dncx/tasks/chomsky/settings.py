"""The settings of the formal languages, in their own module so that `--help` need not load JAX."""

import dataclasses
from typing import ClassVar, Literal

# Four regular languages, four deterministic context-free ones, and seven context-sensitive ones.
LanguageName = Literal[
    "even-pairs",
    "modular-arithmetic",
    "parity-check",
    "cycle-navigation",
    "stack-manipulation",
    "reverse-string",
    "modular-arithmetic-brackets",
    "solve-equation",
    "duplicate-string",
    "missing-duplicate",
    "odds-first",
    "binary-addition",
    "binary-multiplication",
    "compute-sqrt",
    "bucket-sort",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChomskySettings:
    """Lengths are drawn uniformly between their bounds, both included."""

    name: ClassVar[str] = "chomsky"

    language: LanguageName = "reverse-string"
    """The formal language (docs/tasks.md)."""
    min_length: int = 1
    """Smallest number of input tokens."""
    max_length: int = 40
    """Largest number of input tokens."""
