"""Files from strangers: what is whole is read as it was saved, anything else is refused in a line.

Random bytes, whole files with some bytes changed, and files that are sound in form and wrong in
content. No other exception, no memory beyond what the file itself can ask for, nothing written.
"""

import bz2
import contextlib
import copy
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from dncx import explore
from dncx.cli.listing import show_runs
from dncx.errors import UsageError
from dncx.explore.record import AXES, EpisodeTrace, Trace
from dncx.networks.build import make_network
from dncx.runs import checkpoints
from dncx.runs import directory as runs
from dncx.runs.codec import from_json, from_plain, to_json, to_plain
from dncx.runs.config import RunConfig, read_config, run_config
from dncx.runs.integrity import MANIFEST
from dncx.runs.manifest import Score, score_of
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import CONFIG, METRICS, MODEL, SHIPPED
from dncx.runs.progress import Progress, Validation
from dncx.runs.state import initial_state
from dncx.settings.commands import RunsSettings
from dncx.settings.training import OptimizerSettings, RunSettings, TrainSettings
from dncx.tasks.babi.buckets import best_widths
from dncx.tasks.babi.files import ROOT, file_name, read_files
from dncx.tasks.babi.stories import parse
from dncx.tasks.base import Words
from dncx.tasks.graphs.named_graphs import DATA, read_graph
from dncx.tasks.repeat_copy import RepeatCopy

LONGEST = 1500  # signs of a message; those on bAbI say where the data are to be had


def quick(examples):
    """As many examples, the same ones in every run, and nothing kept of them."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for the file at hand, in one that must stay as it is."""
    outer = tmp_path_factory.mktemp("outer")
    (outer / "inner").mkdir()
    return outer / "inner"


def read(load, path, content, kind=UsageError, named=""):
    """What a loader makes of a file; None if it refuses it as it should, by its name."""
    path.write_bytes(content)
    before = sorted(path.parent.parent.rglob("*"))
    found, refused = None, None
    try:
        found = load(path)
    except kind as error:
        refused = str(error)
    assert sorted(path.parent.parent.rglob("*")) == before
    assert refused is None or path.name in refused or (named and named in refused)
    # The type checker of the tests, which users have not, tells all that it saw.
    assert refused is None or len(refused) < LONGEST or "Type-check error" in refused
    return found


def peak(load, path, kind=UsageError):
    """The most memory that a loader took to refuse a file."""
    tracemalloc.start()
    try:
        with pytest.raises(kind) as error:
            load(path)
        assert len(str(error.value)) < LONGEST
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def damaged(whole):
    """Random bytes, or a whole file that is cut, or in which some bytes are others."""
    places = st.integers(0, len(whole) - 1)
    cuts = st.builds(lambda end: whole[:end], places)
    put = st.tuples(places, st.integers(0, 8), st.binary(max_size=8))
    others = st.lists(put, min_size=1, max_size=4).map(lambda puts: changed(whole, puts))
    return st.one_of(st.binary(max_size=300), cuts, others)


def changed(whole, puts):
    for start, length, new in puts:
        whole = whole[:start] + new + whole[start + length :]
    return whole


DEEP = json.loads(200 * "[" + 200 * "]")
ODD = [None, True, 0, -1, 3, 2**70, 10**400, 0.5, float("nan"), float("inf"), "", "x", 400 * "y",
       "\ud800", "..\n/etc/passwd", [], {}, [[]], ["x"], {"x": []}, DEEP]  # fmt: skip


def paths_of(tree, above=()):
    """The ways to all parts of some JSON."""
    yield above
    tree = dict(enumerate(tree)) if isinstance(tree, list) else tree
    for key, part in tree.items() if isinstance(tree, dict) else ():
        yield from paths_of(part, (*above, key))


def other_json(tree):
    """It, with up to three parts replaced by something odd, or removed."""
    put = st.tuples(st.sampled_from(list(paths_of(tree))), st.sampled_from([*ODD, "remove"]))
    return st.lists(put, min_size=1, max_size=3).map(lambda puts: replaced(tree, puts))


