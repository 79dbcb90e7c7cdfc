"""The explorer: one HTML file that shows recordings of a DNC's memory, and needs nothing else.

The page is `static/page.html` with the style, the scripts and the recordings put in. Arrays travel
as whole numbers, `low + scale * code`, all in one gzipped blob; their places, lows and scales, and
what `decoding` found, stand in a header of JSON.
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

STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    "data",
    "colours",
    "words",
    "panel",
    "time",
    "step",
    "links",
    "view",
    "zip",
    "export",
    "app",
)
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
BYTES = {"memory", "link", "read_ways"}  # kept with one byte a number, all others with two
LINK_NUMBERS = 8_000_000  # of one recording; above, the page has no link matrix
MEMORY_NUMBERS = 16_000_000  # of one recording; above, the page has the memory of some steps
FRAME_HEIGHT = 900  # pixels


def write(path: Path, trace: Trace, compared: Trace | None, force: bool) -> Path:
    """See `Trace.page`."""
    return write_new(path, html(trace, compared).encode(), force)


def frame(trace: Trace) -> str:
    """The page inside another one, as notebooks show it."""
    page = escaping.escape(html(trace))
    return (
        f'<iframe srcdoc="{page}" title="The memory at work" sandbox="allow-scripts '
        f'allow-downloads" style="width: 100%; height: {FRAME_HEIGHT}px; border: 0"></iframe>'
    )


def html(trace: Trace, compared: Trace | None = None) -> str:
    """The whole page; its recordings are the episodes of `trace`, then those of `compared`."""
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
    """The header, as plain JSON, and the codes of all arrays, which start at even places."""
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
    """Codes, low and scale: `low + scale * codes` differs by half a scale at most from `array`.

    What is not finite counts as 0.
    """
    exact = _finite(array.astype(np.float64))
    low, high = float(exact.min(initial=0)), float(exact.max(initial=0))
    scale = (high - low) / np.iinfo(kind).max
    return np.rint((exact - low) / (scale or 1.0)).astype(kind), low, scale


def _finite(array: np.ndarray) -> np.ndarray:
    return np.nan_to_num(array, nan=0, posinf=0, neginf=0)


def _recording(trace: Trace, number: int, blob: bytearray) -> dict[str, Any]:
    """What the header says of one episode; its codes go to the end of `blob`."""
    episode = trace[number]
    arrays, every, notes = _arrays(episode)
    if notes:  # some numbers may not be finite, which JSON does not have
        finite = {name: _finite(array) for name, array in episode.arrays().items()}
        episode = dataclasses.replace(episode, **finite)
    notes = [*trace.notes, *notes]
    successors = decoding.successors(episode)
    if episode.link is None and not notes:
        notes.append("This recording has no links.")
    return {
        "task": _settings(trace.about.get("task")),
        "sizes": {
            "steps": episode.num_steps,
            "slots": episode.num_slots,
            "word": episode.memory.shape[2],
            "read_heads": episode.num_read_heads,
            "write_heads": episode.num_write_heads,
        },
        "scores": {name: f"{score:.4g}" for name, score in episode.scores.items()},
        "notes": notes,
        "words": episode.words and episode.words._asdict(),
        "memory_every": every,
        "arrays": {name: _keep(array, name, blob) for name, array in arrays.items()},
        "chains": None if successors is None else _keep(_chains(successors), "chains", blob),
        **_decoded(episode),
    }


def _arrays(episode: EpisodeTrace) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """The arrays that the page shows, how many steps apart its memory is, and notes on both."""
    there = episode.arrays()
    found = {name: there[name] for name in SHOWN if name in there}
    found["read_ways"] = np.moveaxis(decoding.read_ways(episode), 0, 1)
    notes = [
        f"{name}: {broken} numbers are not finite, and shown as 0."
        for name, array in found.items()
        if (broken := int((~np.isfinite(array)).sum()))
    ]
    if episode.link is not None and episode.link.size > LINK_NUMBERS:
        del found["link"]
        notes.append(
            f"The link matrix is left out of this page: {episode.link.size:,} numbers, more than "
            f"{LINK_NUMBERS:,}. The chain of writes comes from all of them."
        )
    every = -(-episode.memory.size // MEMORY_NUMBERS)
    if every > 1:
        found["memory"] = episode.memory[::every]
        notes.append(f"The memory is shown at every {every}th step.")
    return found, every, notes


def _keep(array: np.ndarray, name: str, blob: bytearray) -> dict[str, Any]:
    """Puts the codes of an array at the end of `blob`, and says how to read them."""
    kind = np.uint8 if name in BYTES else np.uint16
    codes, low, scale = (array, 0, 1) if name == "chains" else quantise(array, kind)
    offset = len(blob)
    blob += codes.astype(codes.dtype.newbyteorder("<")).tobytes()
    blob += bytes(len(blob) % 2)
    bits = 8 * codes.itemsize
    return {"shape": array.shape, "bits": bits, "low": low, "scale": scale, "offset": offset}


def _chains(successors: np.ndarray) -> np.ndarray:
    """`decoding.chains` of every step and write head, [T, M, length]: slots counted from 1, with
    zeros behind each chain.
    """
    rows = [
        [slot for chain in decoding.chains(links) for slot in [*(i + 1 for i in chain), 0]]
        for links in successors.reshape(-1, successors.shape[2])
    ]
    longest = max(map(len, rows))
    padded = [row + [0] * (longest - len(row)) for row in rows]
    return np.array(padded, np.uint16).reshape(*successors.shape[:2], longest)


def _decoded(episode: EpisodeTrace) -> dict[str, Any]:
    """What `decoding` found, as lists of records."""
    gates = episode.allocation_gate
    found: dict[str, Any] = {
        "reads": decoding.reads(episode),
        "frees": decoding.frees(episode),
        "lifetimes": decoding.lifetimes(episode),
    }
    told = {name: [_record(one) for one in records] for name, records in found.items()}
    told["writes"] = [
        {**_record(one), "way": "allocated" if gates[one.step, one.head] > 0.5 else "by content"}
        for one in decoding.writes(episode)
    ]
    return told


def _record(record: Any) -> dict[str, Any]:
    """A record of `decoding` as JSON has it, its shares to four places."""
    values = record._asdict().items()
    return {name: round(x, 4) if isinstance(x, float) else x for name, x in values}


def _settings(task: Mapping[str, Any] | None) -> str:
    """A task in words: its name and its settings."""
    if not task:
        return ""
    parts = [f"{name.replace('_', ' ')} {said}" for name, said in task.items() if name != "name"]
    return f"{task.get('name', 'a task')} ({', '.join(parts)})" if parts else str(task.get("name"))


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
