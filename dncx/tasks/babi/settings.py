"""The settings of bAbI, in their own module so that `--help` need not load JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

# The folders of the official archive. Those with 10k have 10,000 training questions for each task,
# the others 1,000; those with valid have a tenth of these in separate files for validation.
Language = Literal[
    "en-10k", "en", "en-valid-10k", "en-valid", "hn-10k", "hn", "shuffled-10k", "shuffled"
]


TaskSampling = Literal["stories", "mixed", "uniform"]
AuxiliaryWord = Literal["next", "present"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BabiSettings:
    """Stories are drawn from those of all chosen tasks, with replacement."""

    name: ClassVar[str] = "babi"
    has_test_set: ClassVar[bool] = True
    lists_wrong_answers: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = (
        "validation_share",
        "validation_seed",
        "task_sampling",
        "longest",
        "auxiliary_loss",
        "auxiliary_word",
    )

    data_dir: Path | None = None
    """The archive tasks_1-20_v1-2.tar.gz (or .zip), or its folder."""
    language: Language = "en-10k"
    """Folder of the data (the paper: en-10k; Hindi: hn)."""
    tasks: tuple[int, ...] = tuple(range(1, 21))
    """Numbers of the tasks to learn together."""
    partial: bool = False
    """Accept missing or incomplete files."""
    vocabulary: Literal["paper", "data"] = "paper"
    """The paper's 156 words, or those of the data."""
    vocabulary_words: Annotated[tuple[str, ...], "hidden"] = ()
    """The words of vocabulary=data, in order: taken from the data and kept in config.json."""
    validation_share: float | None = None
    """Share for validation; default: the data's own files, or 0.1."""
    validation_seed: int = 0
    """Seed that chooses the stories for validation."""
    task_sampling: TaskSampling = "stories"
    """Weight of a task: its number of stories, the square root, or 1."""
    longest: int = 0
    """Leave out training stories with more words; 0: keep all."""
    auxiliary_loss: float = 0.0
    """Weight of also predicting a word of the story at every step; 0: off."""
    auxiliary_word: AuxiliaryWord = "next"
    """The word that it predicts."""
    num_buckets: int = 8
    """Number of padded lengths of stories; each is compiled once."""
