"""trace.npz: a trace as NumPy reads it, in a format that stays.

One archive for `numpy.load`, without pickle. Its arrays, float32, are named EPISODE.NAME with
episodes counted from 0 and the names of `EpisodeTrace`: "0.memory" is [T, N, W]. One array more,
"about", is UTF-8 JSON as bytes:

    format      "dncx-trace-1"
    title       whose trace it is
    about       more on it: `Trace.about`
    notes       what was left out, in words
    episodes    a list: "words" (inputs, targets, outputs, each a text a step, or null), "scores"

A reader may rely on every array that `EpisodeTrace` does not call optional. Another "format" means
that names or shapes have changed.
"""

import io
import json
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dncx.errors import UsageError
from dncx.explore.record import KINDS, OPTIONAL, EpisodeTrace, Trace
from dncx.runs.files import write_new
from dncx.tasks.base import Words

FORMAT = "dncx-trace-1"
BROKEN = (OSError, ValueError, EOFError, MemoryError, ArithmeticError, RuntimeError, zlib.error)
LARGEST = 4 * 2**30  # bytes of all arrays together: more than a page or a figure can show
# An archive comes from strangers, and zeros shrink to a thousandth: one that would unpack to more
# than SMALL may be so many times larger than its file. Numbers shrink to a half or a tenth.
SMALL, RATIO = 2**29, 100
LARGEST_ABOUT = 2**25  # bytes; as JSON it takes many times that
# What numpy writes in front of an array of the two dtypes; nothing of it is evaluated.
MAGIC = b"\x93NUMPY\x01\x00"
HEADER = re.compile(
    rb"\{'descr': '(<f4|\|u1)', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), \} *\n"
)


def save(trace: Trace, path: Path, force: bool = False) -> Path:
    """See `Trace.save`."""
    told = {
        "format": FORMAT,
        "title": trace.title,
        "about": dict(trace.about),
        "notes": list(trace.notes),
        "episodes": [
            {"words": episode.words and episode.words._asdict(), "scores": dict(episode.scores)}
            for episode in trace.episodes
        ],
    }
    arrays = {
        f"{number}.{name}": array
        for number, episode in enumerate(trace.episodes)
        for name, array in episode.arrays().items()
    }
    file = io.BytesIO()
    np.savez_compressed(file, about=_bytes(told), **arrays)  # pyright: ignore[reportArgumentType]
    return write_new(path, file.getvalue(), force)


def load(path: Path | str) -> Trace:
    """The trace in a trace.npz, checked.

    Raises:
      UsageError: it is not one, of another version, truncated, or its shapes do not fit together;
        the message names the file and the place.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive.infolist())
            found = {_name(member): _array(archive, member) for member in archive.infolist()}
    except (*BROKEN, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not a whole trace.npz: {_brief(error)}") from error
    told = _told(path, found.pop("about", None))
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, array in found.items():
        number, _, field = name.partition(".")
        parts.setdefault(number, {})[field] = array
    if set(parts) != {str(number) for number in range(len(told["episodes"]))}:
        numbers = _brief(", ".join(parts))
        raise UsageError(f"{path}: {len(told['episodes'])} episodes, arrays of {numbers}")
    episodes = tuple(
        _episode(f"{path}, episode {number}", parts[str(number)], said)
        for number, said in enumerate(told["episodes"])
    )
    try:
        json.dumps(told, ensure_ascii=False).encode()  # no halves of characters: none can be shown
        return Trace(episodes, told["title"], told["about"], tuple(told["notes"]))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: {_brief(error)}") from error


def _bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _told(path: Path, about: np.ndarray | None) -> dict[str, Any]:
    """The JSON of an archive."""
    try:
        told = json.loads(b"" if about is None else about.tobytes())
        version = told["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{path} is not a trace.npz: it does not say its format") from error
    if version != FORMAT:
        raise UsageError(f"{path} has the format {_brief(repr(version))}; this dncx reads {FORMAT}")
    kinds = {"title": str, "about": dict, "notes": list, "episodes": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(told.get(name), kind)]
    if wrong:
        raise UsageError(f"{path}: no {', '.join(sorted(wrong))} in its about, or another kind")
    return told


def _episode(place: str, arrays: dict[str, np.ndarray], said: Any) -> EpisodeTrace:
    unknown, missing = set(arrays) - set(KINDS), set(KINDS) - OPTIONAL - set(arrays)
    if unknown or missing:
        lines = [f"no {name}" for name in sorted(missing)] + [f"unknown {n}" for n in unknown]
        raise UsageError(f"{place}: {_brief(', '.join(lines))}")
    try:
        words = said["words"] and Words(**{k: tuple(v) for k, v in said["words"].items()})
        scores = dict(said["scores"])
        for score in scores.values():
            math.isnan(score)  # refuses what is no number, and what is too large for a float
        return EpisodeTrace(**arrays, words=words, scores=scores)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UsageError(f"{place}: {_brief(error)}") from error


def _check_sizes(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuses an archive that says it is too large, before anything of it is read."""
    total = sum(member.file_size for member in members)
    most = min(LARGEST, max(SMALL, RATIO * path.stat().st_size))
    if total > most:
        raise ValueError(f"its arrays have {total} bytes, more than {most}")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its members have one name")


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, once its header says the size that it has."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename}: neither stored nor deflated")
    if _name(member) == "about" and member.file_size > LARGEST_ABOUT:
        raise ValueError(f"its about has {member.file_size} bytes, more than {LARGEST_ABOUT}")
    with archive.open(member) as file:
        start = file.read(len(MAGIC) + 2)
        length = int.from_bytes(start[len(MAGIC) :], "little")
        header = HEADER.fullmatch(file.read(length))
        if not start.startswith(MAGIC) or header is None:
            raise ValueError(f"{member.filename}: must be an array of float32, the about of uint8")
        kind, order = header[1].decode(), "F" if header[2] == b"True" else "C"
        shape = tuple(int(size) for size in header[3].decode().replace(",", " ").split())
        size = math.prod(shape) * np.dtype(kind).itemsize
        if size != member.file_size - len(start) - length:
            raise ValueError(f"{member.filename}: its header is of {size} bytes, it is of others")
        return np.frombuffer(file.read(), kind).reshape(shape, order=order)


def _brief(what: object) -> str:
    """One line, however long what a stranger wrote."""
    return " ".join(str(what).split())[:200]
