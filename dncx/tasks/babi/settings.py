"""The settings of bAbI, apart from the task so that `--help` need not load JAX."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class BabiSettings:
    """Stories are drawn uniformly from those of all the tasks chosen."""

    name: ClassVar[str] = "babi"

    data_dir: Path | None = None
    """The official archive tasks_1-20_v1-2.tar.gz (.tar.xz too), or the folder unpacked from it."""
    language: Literal["en-10k", "en"] = "en-10k"
    """The data's folder: en-10k (the paper's) has 10,000 training questions a task, en 1,000."""
    tasks: tuple[int, ...] = tuple(range(1, 21))
    """Numbers of the tasks to learn together."""
    partial: bool = False
    """Go on where files are missing or incomplete; the results then say which."""
    validation_share: float = 0.1
    """Share of each task's training stories that is kept for validation."""
    validation_seed: int = 0
    """Which stories those are."""
    longest: int = 0
    """Leave longer stories out of training, counted in words; 0 keeps all. Tests keep all."""
    num_buckets: int = 8
    """Stories of like length are padded to one length; this many lengths, each compiled once."""