def replaced(tree, puts):
    tree = copy.deepcopy(tree)
    for path, odd in puts:
        part, value = tree, copy.deepcopy(odd)
        try:
            for key in path[:-1]:
                part = part[key]
            if not path:
                tree = value
            elif value == "remove":
                del part[path[-1]]
            else:
                part[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier one took it away
            continue
    return tree


# trace.npz


@functools.cache
def trace():
    """A small one, and its file."""
    sizes = {
        "T": 3,
        "N": 4,
        "W": 3,
        "R": 2,
        "M": 1,
        "L": 1,
        "K": 3,
        "F": 3,
        "O": 2,
        "Y": 2,
        "H": 5,
        "1+2*L": 3,
    }
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.random([sizes[axis] for axis in axes.split()], np.float32)
        for name, axes in AXES.items()
    }
    words = Words(("a", "b", "c"), ("", "", "d"), ("", "", "e"))
    made = Trace((EpisodeTrace(**arrays, words=words, scores={"error": 0.5}),), "one", {"seed": 3})
    with tempfile.TemporaryDirectory() as folder:
        return made, explore.save(made, Path(folder) / "t.npz").read_bytes()


@functools.cache
def members():
    """Those of its archive."""
    with zipfile.ZipFile(io.BytesIO(trace()[1])) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(contents, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(content, dtype="|u1", shape=None):
    """An array's file, whether or not its header is true."""
    shape = shape or (len(content),)
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def about():
    return json.loads(members()["about.npy"].partition(b"\n")[2])


def one_member_damaged():
    """Sound as an archive."""
    return st.sampled_from(sorted(members())).flatmap(
        lambda name: damaged(members()[name]).map(lambda new: zip_of(members() | {name: new}))
    )


def assert_same_trace(found):
    whole = trace()[0]
    assert (found.title, found.about, found[0].words) == (whole.title, whole.about, whole[0].words)
    for name, array in whole[0].arrays().items():
        np.testing.assert_array_equal(getattr(found[0], name), array)


@quick(150)
@given(content=st.deferred(lambda: damaged(trace()[1])))
def test_a_damaged_trace(place, content):
    """Checksums tell: what is loaded is what was saved."""
    if (found := read(explore.load, place / "t.npz", content)) is not None:
        assert_same_trace(found)


@quick(100)
@given(content=st.deferred(one_member_damaged))
def test_a_trace_with_another_member(place, content):
    read(explore.load, place / "t.npz", content)


@quick(150)
@given(told=st.deferred(lambda: other_json(about())))
def test_a_trace_that_says_something_else(place, told):
    said = npy(json.dumps(told).encode())
    found = read(explore.load, place / "t.npz", zip_of(members() | {"about.npy": said}))
    if found is not None:
        text = f"{found.title} {found[0].words} {found[0].scores} {found.about}"
        assert text.encode()
        assert all(f"{score:.2%}" for score in found[0].scores.values())


FOUR_BYTES = b"\x00\x00\x80\x3f"
BAD_MEMBERS = {
    "a way out": {"../../out.npy": npy(FOUR_BYTES, "<f4", (1,))},
    "from the root": {"/tmp/out.npy": npy(FOUR_BYTES, "<f4", (1,))},
    "no array": {"0.memory.npy": b"hello"},
    "no array about it": {"about.npy": b"{}", "about": b"{}"},
    "a pickle": {"0.memory.npy": npy(b"cos\nsystem\n(S'x'\ntR.", "|O", (1,))},
    "deep": {"about.npy": npy(100_000 * b"[")},
    "a header of many brackets": {"0.memory.npy": npy(b"", "<f4", 5000 * "(")},
    "endless sizes": {"0.memory.npy": npy(FOUR_BYTES, "<f4", (2**62, 2**62))},
    "less than none": {"0.memory.npy": npy(FOUR_BYTES, "<f4", (-1, -1, -1))},
    "too many axes": {"0.memory.npy": npy(FOUR_BYTES, "<f4", (1,) * 70)},
    "other numbers": {"0.memory.npy": npy(bytes(288), ">f4", (3, 4, 3))},
}


@pytest.mark.parametrize("bad", BAD_MEMBERS)
@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_members_that_no_trace_has(bad, compression, place):
    content = zip_of(members() | BAD_MEMBERS[bad], compression)
    assert read(explore.load, place / "t.npz", content) is None


def test_a_small_file_takes_little_memory(place):
    """A header of 16 GiB over nothing, and 600 MiB of zeros in 0.6 MB."""
    path = place / "t.npz"
    path.write_bytes(zip_of(members() | {"0.link.npy": npy(b"", "<f4", (2**32,))}))
    assert peak(explore.load, path) < 2**22
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed as archive, archive.open("0.link.npy", "w") as file:
        for _ in range(600):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**22
    assert peak(explore.load, path) < 2**22
    path.unlink()


# Runs


@functools.cache
def run_files():
    """config.json and model.safetensors of a small network, untrained."""
    config = json.loads((SHIPPED / "memory-reuse" / CONFIG).read_text())
    config["network"]["cell"] |= {"memory_size": 4, "hidden_size": 3}
    network = make_network(from_plain(config, RunConfig, "it").network, nnx.Rngs(0))
    progress = Progress(iteration=3, lesson=1, validation=Validation(error=0.5, iteration=3))
    with tempfile.TemporaryDirectory() as folder:
        params = nnx.to_pure_dict(nnx.split(network)[1])
        return config, runs.save_model(Path(folder), params, progress).read_bytes()


def config_bytes():
    whole = json.dumps(run_files()[0]).encode()
    other = other_json(run_files()[0]).map(lambda tree: json.dumps(tree).encode())
    return st.one_of(damaged(whole), other, st.just(100_000 * b"["))


@quick(200)
@given(content=st.deferred(config_bytes))
def test_a_damaged_configuration(place, content):
    """It is refused, or read as a record that gives the same when written and read again."""
    config = read(read_config, place / CONFIG, content)
    if config is not None:
        assert from_json(to_json(config), RunConfig, "it") == config


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("updates.batch_size", "16"),
        ("updates.batch_size", 2.5),
        ("updates.batch_size", 0),
        ("updates.truncation", None),
        ("updates.num_training_iterations", "remove"),
        ("network.kind", "perceptron"),
        ("network.cell.memory_size", True),
        ("network.cell.read_mode_order", "forward"),
        ("optimizer.surprise", 1),
        ("optimizer.learning_rate", [1e-3]),
        ("optimizer.warmup_iterations", True),
        ("optimizer.learning_rate_schedule", "steep"),
    ],
)
def test_a_setting_of_another_kind(part, value, place):
    other = replaced(run_files()[0], [(part.split("."), value)])
    (place / CONFIG).write_text(json.dumps(other))
    with pytest.raises(UsageError, match=part.rpartition(".")[2]):
        read_config(place / CONFIG)
    (place / CONFIG).unlink()


