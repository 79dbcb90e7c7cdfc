"""Reads bAbI's files from an archive, without unpacking it, or from a folder."""

import bz2
import functools
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

from dncx.tasks.babi.settings import Language

FileSplit = Literal["train", "valid", "test"]
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
    f"set --data_dir to the archive {ROOT}.tar.gz of the bAbI project (Facebook AI Research, "
    "https://research.facebook.com/downloads/babi/; a copy: "
    f"https://s3.amazonaws.com/text-datasets/babi_{ROOT}.tar.gz), or the folder unpacked from it"
)
# The official files have up to 6 MB, and a language has 60 of them. A forged archive must not fill
# the memory, so larger files are not read.
MAX_FILE, MAX_FILES, MAX_ARCHIVE = 2**25, 2**28, 2**30  # bytes
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    struct.error,
    RuntimeError,  # from zipfile: a password is needed, or the compression is unknown
)
_DECOMPRESS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_NAME = re.compile(
    r"qa([0-9]{1,2})_(?:([a-z-]+)_)?(train|valid|test)(\.PARTIAL[\w.-]*?)?\.txt"
    f"({'|'.join(map(re.escape, _DECOMPRESS))})?"
)
_OTHER_ARCHIVES = {b"7z\xbc\xaf": "7z", b"Rar!": "RAR", b"\x28\xb5\x2f\xfd": "zstd"}
_ZIP = b"PK"


class File(NamedTuple):
    """One task's stories for training, validation or test."""

    task: int
    split: FileSplit
    name: str  # folder/file, for messages
    content: bytes


class _Name(NamedTuple):
    """The parts of a file name."""

    task: int
    split: FileSplit
    partial: bool  # it ends in .PARTIAL-<what>.txt
    compression: str  # the suffix after .txt, or ""


class _Member(NamedTuple):
    """A file in an archive or a folder."""

    folder: str  # only the last one
    name: str
    size: int
    read: Callable[[], bytes]


def has_validation(language: str) -> bool:
    """Whether a folder of the official data has files for validation."""
    return "valid" in language


def file_name(task: int, split: FileSplit, language: str = "en-10k") -> str:
    """The official name; of a partial file, all but ".txt" is the same."""
    title = "" if has_validation(language) else f"{NAMES[task - 1]}_"
    return f"qa{task}_{title}{split}.txt"


def read_files(
    data_dir: Path | None, language: str, tasks: Sequence[int], partial: bool
) -> list[File]:
    """The files of the tasks, in order.

    Args:
      data_dir: an archive or a folder. The files can be in a folder with the name of the language,
        at any depth in an archive and up to two folders deep in a folder, or without such a folder.
      language: the name of that folder.
      tasks: the numbers of the tasks.
      partial: accept incomplete files (`<official name>.PARTIAL-<what>.txt`) and missing ones.

    Raises:
      ValueError: if the data do not exist or are damaged, or if files are missing.
    """
    if data_dir is None:
        raise ValueError(f"data_dir is missing: {HOW}")
    data_dir = Path(data_dir)
    try:
        found = _files(data_dir, language)
    except OSError as error:
        raise ValueError(f"data_dir={data_dir}: {error.strerror}; {HOW}") from error
    files, missing = [], []
    for task in tasks:
        for split in get_args(FileSplit):
            complete, part = (found.get(_Name(task, split, cut, "")) for cut in (False, True))
            if complete is None and (split != "valid" or has_validation(language)):
                known = f" (there is {PurePosixPath(part.name).name})" if part else ""
                missing.append(file_name(task, split, language) + known)
            if file := complete or part:
                files.append(file)
    if missing and not partial:
        raise ValueError(
            f"data_dir={data_dir}: missing in {language}:\n  "
            + "\n  ".join(missing)
            + f"\nTo use all files, {HOW}. To train without the missing files, choose other "
            "--tasks, or add --partial; the results then name the missing files"
        )
    return files


def _files(data_dir: Path, language: str) -> dict[_Name, File]:
    """The files of a language by their parts; the names are without compression."""
    folders: defaultdict[str, dict[_Name, File]] = defaultdict(dict)
    total = 0
    for member in _members(data_dir):
        name = _parse_name(member.name)
        if name is None:
            continue
        found = folders[member.folder]
        if member.folder in get_args(Language) and member.folder != language:
            continue
        label = "/".join(filter(None, (member.folder, member.name)))
        if member.size > MAX_FILE:
            raise ValueError(
                f"data_dir={data_dir}: {label} has {member.size} bytes, more than {MAX_FILE}"
            )
        content = _content(member, name.compression, f"data_dir={data_dir}: {label}")
        name = name._replace(compression="")
        total += len(content)
        if total > MAX_FILES:
            raise ValueError(f"data_dir={data_dir}: the files have more than {MAX_FILES} bytes")
        if name in found:
            raise ValueError(
                f"data_dir={data_dir}: there are two files for task {name.task}, {name.split}: "
                f"{found[name].name} and {label}"
            )
        found[name] = File(name.task, name.split, label, content)
    return folders[_choose(data_dir, language, list(folders))]


