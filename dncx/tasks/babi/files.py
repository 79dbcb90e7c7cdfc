"""Reads bAbI's files from the official archive, without unpacking it, or from its folder."""

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

FileSplit = Literal["train", "test"]
FILE_SPLITS: tuple[FileSplit, ...] = ("train", "test")
ROOT = "tasks_1-20_v1-2"
NAMES = (
    "single-supporting-fact",
    "two-supporting-facts",
    "three-supporting-facts",
    "two-arg-relations",
    "three-arg-relations",
    "yes-no-questions",
    "counting",
    "lists-sets",
    "simple-negation",
    "indefinite-knowledge",
    "basic-coreference",
    "conjunction",
    "compound-coreference",
    "time-reasoning",
    "basic-deduction",
    "basic-induction",
    "positional-reasoning",
    "size-reasoning",
    "path-finding",
    "agents-motivations",
)
HOW = (
    f"give --data_dir the archive {ROOT}.tar.gz of the bAbI project (Facebook AI Research, "
    "https://research.facebook.com/downloads/babi/; a copy: "
    f"https://s3.amazonaws.com/text-datasets/babi_{ROOT}.tar.gz), or the folder unpacked from it"
)
# An archive comes from strangers. The official files of these folders have up to 6 MB.
MAX_FILE, MAX_ARCHIVE = 2**25, 2**30


class File(NamedTuple):
    """One task's stories for training, or for the test."""

    task: int
    split: FileSplit
    name: str  # language/file, for messages
    text: bytes


def file_name(task: int, split: FileSplit) -> str:
    """The official name; of a partial file, all but ".txt" is the same."""
    return f"qa{task}_{NAMES[task - 1]}_{split}.txt"


def read_files(
    data_dir: Path | None, language: str, tasks: Sequence[int], partial: bool
) -> list[File]:
    """The files of the tasks, in order.

    Args:
      data_dir: the archive, the folder unpacked from it, or its folder of the language.
      language: that folder's name.
      tasks: their numbers.
      partial: take what there is of a file (`<official name>.PARTIAL-<what>.txt`), or nothing.

    Raises:
      ValueError: there are no such data, they are broken, or files are missing.
    """
    if data_dir is None:
        raise ValueError(f"data_dir is not given: {HOW}")
    data_dir = Path(data_dir)
    if not data_dir.exists():
        raise ValueError(f"data_dir={data_dir}: there is no such file or folder; {HOW}")
    contents: dict[str, bytes] = {}
    for name, text in (_folder if data_dir.is_dir() else _archive)(data_dir, language):
        if name in contents:
            raise ValueError(f"{data_dir}: {language}/{name} is in it twice")
        contents[name] = text
    files, missing = [], []
    for task in tasks:
        for split in FILE_SPLITS:
            name = file_name(task, split)
            parts = sorted(n for n in contents if n.startswith(f"{name[:-4]}.PARTIAL"))
            if name not in contents:
                missing.append(name + "".join(f" (there is {part})" for part in parts))
            found = [name] if name in contents else parts[:1]
            files += [File(task, split, f"{language}/{n}", contents[n]) for n in found]
    if missing and not partial:
        raise ValueError(
            f"{data_dir}: missing in {language}:\n  " + "\n  ".join(missing) + f"\nFor all: {HOW}. "
            "To go on without: --tasks with other tasks, or --partial, and the results will say so"
        )
    return files


def _wanted(name: str) -> bool:
    return re.fullmatch(r"qa\d+_[a-z-]+_(train|test)(\.PARTIAL[\w.-]*)?\.txt", name) is not None


def _folder(path: Path, language: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files, given any of three levels of folders."""
    levels = [path / ROOT / language, path / language]
    if path.resolve().name == language:
        levels.append(path)
    folder = next((level for level in levels if level.is_dir()), None)
    if folder is None:
        raise ValueError(f"data_dir={path}: there is no folder {language} in it; {HOW}")
    for file in sorted(folder.iterdir()):
        if _wanted(file.name) and file.is_file():
            _check_size(file, file.name, file.stat().st_size)
            yield file.name, file.read_bytes()


def _archive(path: Path, language: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files; nothing is written to the disk."""
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if member.size < 0 or member.offset_data + member.size > MAX_ARCHIVE:
                    raise tarfile.ReadError(f"not 0 to {MAX_ARCHIVE} bytes")
                *_, folder, name = ("", "", *PurePosixPath(member.name).parts[-2:])
                if folder != language or not _wanted(name):
                    continue
                _check_size(path, name, member.size)
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ValueError(f"{path}: {member.name} is not a plain file; {HOW}")
                yield name, content.read()
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"data_dir={path}: not a whole archive, or none at all ({reason}); {HOW}"
        ) from error


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_FILE:
        raise ValueError(f"{path}: {name} has {size} bytes, more than {MAX_FILE}; {HOW}")
