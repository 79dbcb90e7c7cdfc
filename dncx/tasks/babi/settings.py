"""The settings of bAbI, apart from the task so that `--help` need not load JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

# The folders of the official archive. Those with 10k have 10,000 training questions for each task,
# the others 1,000; those with valid have a tenth of them in files of their own for validation.
Language = Literal[
    "en-10k", "en", "en-valid-10k", "en-valid", "hn-10k", "hn", "shuffled-10k", "shuffled"
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BabiSettings:
    """Stories are drawn uniformly from those of all chosen tasks."""

    name: ClassVar[str] = "babi"
    has_test_set: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("validation_share", "validation_seed", "longest")

    data_dir: Path | None = None
    """The official archive tasks_1-20_v1-2.tar.gz (also .zip or another .tar), or its folder."""
    language: Language = "en-10k"
    """The folder of the data: en-10k is the paper's, hn is Hindi, shuffled has no real words."""
    tasks: tuple[int, ...] = tuple(range(1, 21))
    """Numbers of the tasks to learn together."""
    partial: bool = False
    """Accept missing and incomplete files; the results then name them."""
    vocabulary: Literal["paper", "data"] = "paper"
    """paper: the 156 words of the English tasks; data: the words of the stories."""
    vocabulary_words: Annotated[tuple[str, ...], "hidden"] = ()
    """The words of vocabulary=data, in order: filled in from the data, kept in config.json."""
    validation_share: float | None = None
    """Share of the training stories kept for validation; 0.1 unless the data have their own."""
    validation_seed: int = 0
    """Seed that chooses these stories."""
    longest: int = 0
    """Leave stories of more words out of training; 0: none. Validation and test keep all."""
    num_buckets: int = 8
    """Stories are padded to the nearest of this many lengths, each compiled once."""
