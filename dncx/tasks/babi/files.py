"""Reads bAbI's files from the official archive, without unpacking it, or from its folder."""

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

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
# An archive comes from strangers. The official files of these folders have up to 6 MB, and there
# are 40; the archive has some hundred. What stands before a file is its long name at most.
MAX_FILE, MAX_FILES, MAX_ARCHIVE, MAX_BEFORE, MAX_MEMBERS = 2**25, 2**28, 2**30, 2**16, 2**13
BROKEN = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, ValueError, RecursionError)
BEFORE_A_FILE = tarfile.XHDTYPE + tarfile.XGLTYPE + tarfile.SOLARIS_XHDTYPE
BEFORE_A_FILE += tarfile.GNUTYPE_LONGNAME + tarfile.GNUTYPE_LONGLINK


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
    try:
        contents = _contents(data_dir, language)
    except OSError as error:
        raise ValueError(f"data_dir={data_dir}: {error.strerror}; {HOW}") from error
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


def _contents(data_dir: Path, language: str) -> dict[str, bytes]:
    """All that is there, by the name of its file."""
    if not (data_dir.is_file() or data_dir.is_dir()):
        raise ValueError(f"data_dir={data_dir}: there is no such file or folder; {HOW}")
    contents: dict[str, bytes] = {}
    for name, text in (_folder if data_dir.is_dir() else _archive)(data_dir, language):
        if name in contents:
            raise ValueError(f"{data_dir}: {language}/{name} is in it twice")
        contents[name] = text
        if sum(map(len, contents.values())) > MAX_FILES:
            raise ValueError(f"{data_dir}: its files have more than {MAX_FILES} bytes; {HOW}")
    return contents


_OFFICIAL = {file_name(task, split)[:-4] for task in range(1, 21) for split in FILE_SPLITS}


def _wanted(name: str) -> bool:
    match = re.fullmatch(r"([\w-]{1,60})(\.PARTIAL[\w.-]{0,100})?\.txt", name)
    return match is not None and match[1] in _OFFICIAL


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
            if file.stat().st_size > MAX_FILE:
                raise ValueError(f"{file}: it has more than {MAX_FILE} bytes; {HOW}")
            yield file.name, file.read_bytes()


class _Header(tarfile.TarInfo):
    """One of an archive, refused where it is not of a size that it may have."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        """See `tarfile`, which reads at once what stands before a file, whatever its size."""
        header = super().frombuf(buf, encoding, errors)
        most = MAX_BEFORE if header.type in BEFORE_A_FILE else MAX_ARCHIVE
        if not 0 <= header.size <= most:
            raise tarfile.ReadError(f"not 0 to {most} bytes")
        return header


def _archive(path: Path, language: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files; nothing is written to the disk."""
    try:
        with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
            for count, member in enumerate(archive):
                if member.size < 0 or member.offset_data + member.size > MAX_ARCHIVE:
                    raise tarfile.ReadError(f"not 0 to {MAX_ARCHIVE} bytes")
                if count >= MAX_MEMBERS:
                    raise tarfile.ReadError(f"more than {MAX_MEMBERS} members")
                *_, folder, name = ("", "", *PurePosixPath(member.name).parts[-2:])
                if folder == language and _wanted(name):
                    yield name, _content(archive, member, name)
    except (*BROKEN, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"data_dir={path}: not a whole archive, or none at all ({reason}); {HOW}"
        ) from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise tarfile.ReadError(f"{name} is not a plain file")
    if member.size > MAX_FILE:
        raise tarfile.ReadError(f"{name} has {member.size} bytes, more than {MAX_FILE}")
    return content.read()
