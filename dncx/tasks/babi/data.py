"""The data as the paper split them: for training, validation and test."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from dncx.tasks.babi.files import FILE_SPLITS, HOW, FileSplit, file_name, read_files
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.babi.stories import Story, parse

Split = Literal["train", "validation", "test"]


class Gap(NamedTuple):
    """A file that is not there, or not whole."""

    task: int
    split: FileSplit
    found: int  # questions
    expected: int  # questions of the official file

    def __str__(self) -> str:
        return (
            f"task {self.task}, {self.split}: {self.found:,} of {self.expected:,} questions "
            f"({file_name(self.task, self.split)})"
        )


class Data(NamedTuple):
    """Stories in the order of their tasks and files."""

    splits: dict[Split, list[Story]]
    gaps: tuple[Gap, ...]
    left_out: int  # training stories longer than `longest`


def check(settings: BabiSettings) -> None:
    """Settings that need no data to be judged.

    Raises:
      ValueError: one of them is out of its range.
    """
    tasks = settings.tasks
    if not tasks or len(set(tasks)) < len(tasks) or not all(1 <= task <= 20 for task in tasks):
        raise ValueError(f"tasks={tasks}: give each number once, from 1 to 20")
    if not 0 <= settings.validation_share < 1:
        raise ValueError(f"validation_share={settings.validation_share}: must be in [0, 1)")
    for name, least in (("validation_seed", 0), ("longest", 0), ("num_buckets", 1)):
        value = getattr(settings, name)
        if not least <= value < 2**31:
            raise ValueError(f"{name}={value}: must be at least {least}, below 2^31")


def load(settings: BabiSettings) -> Data:
    """Reads and splits the data.

    Raises:
      ValueError: the data are not there, not whole or malformed, or nothing is left for training.
    """
    check(settings)
    files = read_files(settings.data_dir, settings.language, settings.tasks, settings.partial)
    stories: dict[tuple[int, FileSplit], list[Story]] = {
        (file.task, file.split): parse(file.text, file.name, file.task) for file in files
    }
    gaps = _gaps(settings, stories)
    splits: dict[Split, list[Story]] = {"train": [], "validation": [], "test": []}
    for task in settings.tasks:
        for_training = stories.get((task, "train"), [])
        held_out = _held_out(len(for_training), task, settings)
        for story, held in zip(for_training, held_out, strict=True):
            splits["validation" if held else "train"].append(story)
        splits["test"] += stories.get((task, "test"), [])
    kept = [
        story
        for story in splits["train"]
        if not settings.longest or story.length <= settings.longest
    ]
    if not kept:
        raise ValueError(f"{dataclasses.asdict(settings)}: no stories are left for training")
    left_out = len(splits["train"]) - len(kept)
    return Data({**splits, "train": kept}, gaps, left_out)


def _gaps(
    settings: BabiSettings, stories: dict[tuple[int, FileSplit], list[Story]]
) -> tuple[Gap, ...]:
    """Where a file has not as many questions as the official one."""
    expected = {"train": 10_000 if settings.language == "en-10k" else 1000, "test": 1000}
    gaps = []
    for task in settings.tasks:
        for split in FILE_SPLITS:
            found = sum(story.questions for story in stories.get((task, split), []))
            if found != expected[split]:
                gaps.append(Gap(task, split, found, expected[split]))
    if gaps and not settings.partial:
        raise ValueError(
            f"data_dir={settings.data_dir}: not whole in {settings.language}:\n  "
            + "\n  ".join(map(str, gaps))
            + f"\nFor all: {HOW}. To go on so: --partial, and the results will say so"
        )
    return tuple(gaps)


def _held_out(count: int, task: int, settings: BabiSettings) -> np.ndarray:
    """True for the stories of a task that are for validation: a task's own, whatever the others."""
    chosen = round(count * settings.validation_share)
    if settings.validation_share and count > 1:
        chosen = min(max(chosen, 1), count - 1)
    # RandomState, since its numbers are the same in every version of numpy
    order = np.random.RandomState([settings.validation_seed, task]).permutation(count)
    held = np.zeros(count, bool)
    held[order[:chosen]] = True
    return held