def test_what_training_writes_is_of_its_kinds():
    """Flags that have not their defaults, too."""
    settings = TrainSettings(
        task=RepeatCopy(),
        optimizer=OptimizerSettings(learning_rate=1.0, momentum=0.9, warmup_iterations=3),
        run=RunSettings(num_training_iterations=9, skip_spikes=3.0),
    )
    network = from_plain(run_files()[0], RunConfig, "it").network
    config = run_config(settings, network, "bits")
    plain = to_plain(config)
    plain["optimizer"]["learning_rate"] = 1  # as other programs may write 1.0
    assert from_plain(plain, RunConfig, "it") == config


def test_a_huge_configuration_is_not_read(place):
    path = place / CONFIG
    path.write_bytes(bytes(2**23))
    assert peak(read_config, path) < 2**20


@quick(100)
@given(config=st.deferred(config_bytes), model=st.deferred(lambda: damaged(run_files()[1])))
def test_a_damaged_run(place, config, model):
    """One of its two files is not what it was."""
    whole = json.dumps(run_files()[0]).encode()
    for name, content in ((CONFIG, config), (MODEL, model)):
        (place / CONFIG).write_bytes(whole)
        (place / MODEL).write_bytes(run_files()[1])
        read(lambda path: runs.load_run(path.parent), place / name, content, named=str(place))
    (place / CONFIG).unlink()
    (place / MODEL).unlink()


REPORT = b'{"iteration": 3, "loss": 0.5, "iterations_per_second": 1.5}\n'


