"""The data, split as in the paper into training, validation and test."""

import math
from typing import Literal, NamedTuple, get_args

import numpy as np

from dncx.tasks.babi.files import File, FileSplit, file_name, read_files
from dncx.tasks.babi.settings import AuxiliaryWord, BabiSettings, Language, TaskSampling
from dncx.tasks.babi.stories import Story, parse, read_lines, words_of
from dncx.tasks.babi.vocabulary import LARGEST, PAPER, tokens_of

Split = Literal["train", "validation", "test"]
VALIDATION_SHARE = 0.1  # the paper's


class Gap(NamedTuple):
    """A file that is missing or incomplete."""

    task: int
    split: FileSplit
    found: int  # questions
    expected: int  # questions of the official file
    name: str  # of the official file

    def __str__(self) -> str:
        return (
            f"task {self.task}, {self.split}: {self.found:,} of {self.expected:,} questions "
            f"({self.name})"
        )


class Data(NamedTuple):
    """Stories in the order of their tasks and files."""

    splits: dict[Split, list[Story]]
    words: tuple[str, ...]  # the vocabulary
    gaps: tuple[Gap, ...]
    left_out: int  # training stories longer than `longest`


def check(settings: BabiSettings) -> None:
    """Refuses settings that are invalid for any data.

    Raises:
      ValueError: if a setting is out of range, or two settings exclude each other.
    """
    tasks, share = settings.tasks, settings.validation_share
    for name, choices in (
        ("language", get_args(Language)),
        ("task_sampling", get_args(TaskSampling)),
        ("auxiliary_word", get_args(AuxiliaryWord)),
    ):
        if getattr(settings, name) not in choices:
            value = getattr(settings, name)
            raise ValueError(f"{name}={value}: must be one of {', '.join(choices)}")
    if not tasks or len(set(tasks)) < len(tasks) or not all(1 <= task <= 20 for task in tasks):
        raise ValueError(f"tasks={tasks}: give each number once, from 1 to 20")
    if share is not None and not 0 <= share < 1:
        raise ValueError(f"validation_share={share}: must be in [0, 1)")
    for name, least in (("validation_seed", 0), ("longest", 0), ("num_buckets", 1)):
        value = getattr(settings, name)
        if not least <= value < 2**31:
            raise ValueError(f"{name}={value}: must be at least {least}, below 2^31")
    weight = settings.auxiliary_loss
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"auxiliary_loss={weight}: must be a finite number of at least 0")
    if settings.vocabulary_words and settings.vocabulary == "paper":
        raise ValueError("vocabulary_words: cannot be set with vocabulary=paper")


def load(settings: BabiSettings) -> Data:
    """Reads and splits the data.

    Raises:
      ValueError: if the data are missing, incomplete or malformed, or if no story is left for
        training.
    """
    check(settings)
    files = read_files(settings.data_dir, settings.language, settings.tasks, settings.partial)
    words = _vocabulary(settings, files)
    index = {token: number for number, token in enumerate(tokens_of(words))}
    advice = "--vocabulary=data takes the words from the data"
    if settings.vocabulary == "data":
        advice = "the model was trained without this word"
    stories: dict[tuple[int, FileSplit], list[Story]] = {
        (file.task, file.split): parse(file.content, file.name, file.task, index, advice)
        for file in files
    }
    gaps = _gaps(settings, stories)
    splits = _split(settings, stories)
    kept = [
        story
        for story in splits["train"]
        if not settings.longest or story.length <= settings.longest
    ]
    if not kept:
        raise ValueError(
            f"data_dir={settings.data_dir}: no stories are left for training; longest is "
            f"{settings.longest}, validation_share {settings.validation_share}"
        )
    left_out = len(splits["train"]) - len(kept)
    return Data({**splits, "train": kept}, words, gaps, left_out)


def _vocabulary(settings: BabiSettings, files: list[File]) -> tuple[str, ...]:
    """The words of the paper, of the run, or of the data."""
    if settings.vocabulary == "paper":
        return PAPER
    if settings.vocabulary_words:
        return settings.vocabulary_words
    found: set[str] = set()
    for file in files:
        found |= words_of(read_lines(file.content, file.name))
    if len(found) > LARGEST:
        raise ValueError(
            f"data_dir={settings.data_dir}: {len(found)} different words; at most {LARGEST} are "
            "supported"
        )
    return tuple(sorted(found))


def _split(
    settings: BabiSettings, stories: dict[tuple[int, FileSplit], list[Story]]
) -> dict[Split, list[Story]]:
    """The stories for each purpose; those for validation come from its files or are a share."""
    own = [task for task, split in stories if split == "valid"]
    share = settings.validation_share
    if own and share is not None:
        raise ValueError(
            f"validation_share={share}: the data already have stories for validation (task "
            f"{own[0]}: {file_name(own[0], 'valid', settings.language)}); leave this option out"
        )
    splits: dict[Split, list[Story]] = {"train": [], "validation": [], "test": []}
    for task in settings.tasks:
        for_training = stories.get((task, "train"), [])
        held_out = _held_out(len(for_training), task, settings, 0.0 if own else share)
        for story, held in zip(for_training, held_out, strict=True):
            splits["validation" if held else "train"].append(story)
        splits["validation"] += stories.get((task, "valid"), [])
        splits["test"] += stories.get((task, "test"), [])
    return splits


def _gaps(
    settings: BabiSettings, stories: dict[tuple[int, FileSplit], list[Story]]
) -> tuple[Gap, ...]:
    """The files whose number of questions differs from the official one.

    Training and validation are counted together, because their files divide the official training
    file.
    """

    def count(task: int, *splits: FileSplit) -> int:
        return sum(story.questions for split in splits for story in stories.get((task, split), []))

    for_training = 10_000 if settings.language.endswith("-10k") else 1000
    gaps = []
    for task in settings.tasks:
        train, test = (file_name(task, split, settings.language) for split in ("train", "test"))
        gaps += [
            Gap(task, "train", count(task, "train", "valid"), for_training, train),
            Gap(task, "test", count(task, "test"), 1000, test),
        ]
    gaps = [gap for gap in gaps if gap.found != gap.expected]
    if gaps and not settings.partial:
        raise ValueError(
            f"data_dir={settings.data_dir}: incomplete in {settings.language}:\n  "
            + "\n  ".join(map(str, gaps))
            + "\n--partial accepts these files, and the results then name them"
        )
    return tuple(gaps)


def _held_out(count: int, task: int, settings: BabiSettings, share: float | None) -> np.ndarray:
    """True for the validation stories of a task, independent of the other tasks."""
    share = VALIDATION_SHARE if share is None else share
    chosen = round(count * share)
    if share and count > 1:
        chosen = min(max(chosen, 1), count - 1)
    # RandomState, since its numbers are the same in every version of NumPy
    order = np.random.RandomState([settings.validation_seed, task]).permutation(count)
    held = np.zeros(count, bool)
    held[order[:chosen]] = True
    return held
