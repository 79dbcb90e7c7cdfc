"""trace.npz: a trace in a stable format that NumPy reads.

It is an archive for `numpy.load`, without pickle. Its float32 arrays are named EPISODE.NAME, with
episodes counted from 0 and the names of `EpisodeTrace`: "0.memory" is [T, N, W]. Another array,
"about", is UTF-8 JSON as bytes:

    format      "dncx-trace-1"
    title       the model's name
    about       `Trace.about`
    notes       sentences about parts that were left out
    episodes    a list: "words" (inputs, targets, outputs, each one string per step, or null),
                "scores"

Every array that is not optional in `EpisodeTrace` is present. "format" changes when names or shapes
change.
"""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dncx.errors import UsageError
from dncx.explore.record import KINDS, OPTIONAL, EpisodeTrace, Trace
from dncx.runs.files import write_new
from dncx.tasks.base import Words

FORMAT = "dncx-trace-1"
LARGEST = 4 * 2**30  # bytes of all arrays together, more than a page or figure can show


def save(trace: Trace, path: Path | str, *, force: bool = False) -> Path:
    """Writes trace.npz (see `dncx.explore.archive`), completely or not at all.

    Args:
      trace: the trace.
      path: the file.
      force: whether to replace a file that exists.

    Raises:
      UsageError: if the file exists and `force` is not set.
    """
    about = {
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
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    return write_new(Path(path), file.getvalue(), force)


def load(path: Path | str) -> Trace:
    """Reads a trace.npz.

    Raises:
      UsageError: if the file does not exist, is damaged or from another version, or its shapes do
        not fit together; the message names the file and the place.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    arrays = _read(path)
    about = _about(path, arrays.pop("about", None))
    by_episode: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        number, _, field = name.partition(".")
        by_episode.setdefault(number, {})[field] = array
    if set(by_episode) != {str(number) for number in range(len(about["episodes"]))}:
        numbers = _brief(", ".join(by_episode))
        raise UsageError(f"{path}: {len(about['episodes'])} episodes, arrays of {numbers}")
    episodes = tuple(
        _episode(f"{path}, episode {number}", by_episode[str(number)], described)
        for number, described in enumerate(about["episodes"])
    )
    try:
        json.dumps(about, ensure_ascii=False).encode()  # refuses lone surrogates, as a page does
        return Trace(episodes, about["title"], about["about"], tuple(about["notes"]))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: {_brief(error)}") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > LARGEST:
                raise ValueError(f"its arrays have {total} bytes, more than {LARGEST}")
            return {
                member.filename.removesuffix(".npy"): _array(archive, member) for member in members
            }
    except Exception as error:  # zipfile, zlib, numpy and its tokenizer raise many kinds
        raise UsageError(f"{path} is not a valid trace.npz: {_brief(error)}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, read only if its header and its size agree.

    `numpy.load` would allocate as much memory as the header specifies.
    """
    with archive.open(member) as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype not in (np.float32, np.uint8):
            raise ValueError(f"{member.filename}: must be float32 (about: uint8); got {dtype}")
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename}: its size does not fit its shape {shape}")
        return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran_order else "C")


def _about(path: Path, array: np.ndarray | None) -> dict[str, Any]:
    """The JSON of an archive."""
    try:
        about = json.loads(b"" if array is None else array.tobytes())
        version = about["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{path} is not a trace.npz: it does not name its format") from error
    if version != FORMAT:
        raise UsageError(f"{path} has the format {_brief(repr(version))}; this dncx reads {FORMAT}")
    kinds = {"title": str, "about": dict, "notes": list, "episodes": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(about.get(name), kind)]
    if wrong:
        raise UsageError(
            f"{path}: in its about, {', '.join(sorted(wrong))} are missing or have a wrong type"
        )
    return about


def _episode(place: str, arrays: dict[str, np.ndarray], described: Any) -> EpisodeTrace:
    unknown, missing = set(arrays) - set(KINDS), set(KINDS) - OPTIONAL - set(arrays)
    if unknown or missing:
        lines = [f"no {name}" for name in sorted(missing)] + [f"unknown {n}" for n in unknown]
        raise UsageError(f"{place}: {_brief(', '.join(lines))}")
    try:
        words = described["words"] and Words(
            **{part: tuple(texts) for part, texts in described["words"].items()}
        )
        scores = {name: float(score) for name, score in described["scores"].items()}
        return EpisodeTrace(**arrays, words=words, scores=scores)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UsageError(f"{place}: {_brief(error)}") from error


def _brief(what: object) -> str:
    """One line of at most 200 characters, since the file may not be trustworthy."""
    return " ".join(str(what).split())[:200]