@quick(100)
@given(content=st.one_of(damaged(3 * REPORT), other_json(json.loads(REPORT)).map(json.dumps)))
def test_damaged_metrics(place, content):
    """Lines are left out, and that is all."""
    content = content if isinstance(content, bytes) else content.encode()
    lines = read(read_metrics, place / METRICS, content + b"\n" + REPORT)
    assert all(isinstance(line, dict) for line in lines)
    assert lines[-1] == json.loads(REPORT)


@quick(100)
@given(data=st.data())
def test_a_folder_of_damaged_runs(tmp_path_factory, data):
    """`dncx runs` names each, whatever is in it."""
    folder = tmp_path_factory.mktemp("runs")
    drawn = {
        CONFIG: st.one_of(st.just(json.dumps(run_files()[0]).encode()), config_bytes()),
        METRICS: st.one_of(damaged(REPORT), other_json(json.loads(REPORT)).map(as_line)),
        MODEL: damaged(run_files()[1]),
    }
    for run in ("one", "t\nwo", "three\x1b[2J", "fo\udcffur"):
        (folder / run).mkdir()
        for name, contents in drawn.items():
            (folder / run / name).write_bytes(data.draw(contents))
    rows = json.loads(show_runs(RunsSettings(folder=folder, json=True)))
    assert len(rows) == 4
    assert all(row["problem"] or row["state"] for row in rows)
    lines = show_runs(RunsSettings(folder=folder)).splitlines()
    assert all(sum(name in line for line in lines) for name in ("one", "t?wo", "three?", "fo?ur"))
    assert all(line.isprintable() and len(line) < LONGEST for line in lines)
    shutil.rmtree(folder)


def as_line(tree):
    return json.dumps(tree).encode() + b"\n"


@quick(60)
@given(
    content=st.deferred(lambda: st.one_of(st.just(manifest_bytes()), damaged(manifest_bytes()))),
    state=st.sampled_from([b"state", b"", b"stale"]),
)
def test_a_damaged_manifest(place, content, state):
    """A checkpoint counts only if its manifest and every file named there are as they were."""
    checkpoint = place / "7"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "state").write_bytes(state)
    (checkpoint / MANIFEST).write_bytes(content)
    if (content, state) == (manifest_bytes(), b"state"):
        asked = from_plain(run_files()[0], RunConfig, "it")
        assert checkpoints.newest_intact(place)[0].manifest.config == asked
    else:
        with pytest.raises(UsageError, match=r"no checkpoint in .* is intact:\n  7: "):
            checkpoints.newest_intact(place)
    shutil.rmtree(checkpoint)


@quick(100)
@given(told=st.deferred(lambda: other_json(manifest_of())))
def test_a_manifest_with_other_content(place, told):
    """Its checksum fits, as anybody can compute it; what is found has a configuration."""
    checkpoint = place / "7"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "state").write_bytes(b"state")
    (checkpoint / MANIFEST).write_bytes(signed(told))
    with contextlib.suppress(UsageError):
        assert isinstance(checkpoints.newest_intact(place)[0].manifest.config, RunConfig)
    score_of(checkpoint)
    shutil.rmtree(checkpoint)


SCORES = [
    {"of": "loss", "value": "x"},
    {"of": "loss", "value": None},
    {"of": 3, "value": 0.5},
    {"of": "loss"},
    "ab",
    DEEP,
]


@pytest.mark.parametrize("score", SCORES)
def test_an_invalid_score(score, place):
    checkpoint = place / "7"
    checkpoint.mkdir()
    (checkpoint / "state").write_bytes(b"state")
    (checkpoint / MANIFEST).write_bytes(signed(manifest_of() | {"score": score}))
    assert score_of(checkpoint) is None
    with pytest.raises(UsageError, match="score"):
        checkpoints.newest_intact(place)
    score = {"of": "loss", "value": 0.5}
    (checkpoint / MANIFEST).write_bytes(signed(manifest_of() | {"score": score}))
    assert score_of(checkpoint) == Score("loss", 0.5)
    shutil.rmtree(checkpoint)


