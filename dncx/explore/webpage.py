"""The explorer: one self-contained HTML file that shows recordings of a DNC's memory.

The page is `static/page.html` with the style, the scripts and the recordings filled in. Arrays are
stored as integer codes, `low + scale * code`, all in one gzipped blob. A JSON header contains their
places, lows and scales, and the results of `decoding`.
"""

import base64
import dataclasses
import gzip
import html as escaping
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dncx.explore import decoding
from dncx.explore.record import EpisodeTrace, Trace
from dncx.runs.files import write_new
from dncx.settings.presets import DEFAULTS

STATIC = Path(__file__).parent / "static"
# In the order of use, since they share one scope.
SCRIPTS = ("data", "colours", "words", "panel", "time", "step", "links", "view", "picture", "app")
SHOWN = (
    "inputs",
    "targets",
    "outputs",
    "mask",
    "memory",
    "usage",
    "write_weights",
    "allocation_weights",
    "read_weights",
    "write_gate",
    "allocation_gate",
    "free_gate",
    "write_strengths",
    "read_strengths",
    "read_mode",
    "link",
)
# The largest arrays get one byte per number, all others two: the page of 100 steps with 64 slots
# stays near 1 MB.
BYTES = {"memory", "link", "read_ways"}
# Limits for one recording, so that a browser opens the page within seconds. Above the first, the
# page has no link matrix; above the second, it has the memory only at every few steps.
LINK_NUMBERS = 8_000_000
MEMORY_NUMBERS = 16_000_000
FRAME_HEIGHT = 900  # pixels


def page(
    trace: Trace, path: Path | str, *, compared: Trace | None = None, force: bool = False
) -> Path:
    """Writes the explorer, a self-contained HTML file.

    Args:
      trace: the trace to show.
      path: the file.
      compared: another trace, to show next to this one.
      force: whether to replace a file that exists.

    Raises:
      UsageError: if the file exists and `force` is not set.
    """
    return write_new(Path(path), html(trace, compared).encode(errors="replace"), force)


def frame(trace: Trace) -> str:
    """The page inside another one, as notebooks show it."""
    escaped = escaping.escape(html(trace))
    return (
        f'<iframe srcdoc="{escaped}" title="The memory at work" sandbox="allow-scripts '
        f'allow-downloads" style="width: 100%; height: {FRAME_HEIGHT}px; border: 0"></iframe>'
    )


