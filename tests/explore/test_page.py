"""The explorer page as Python makes it; test_page_browser.py opens it."""

import base64
import gzip
import json
import re

import numpy as np
import pytest

from dncx.errors import UsageError
from dncx.explore import decoding, page, webpage
from dncx.explore.record import EpisodeTrace, Trace


def made(steps=12, slots=6, word=5, readers=2, writers=1, *, sharp=False, **changes):
    """An episode of random numbers; with `sharp`, each step writes the next slot."""
    rng = np.random.default_rng(0)

    def uniform(*shape):
        return rng.random(shape, np.float32)

    t, n, w, r, m = steps, slots, word, readers, writers
    written = uniform(t, m, n) / n
    if sharp:
        written = np.tile(np.eye(n, dtype=np.float32), (t // n + 1, 1))[:t, None].repeat(m, 1)
    arrays = dict(
        inputs=uniform(t, 3),
        outputs=uniform(t, 2) * 8 - 4,
        memory=uniform(t, n, w) * 6 - 3,
        usage=uniform(t, n),
        write_gate=uniform(t, m),
        allocation_gate=uniform(t, m),
        write_strengths=uniform(t, m) * 9,
        write_weights=written,
        allocation_weights=uniform(t, m, n),
        write_content_weights=uniform(t, m, n),
        write_keys=uniform(t, m, w),
        erase_vectors=uniform(t, m, w),
        write_vectors=uniform(t, m, w),
        free_gate=uniform(t, r),
        read_strengths=uniform(t, r) * 9,
        read_mode=uniform(t, r, 1 + 2 * m),
        read_weights=uniform(t, r, n) / n,
        read_content_weights=uniform(t, r, n),
        forward_weights=uniform(t, r, m, n),
        backward_weights=uniform(t, r, m, n),
        read_keys=uniform(t, r, w),
        read_words=uniform(t, r, w),
        controller_output=uniform(t, 4),
    )
    return EpisodeTrace(**(arrays | changes))


@pytest.fixture(scope="module")
def trace():
    """Two episodes that write sharply, one with links."""
    link = np.random.default_rng(1).random((12, 1, 6, 6), np.float32)
    return Trace((made(sharp=True, link=link), made(sharp=True)), "memory-reuse")


def shown(episode):
    """The arrays that a page has of an episode."""
    ways = {"read_ways": np.moveaxis(decoding.read_ways(episode), 0, 1)}
    arrays = {name: x for name, x in episode.arrays().items() if name in webpage.SHOWN}
    return arrays | ways


def decoded(header, blob):
    """The arrays of a recording, by its header."""
    for name, told in header["arrays"].items():
        codes = np.frombuffer(
            blob, f"u{told['bits'] // 8}", int(np.prod(told["shape"])), told["offset"]
        )
        yield name, told, told["low"] + told["scale"] * codes.reshape(told["shape"])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-20, 20), (3, 4), (0, 0), (-1e-30, 1e-30), (-5, -2)]
)
def test_codes_are_within_half_a_scale(kind, low, high):
    array = np.random.default_rng(0).uniform(low, high, (50, 7)).astype(np.float32)
    codes, start, scale = webpage.quantise(array, kind)
    assert codes.dtype == kind
    error = np.abs(start + scale * codes.astype(np.float64) - array).max()
    assert error <= scale / 2 * (1 + 1e-6)
    assert (
        scale <= (max(high, 0) - min(low, 0)) / np.iinfo(kind).max * (1 + 1e-6) or not array.any()
    )


def test_what_is_not_finite_is_said():
    memory = made().memory.copy()
    memory[3, 2, 1], memory[4, 0, 0] = np.nan, np.inf
    header, blob = webpage.encode(Trace((made(memory=memory),)))
    recording = header["recordings"][0]
    assert "memory: 2 numbers are not finite and are shown as 0." in recording["notes"]
    arrays = {name: array for name, _, array in decoded(recording, blob)}
    assert abs(arrays["memory"][3, 2, 1]) < 0.02
    json.dumps(header, allow_nan=False)


def test_the_header_tells_how_to_read_every_array(trace):
    header, blob = webpage.encode(trace)
    assert [one["label"] for one in header["recordings"]] == [
        "memory-reuse, episode 0",
        "memory-reuse, episode 1",
    ]
    for recording, episode in zip(header["recordings"], trace.episodes, strict=True):
        expected = shown(episode)
        assert set(recording["arrays"]) == set(expected)
        for name, told, array in decoded(recording, blob):
            assert told["bits"] == (8 if name in webpage.BYTES else 16)
            assert np.abs(array - expected[name]).max() <= told["scale"] * 0.501, name
        assert recording["lifetimes"] == [
            {**life._asdict(), "read": life.read} for life in decoding.lifetimes(episode)
        ]


def test_the_parts_of_the_page_are_what_encode_gives(trace):
    text = webpage.html(trace)
    header, blob = webpage.encode(trace)
    found = re.search(r'id="header">(.*?)</script>', text, re.S)[1]
    assert json.loads(found) == json.loads(json.dumps(header))
    packed = re.search(r'id="blob">(.*?)</script>', text, re.S)[1]
    assert gzip.decompress(base64.b64decode(packed)) == blob


def test_a_title_twice_is_told_apart(trace):
    header, _ = webpage.encode(trace, trace)
    labels = [one["label"] for one in header["recordings"]]
    assert len(set(labels)) == 4
    assert labels[2] == "memory-reuse (compared), episode 0"


def test_a_file_is_replaced_with_force_only(tmp_path):
    trace = Trace((made(),))
    path = page(trace, tmp_path / "memory.html")
    whole = path.read_bytes()
    with pytest.raises(UsageError, match="force"):
        page(trace, path)
    assert page(trace, path, force=True).read_bytes() == whole
    assert [one.name for one in tmp_path.iterdir()] == ["memory.html"]


def test_a_notebook_gets_a_frame():
    text = Trace((made(),), '"><script>alert(1)</script>')._repr_html_()
    assert text.startswith("<iframe srcdoc=")
    assert text.count("<") == 2
    assert text.endswith("</iframe>")


def test_memory_of_some_steps(monkeypatch):
    monkeypatch.setattr(webpage, "MEMORY_NUMBERS", 100)
    header, _ = webpage.encode(Trace((made(),)))
    recording = header["recordings"][0]
    assert recording["memory_every"] == 4
    assert recording["arrays"]["memory"]["shape"] == (3, 6, 5)
    assert "The memory is shown at every 4th step." in recording["notes"]


def test_size():
    """100 steps, 64 slots, 4 read heads, and nothing that compresses."""
    link = np.random.default_rng(1).random((100, 1, 64, 64), np.float32)
    precedence = made(100, 64).usage[:, None]
    episode = made(100, 64, 32, 4, link=link, precedence_weights=precedence)
    assert len(webpage.html(Trace((episode,)))) < 1_500_000


def test_without_links_all_reads_are_by_content():
    """Whatever the memory of the arrays held before."""
    none, modes = np.zeros((12, 2, 0, 6), np.float32), np.ones((12, 2, 1), np.float32)
    episode = made(forward_weights=none, backward_weights=none, read_mode=modes)
    for _ in range(50):
        before = [np.full((12, 2, 6), np.nan, np.float32) for _ in range(10)]
        del before
        ways = decoding.read_ways(episode)
        np.testing.assert_array_equal(ways[:2], 0)
        np.testing.assert_array_equal(ways[2], episode.read_content_weights)