def test_a_manifest_that_cannot_be_read_has_no_score(place, monkeypatch):
    checkpoint = place / "7"
    checkpoint.mkdir()
    content = 100_000 * b"["
    digest = hashlib.sha256(content).hexdigest().encode()
    (checkpoint / MANIFEST).write_bytes(content + b"\n" + digest)
    assert score_of(checkpoint) is None

    def refuse(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert score_of(checkpoint) is None
    shutil.rmtree(checkpoint)


def test_a_huge_manifest_is_not_read(place):
    checkpoint = place / "7"
    checkpoint.mkdir()
    (checkpoint / MANIFEST).touch()
    os.truncate(checkpoint / MANIFEST, 2**30)
    assert peak(lambda _: checkpoints.newest_intact(place), place) < 2**20
    shutil.rmtree(checkpoint)


def test_a_checkpoint_takes_little_memory(place):
    """An array of three numbers in one piece of 2^26 zeros, which is small when packed."""
    state = initial_state({"w": jnp.zeros(3)}, optax.sgd(0.1))
    path = checkpoints.save(
        place / "kept",
        state,
        from_plain(run_files()[0], RunConfig, "it"),
        Progress(),
        checkpoints.ALL,
    )
    found, _ = checkpoints.newest_intact(path.parent)
    spec = {
        "driver": "zarr3",
        "kvstore": {
            "driver": "ocdbt",
            "base": f"file://{path}/state/state/",
            "path": "params.w/",
        },
        "metadata": {
            "shape": [3],
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**26]}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd"}],
        },
    }
    tensorstore.open(spec, create=True, delete_existing=True).result().write(
        np.zeros(3, np.float32)
    ).result()
    with pytest.raises(UsageError, match=r"params\.w \[3\] is in pieces of \[67108864\]"):
        checkpoints.load(found, state)
    shutil.rmtree(place / "kept")


def manifest_of():
    files = {"state": hashlib.sha256(b"state").hexdigest()}
    return {"config": run_files()[0], "progress": {}, "digest": "0", "files": files}


def manifest_bytes():
    return signed(manifest_of())


def signed(told):
    content = json.dumps(told).encode() + b"\n"
    return content + hashlib.sha256(content).hexdigest().encode()


# bAbI

STORIES = b"""1 Mary got the milk there.
2 Mary took the apple.
3 What is Mary carrying? \tmilk,apple\t1 2
1 John went to the park.
2 Where is John? \tpark\t1
"""
NAME = f"{ROOT}/en/{file_name(4, 'train')}"


def tar_of(*headers, content=STORIES):
    """Headers as they stand, each with the bytes that follow it, and a sound file."""
    blocks = [header + data + bytes(-len(data) % 512) for header, data in headers]
    member = tarfile.TarInfo(NAME)
    member.size = len(content)
    return b"".join(blocks) + member.tobuf() + content + bytes(-len(content) % 512) + bytes(1024)


def header(type=tarfile.REGTYPE, size=0, name="a", puts=()):
    """A header, some of its bytes changed, with a checksum that is right again."""
    member = tarfile.TarInfo(name)
    member.type, member.size = type, size
    raw = changed(member.tobuf(tarfile.GNU_FORMAT)[:512], puts)[:512].ljust(512, b"\0")
    total = sum(raw) - sum(raw[148:156]) + 8 * 32
    return raw[:148] + b"%06o\0 " % total + raw[156:]


def read_babi(path):
    files = read_files(path, "en", (4,), True)
    return [parse(file.content, file.name, file.task) for file in files]


def as_numbers(files):
    return [[(s.tokens.tolist(), s.answers.tolist()) for s in stories] for stories in files]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