def html(trace: Trace, compared: Trace | None = None) -> str:
    """The page. Its recordings are the episodes of `trace`, then those of `compared`."""
    header, blob = encode(trace, compared)
    text = json.dumps(header, allow_nan=False).replace("<", "\\u003c")
    scripts = (f"<script>\n{_static(f'{name}.js')}</script>" for name in SCRIPTS)
    parts = {
        "title": escaping.escape(str(header["title"])),
        "style": _static("style.css"),
        "header": text,
        "blob": base64.b64encode(gzip.compress(blob, mtime=0)).decode(),
        "scripts": "\n".join(scripts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _static("page.html"))


def encode(trace: Trace, compared: Trace | None = None) -> tuple[dict[str, Any], bytes]:
    """The header, as plain JSON, and the codes of all arrays.

    Each array starts at an even offset, as arrays of two-byte codes require.
    """
    blob = bytearray()
    traces = [trace] if compared is None else [trace, compared]
    titles = [one.title for one in traces]
    names = [
        *titles[:1],
        *(f"{name} (compared)" if name in titles[:1] else name for name in titles[1:]),
    ]
    recordings = [
        {"label": f"{name}, episode {number}", **_recording(one, number, blob)}
        for name, one in zip(names, traces, strict=True)
        for number in range(len(one))
    ]
    title = " and ".join(dict.fromkeys(titles))
    return {"title": title, "recordings": recordings}, bytes(blob)


def quantise(array: np.ndarray, kind: type[np.unsignedinteger]) -> tuple[np.ndarray, float, float]:
    """Codes, low and scale: `low + scale * codes` is within half a scale of `array`.

    Non-finite numbers count as 0.
    """
    exact = _finite(array.astype(np.float64))
    low, high = float(exact.min(initial=0)), float(exact.max(initial=0))
    scale = (high - low) / np.iinfo(kind).max
    return np.rint((exact - low) / (scale or 1.0)).astype(kind), low, scale


def _finite(array: np.ndarray) -> np.ndarray:
    return np.nan_to_num(array, nan=0, posinf=0, neginf=0)


def _recording(trace: Trace, number: int, blob: bytearray) -> dict[str, Any]:
    """The header's part about one episode; its codes are added to the end of `blob`."""
    episode = trace[number]
    arrays, every, notes = _arrays(episode)
    if notes:  # some numbers may be non-finite, which JSON does not have
        finite = {name: _finite(array) for name, array in episode.arrays().items()}
        episode = dataclasses.replace(episode, **finite)
    notes = [*trace.notes, *notes]
    successors = decoding.successors(episode)
    if not episode.num_directions:
        notes.append("This model has no links: it reads by content only.")
    elif episode.link is None and not notes:
        notes.append("This recording has no links.")
    return {
        "task": _settings(trace.about.get("task")),
        # The tasks that ship with dncx take logits; for a custom task this is not known.
        "outputs_are_logits": (trace.about.get("task") or {}).get("name") in DEFAULTS,
        "sizes": {
            "steps": episode.num_steps,
            "slots": episode.num_slots,
            "word": episode.memory.shape[2],
            "read_heads": episode.num_read_heads,
            "write_heads": episode.num_write_heads,
            "directions": episode.num_directions,
        },
        "scores": {name: f"{100 * score:.3g} %" for name, score in episode.scores.items()},
        "notes": notes,
        "words": episode.words and episode.words._asdict(),
        "memory_every": every,
        "arrays": {name: _keep(array, name, blob) for name, array in arrays.items()},
        "chains": None if successors is None else _keep(_chains(successors), "chains", blob),
        **_decoded(episode),
    }


def _arrays(episode: EpisodeTrace) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """The arrays that the page shows, the interval of steps with the memory, and notes."""
    present = episode.arrays()
    found = {name: present[name] for name in SHOWN if name in present}
    found["read_ways"] = np.moveaxis(decoding.read_ways(episode), 0, 1)
    notes = [
        f"{name}: {count} numbers are not finite and are shown as 0."
        for name, array in found.items()
        if (count := int((~np.isfinite(array)).sum()))
    ]
    if episode.link is not None and episode.link.size > LINK_NUMBERS:
        del found["link"]
        notes.append(
            f"The link matrix is left out of this page: {episode.link.size:,} numbers, more than "
            f"{LINK_NUMBERS:,}. The chain of writes is complete."
        )
    every = -(-episode.memory.size // MEMORY_NUMBERS)
    if every > 1:
        found["memory"] = episode.memory[::every]
        notes.append(f"The memory is shown at every {every}th step.")
    return found, every, notes


def _keep(array: np.ndarray, name: str, blob: bytearray) -> dict[str, Any]:
    """Adds the codes of an array to the end of `blob`, and returns how to read them."""
    kind = np.uint8 if name in BYTES else np.uint16
    codes, low, scale = (array, 0, 1) if name == "chains" else quantise(array, kind)
    offset = len(blob)
    blob += codes.astype(codes.dtype.newbyteorder("<")).tobytes()
    blob += bytes(len(blob) % 2)
    bits = 8 * codes.itemsize
    return {"shape": array.shape, "bits": bits, "low": low, "scale": scale, "offset": offset}


def _chains(successors: np.ndarray) -> np.ndarray:
    """`decoding.chains` of every step and write head, [T, M, length], with slots counted from 1.

    Zeros follow each chain.
    """
    rows = [
        [slot for chain in decoding.chains(links) for slot in [*(i + 1 for i in chain), 0]]
        for links in successors.reshape(-1, successors.shape[2])
    ]
    longest = max(map(len, rows))
    padded = [row + [0] * (longest - len(row)) for row in rows]
    return np.array(padded, np.uint16).reshape(*successors.shape[:2], longest)


def _decoded(episode: EpisodeTrace) -> dict[str, Any]:
    """The results of `decoding`, as lists of records."""
    gates = episode.allocation_gate
    found: dict[str, Any] = {
        "reads": decoding.reads(episode),
        "frees": decoding.frees(episode),
        "lifetimes": decoding.lifetimes(episode),
    }
    records = {name: [_record(one) for one in events] for name, events in found.items()}
    records["writes"] = [
        {**_record(one), "way": "allocated" if gates[one.step, one.head] > 0.5 else "by content"}
        for one in decoding.writes(episode)
    ]
    return records


def _record(record: Any) -> dict[str, Any]:
    """A record of `decoding` for JSON, with shares rounded to four places."""
    values = record._asdict().items()
    return {name: round(x, 4) if isinstance(x, float) else x for name, x in values}


def _settings(task: Mapping[str, Any] | None) -> str:
    """A description of a task: its name, and the settings that are set."""
    if not task:
        return ""
    name = task.get("name", "unknown")
    parts = [
        f"{key.replace('_', ' ')} {value}" for key, value in task.items() if key != "name" and value
    ]
    return f"Task: {name} ({', '.join(parts)})" if parts else f"Task: {name}"


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