def _choose(data_dir: Path, language: str, folders: list[str]) -> str:
    """The folder with the files: that of the language, or the only one if it has another name."""
    if language in folders:
        return language
    if languages := sorted(set(folders) & set(get_args(Language))):
        raise ValueError(
            f"data_dir={data_dir}: there is no folder {language} in it; for other folders, add "
            + " or ".join(f"--language={name}" for name in languages)
        )
    if len(folders) > 1:
        raise ValueError(
            f"data_dir={data_dir}: there is no folder {language} in it, and several others have "
            f"such files: {', '.join(sorted(folders))}; use one of these"
        )
    if not folders:
        raise ValueError(f"data_dir={data_dir}: there is no folder {language} in it; {HOW}")
    return folders[0]


def _parse_name(name: str) -> _Name | None:
    """The parts of an official name or a short one (qa1_train.txt); None for any other."""
    match = _NAME.fullmatch(name)
    if match is None or not 1 <= int(match[1]) <= len(NAMES):
        return None
    task, title = int(match[1]), match[2]
    if title not in (None, NAMES[task - 1]):
        return None
    split: Any = match[3]
    return _Name(task, split, match[4] is not None, match[5] or "")


def _members(path: Path) -> Iterator[_Member]:
    """All files that may be stories; they are read one at a time during the iteration."""
    if path.is_dir():
        return _in_folder(path.resolve())
    if not path.is_file():
        raise ValueError(f"data_dir={path}: there is no such file or folder; {HOW}")
    if _parse_name(path.name):
        raise ValueError(f"data_dir={path}: this is a single file of stories; use its folder")
    with path.open("rb") as file:
        start = file.read(8)
    for magic, kind in _OTHER_ARCHIVES.items():
        if start.startswith(magic):
            raise ValueError(
                f"data_dir={path}: {kind} archives are not supported; unpack it and use the folder"
            )
    return _in_archive(path, _in_zip if start.startswith(_ZIP) else _in_tar)


def _in_folder(path: Path) -> Iterator[_Member]:
    for pattern in ("qa*", "*/qa*", "*/*/qa*"):
        for file in sorted(path.glob(pattern)):
            if file.is_file():
                yield _Member(file.parent.name, file.name, file.stat().st_size, file.read_bytes)


def _in_archive(path: Path, members: Callable[[Path], Iterator[_Member]]) -> Iterator[_Member]:
    """The members of an archive; every error names the archive."""
    try:
        yield from members(path)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"data_dir={path}: not an intact archive ({reason}); {HOW}") from error


class _Header(tarfile.TarInfo):
    """A header of a tar archive; refused if its size is too large."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        """See `tarfile`, which reads the long name of a file at once, even if it is huge."""
        header = super().frombuf(buf, encoding, errors)
        largest = MAX_ARCHIVE if header.isreg() else MAX_FILE
        if not 0 <= header.size <= largest:
            raise tarfile.ReadError(f"{header.name} has {header.size} bytes, not 0 to {largest}")
        return header


def _in_tar(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
        for member in archive:
            if member.offset_data + member.size > MAX_ARCHIVE:
                raise tarfile.ReadError(f"it has more than {MAX_ARCHIVE} bytes")
            folder, name = _last_two(member.name)
            read = functools.partial(_read_tar, archive, member)
            yield _Member(folder, name, member.size, read)


def _read_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:  # a link, which could lead anywhere
        raise tarfile.ReadError("it is a link or a device")
    return content.read()


def _in_zip(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            folder, name = _last_two(member.filename.replace("\\", "/"))
            read = functools.partial(archive.read, member)
            yield _Member(folder, name, member.file_size, read)


def _last_two(name: str) -> tuple[str, str]:
    """The last folder of a path (or ""), and the file name."""
    path = PurePosixPath(name)
    return path.parent.name, path.name


def _content(member: _Member, compression: str, label: str) -> bytes:
    """The content of a member, decompressed if it has such a suffix; at most `MAX_FILE` bytes."""
    try:
        content = member.read()
        if compression:
            with _DECOMPRESS[compression](io.BytesIO(content)) as file:
                content = file.read(MAX_FILE + 1)
    except _UNREADABLE as error:
        raise ValueError(f"{label}: this file is not intact ({error})") from error
    if len(content) > MAX_FILE:
        raise ValueError(f"{label} has more than {MAX_FILE} bytes")
    return content