@quick(50)
@given(content=damaged(tar_of()), packed=st.data())
def test_a_damaged_archive(place, pack, content, packed):
    """Damaged, then packed; and packed, then damaged."""
    for archive in (pack(content), packed.draw(damaged(pack(tar_of())))):
        read(read_babi, place / "babi", archive, ValueError, named=file_name(4, "train"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@quick(100)
@given(data=st.data())
def test_a_damaged_zip_of_stories(place, compression, data):
    packed = {f"{ROOT}/en/{file_name(4, 'test')}.gz": gzip.compress(STORIES)}
    archive = data.draw(damaged(zip_of({NAME: STORIES, **packed}, compression)))
    read(read_babi, place / "babi", archive, ValueError, named=file_name(4, "train"))


RECORDS = ["size", "path", "mtime", "hdrcharset", "GNU.sparse.map", "GNU.sparse.size",
           "GNU.sparse.realsize", "GNU.sparse.name", "GNU.sparse.major", "GNU.sparse.minor",
           "GNU.sparse.numblocks"]  # fmt: skip
VALUES = ["1", "0", "-1", "-512", str(2**60), "1e9", "x", "", "../../etc/passwd", NAME, "0,1,2"]


def record(name, value):
    """One of pax, which begins with its own length."""
    text, length = f" {name}={value}\n", 0
    while length != len(str(length) + text):
        length = len(str(length) + text)
    return f"{length}{text}".encode()


@quick(200)
@given(
    kinds=st.lists(st.sampled_from(list(b"0125678xgXLKSVM")), min_size=1, max_size=3),
    size=st.sampled_from([0, 1, 512, 2**33 - 1]),
    records=st.lists(st.builds(record, st.sampled_from(RECORDS), st.sampled_from(VALUES))),
    puts=st.lists(st.tuples(st.integers(0, 511), st.just(4), st.binary(min_size=4, max_size=4))),
    name=st.sampled_from(["a", NAME, f"../../{NAME}"]),
)
def test_headers_that_lie(place, kinds, size, records, puts, name):
    """Of all types, whose checksums are right."""
    data = b"".join(records)
    headers = [(header(bytes([kind]), size or len(data), name, puts), data) for kind in kinds]
    archive = tar_of(*headers)
    read(read_babi, place / "babi.tar", archive, ValueError, named=file_name(4, "train"))


BOMBS = {
    "a header of 100 MB": (header(b"x", 100 * 2**20), 100 * 2**20),
    "a name of 100 MB": (header(b"L", 100 * 2**20), 100 * 2**20),
    "a file of 100 MB": (header(b"0", 100 * 2**20, NAME), 100 * 2**20),
    "a size below 0": (header(b"x", 0, puts=[(124, 12, b"\xff" * 12)]), 100 * 2**20),
    "names upon names": (2000 * (header(b"L", 1) + bytes(512)), 0),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_archive_takes_little_memory(bomb, place):
    start, zeros = BOMBS[bomb]
    path = place / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(zeros // 2**20):
            file.write(bytes(2**20))
    assert peak(read_babi, path, ValueError) < 2**25
    path.unlink()


@quick(200)
@given(content=st.one_of(damaged(STORIES), st.text("12 Maryk.?\t\n").map(str.encode)))
def test_damaged_stories(place, content):
    """A line of the file is named; what is read is as long as it was, at most."""
    stories = read(lambda at: parse(at.read_bytes(), at.name, 4), place / "x", content, ValueError)
    assert stories is None or sum(story.length for story in stories) <= len(content)


def test_lengths_of_all_kinds_take_little_memory():
    tracemalloc.start()
    widths = best_widths([*range(1, 10**6, 7), 10**6], 2)
    assert tracemalloc.get_traced_memory()[1] < 2**30
    tracemalloc.stop()
    assert len(widths) == 2
    assert widths[-1] == 10**6


# Graphs


@quick(200)
@given(
    content=st.one_of(
        damaged((DATA / "family_tree.csv").read_bytes()),
        st.text('ab,"\n\r\0').map(lambda text: b"source,edge,destination\n" + text.encode()),
        st.just(b"source,edge,destination\n" + 200_000 * b"a"),
    )
)
def test_a_damaged_graph(place, content):
    """Every edge that is read leads from one of its nodes to another."""
    graph = read(read_graph, place / "graph.csv", content, ValueError)
    if graph is not None:
        there = np.arange(graph.destinations.shape[1]) < graph.degrees[:, None]
        sources = np.nonzero(there)[0]
        assert (graph.destinations[there] != sources).all()
        assert graph.destinations.max() < len(graph.nodes)


def test_a_huge_graph_is_not_read(place):
    path = place / "graph.csv"
    path.write_bytes(2**23 * b"\n")
    assert peak(read_graph, path, ValueError) < 2**20
