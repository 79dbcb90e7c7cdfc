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
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dncx.errors import UsageError
from dncx.explore.record import KINDS, OPTIONAL, EpisodeTrace, Trace
from dncx.tasks.base import Words
from dncx.training.files import write_new

FORMAT = "dncx-trace-1"
BROKEN = (zipfile.BadZipFile, zlib.error, RuntimeError, tokenize.TokenError)
LARGEST = 4 * 2**30  # bytes of all arrays together: more than a page or a figure can show


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
        _check_size(path)
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (OSError, ValueError, EOFError, KeyError, MemoryError, *BROKEN) as error:
        raise UsageError(f"{path} is not a whole trace.npz: {error}") from error
    told = _told(path, found.pop("about", None))
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, array in found.items():
        number, _, field = name.partition(".")
        parts.setdefault(number, {})[field] = array
    if set(parts) != {str(number) for number in range(len(told["episodes"]))}:
        raise UsageError(f"{path}: {len(told['episodes'])} episodes, arrays of {', '.join(parts)}")
    episodes = tuple(
        _episode(f"{path}, episode {number}", parts[str(number)], said)
        for number, said in enumerate(told["episodes"])
    )
    try:
        return Trace(episodes, told["title"], told["about"], tuple(told["notes"]))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: {error}") from error


def _bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _told(path: Path, about: np.ndarray | None) -> dict[str, Any]:
    """The JSON of an archive."""
    try:
        told = json.loads(b"" if about is None else about.tobytes())
        version = told["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is not a trace.npz: it does not say its format") from error
    if version != FORMAT:
        raise UsageError(f"{path} has the format {version!r}; this dncx reads {FORMAT}")
    kinds = {"title": str, "about": dict, "notes": list, "episodes": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(told.get(name), kind)]
    if wrong:
        raise UsageError(f"{path}: no {', '.join(sorted(wrong))} in its about, or another kind")
    return told


def _episode(place: str, arrays: dict[str, np.ndarray], said: dict[str, Any]) -> EpisodeTrace:
    unknown, missing = set(arrays) - set(KINDS), set(KINDS) - OPTIONAL - set(arrays)
    if unknown or missing:
        lines = [f"no {name}" for name in sorted(missing)] + [f"unknown {n}" for n in unknown]
        raise UsageError(f"{place}: {', '.join(lines)}")
    try:
        words = said["words"] and Words(**{k: tuple(v) for k, v in said["words"].items()})
        return EpisodeTrace(**arrays, words=words, scores=dict(said["scores"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{place}: {error}") from error


def _check_size(path: Path) -> None:
    """Refuses an archive that says it is too large, before anything of it is read."""
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > LARGEST:
        raise ValueError(f"its arrays have {total} bytes, more than {LARGEST}")
