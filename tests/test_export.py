"""What `dncx export` writes, in a process that has JAX and NumPy only, equals the library."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx

import dncx
from dncx import exporting, unroll
from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.exporting import export_programs
from dncx.networks.build import make_network
from dncx.networks.config import network_config
from dncx.runs import directory as runs
from dncx.runs.config import run_config, write_config
from dncx.runs.progress import Progress
from dncx.settings.training import ModelSettings, TrainSettings
from dncx.tasks.copy import Copy
from dncx.tasks.settings import CopySettings
from dncx.training.batches import data_of, sources

ROOT = Path(__file__).parent.parent
FILES = {"sequence.jax_export", "step.jax_export", "export.json"}
SMALL = {"hidden_size": 8, "memory_size": 6, "word_size": 4, "num_read_heads": 2}
NETWORKS = {
    "native elsewhere": {},
    "the paper's, two layers": {"equations": "nature", "num_layers": 2},
    "two write heads": {"num_write_heads": 2},
    "embedded": {"embedding_size": 3},
    "lstm": {"model": "lstm", "controller": "deep_lstm", "num_layers": 2},
    "feedforward": {"controller": "feedforward"},
    "no links": {"linkage": "none"},
    "variants": {
        "content_mask": True,
        "wipe_freed": True,
        "sharpen_links": True,
        "interface_norm": True,
        "controller_norm": True,
    },
}
# What a server does: whole sequences from the first state, then the same step by step, then the
# second half of the sequences from the state after the first.
SERVER = """
import json, sys
from pathlib import Path
import jax
import numpy as np
from jax import export

folder, batches = Path(sys.argv[1]), dict(np.load(sys.argv[2]))
about = json.loads((folder / "export.json").read_text())
load = lambda part: export.deserialize((folder / part["file"]).read_bytes())
sequence, step = (jax.jit(load(about["programs"][name]).call) for name in ("sequence", "step"))
found = {}
for name in sorted({key[1:] for key in batches}):
    x, lengths = batches["x" + name], batches["n" + name]
    def first():
        return [np.zeros([len(x) if n == "b" else n for n in array["shape"]], array["dtype"])
                for array in about["state"]]
    states, outputs = {}, {}
    states["whole"], outputs["whole"] = sequence(first(), x, lengths)
    state, steps = first(), []
    for t in range(x.shape[1]):
        state, y = step(state, x[:, t])
        steps.append(y)
    outputs["step"] = np.stack(steps, axis=1)
    half = x.shape[1] // 2 + 1
    full = np.full(len(x), half, np.int32)
    state, one = sequence(first(), x[:, :half], np.minimum(lengths, half))
    states["halves"], two = sequence(state, x[:, half:], np.maximum(lengths - half, 0))
    outputs["halves"] = np.concatenate([one, two], axis=1)
    found |= {f"{name} {kind} outputs": value for kind, value in outputs.items()}
    found |= {f"{name} {kind} {array['name']}": value for kind, state in states.items()
              for array, value in zip(about["state"], state, strict=True)}
np.savez(sys.argv[3], **found)
print([m for m in sys.modules if m.split(".")[0] in ("dncx", "flax", "optax", "safetensors")])
"""

pytestmark = pytest.mark.usefixtures("without_type_checks")


def fresh(code, *arguments, folder):
    """What a new process prints; the folder has no dncx."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env={**environment, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def make_run(folder, **model):
    """A run that was never trained: random weights."""
    task = Copy(num_bits=3, max_length=2)
    settings = TrainSettings(
        task=CopySettings(num_bits=3, max_length=2), model=ModelSettings(**SMALL | model)
    )
    config = network_config(settings.model, task.input_size, task.output_size)
    folder.mkdir()
    write_config(folder, run_config(settings, config, task.loss_unit))
    params = nnx.to_pure_dict(nnx.state(make_network(config, nnx.Rngs(3))))
    runs.save_model(folder, params, Progress(iteration=7))
    return folder


def expected(network, inputs, lengths):
    """By the library, in its fastest form."""
    outputs, state = jax.jit(unroll)(network, jnp.asarray(inputs), lengths=jnp.asarray(lengths))
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(state)
    ]
    return outputs, dict(zip(names, jax.tree.leaves(state), strict=True))


def check(network, folder, batches, outputs_only=False, **tolerance):
    """Every batch, whole and ragged, in all ways of calling; inputs [batch, time, features]."""
    random, given = np.random.default_rng(0), {}
    for number, inputs in enumerate(batches):
        batch, time = inputs.shape[:2]
        given |= {f"x{number} full": inputs, f"x{number} ragged": inputs}
        given[f"n{number} full"] = np.full(batch, time, np.int32)
        given[f"n{number} ragged"] = random.integers(0, time + 1, batch).astype(np.int32)
    np.savez(folder / "given.npz", **given)
    places = (folder / "export", folder / "given.npz", folder / "found.npz")
    assert fresh(SERVER, *places, folder=folder).strip() == "[]"
    with np.load(places[2]) as file:
        found = dict(file)
    for name in sorted({key[1:] for key in given}):
        outputs, state = expected(network, given["x" + name], given["n" + name])
        wanted = {"outputs": outputs} | ({} if outputs_only else state)
        for way in ("whole", "halves"):
            for part, array in wanted.items():
                np.testing.assert_allclose(found[f"{name} {way} {part}"], array, **tolerance)
        if name.endswith("full"):
            np.testing.assert_allclose(found[f"{name} step outputs"], outputs, **tolerance)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


FIRST, *OTHERS = NETWORKS


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (FIRST, [(3, 9)]),
        *later((FIRST, [(1, 5), (4, 8)]), *((name, [(3, 9)]) for name in OTHERS)),
    ],
)
def test_a_fresh_process_computes_the_same(name, sizes, tmp_path):
    run = make_run(tmp_path / "run", **NETWORKS[name])
    assert main(["export", str(run), f"--out={tmp_path / 'export'}"]) == 0
    random = np.random.default_rng(0)
    batches = [random.integers(0, 2, (*size, 4)).astype(np.float32) for size in sizes]
    # With these weights rounding chooses between equally free slots: the same rows, in other slots.
    outputs_only = name == "variants"
    check(runs.load_run(run)[1], tmp_path, batches, outputs_only=outputs_only, rtol=1e-4, atol=2e-5)


@pytest.mark.second_step
@pytest.mark.parametrize("name", ["memory-reuse", "associative-recall", "traversal"])
def test_models_that_ship(name, tmp_path, monkeypatch, capsys):
    """On their own episodes. The weights are most of the files.

    Of their states nothing is asked: among slots that are equally free rounding chooses, so the
    same words may lie in other ones. A trained network makes more of a rounding than a new one.
    """
    monkeypatch.chdir(tmp_path)
    assert main(["export", name, "--out=export"]) == 0
    task, network, _, _ = runs.load_run(name)
    weights = sum(x.nbytes for x in jax.tree.leaves(nnx.state(network)))
    sizes = [
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) bytes", capsys.readouterr().out)
    ]
    assert all(weights < size < weights + 40_000 for size in sizes[:2])
    source = sources(task, data_of(task))[0]
    batches = [np.asarray(source.sample(jax.random.key(n), n).inputs) for n in (1, 7)]
    check(network, tmp_path, batches, outputs_only=True, rtol=1e-3, atol=1e-3)


def test_export_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(make_run(tmp_path / "run"))]) == 0
    out = tmp_path / "run" / "export"
    about = json.loads((out / "export.json").read_text())
    assert {path.name for path in out.iterdir()} == FILES
    assert about["task"]["name"] == "copy"
    assert about["progress"]["iteration"] == 7
    assert about["run"]["name"] == "run"
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["state"][1] == {
        "name": "access_state.memory", "shape": ["b", 6, 4], "dtype": "float32", "initial": 0
    }  # fmt: skip
    takes = about["programs"]["sequence"]["takes"]
    assert takes[0] == {"name": "inputs", "shape": ["b", "t", 4], "dtype": "float32"}
    assert takes[1] == {"name": "lengths", "shape": ["b"], "dtype": "int32"}
    for name, digest in about["sha256"].items():
        content = (out / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert str(ROOT).encode() not in content, "no paths of the one who exports"


def test_more_memory_than_in_training(tmp_path):
    """And the same files from the same call."""
    run, digests = make_run(tmp_path / "run"), []
    for out in (tmp_path / "one", tmp_path / "two"):
        assert main(["export", str(run), "--memory_size=9", f"--out={out}"]) == 0
        about = json.loads((out / "export.json").read_text())
        assert about["state"][1]["shape"] == ["b", 9, 4]
        assert about["network"]["cell"]["memory_size"] == 9
        digests.append(about["sha256"])
    assert digests[0] == digests[1]


def test_exporting_leaves_the_network_as_it_is(tmp_path):
    network = make_network(network_config(ModelSettings(**SMALL), 9, 8), nnx.Rngs(0))
    programs = export_programs(network, 9)
    assert network.access.implementation is None
    assert programs["step"].platforms == ("cpu", "cuda", "tpu")


def test_a_cell_of_any_kind_from_python(tmp_path):
    """With outputs as the library computes them; a custom cell knows no task."""
    cell = nnx.OptimizedLSTMCell(3, 5, rngs=nnx.Rngs(0))
    files = dncx.export(cell, tmp_path / "one", input_size=3)
    assert {path.name for path in files} == FILES
    about = json.loads((tmp_path / "one" / "export.json").read_text())
    assert [array["shape"] for array in about["state"]] == [["b", 5], ["b", 5]]
    assert [array["initial"] for array in about["state"]] == [0, 0]
    program = jax.export.deserialize((tmp_path / "one" / "sequence.jax_export").read_bytes())
    inputs = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    zeros = [np.zeros((2, 5), np.float32)] * 2
    _, outputs = program.call(zeros, inputs, np.full(2, 4, np.int32))
    np.testing.assert_allclose(outputs, unroll(cell, inputs)[0], atol=1e-6)
    with pytest.raises(UsageError, match="input_size"):
        dncx.export(cell, tmp_path / "two")
    with pytest.raises(UsageError, match="has an export already"):
        dncx.export(cell, tmp_path / "one", input_size=3)
    assert dncx.export(cell, tmp_path / "one", input_size=3, force=True) == files
    start = cell.initialize_carry

    def changed(*given):
        one, two = start(*given)
        return one + 0.5, two + jnp.arange(5.0)[None]

    cell.initialize_carry = changed
    dncx.export(cell, tmp_path / "two", input_size=3)
    about = json.loads((tmp_path / "two" / "export.json").read_text())
    assert [array["initial"] for array in about["state"]] == [0.5, [0, 1, 2, 3, 4]]


def test_nothing_is_overwritten(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    out = tmp_path / "out"
    assert main(["export", str(run), f"--out={out}"]) == 0
    (out / "mine.txt").write_text("kept")
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert main(["export", str(run), "--memory_size=5", f"--out={out}"]) == 2
    assert "has an export already; --force replaces it" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.iterdir()}
    assert main(["export", str(run), "--memory_size=5", f"--out={out}", "--force"]) == 0
    after = {path: path.read_bytes() for path in out.iterdir()}
    assert before.keys() == after.keys()
    assert {path.name for path in before if before[path] != after[path]} == FILES


def test_a_disk_that_fills(tmp_path, monkeypatch, capsys):
    """What is half there has no export.json, also where an earlier export was replaced."""
    run = make_run(tmp_path / "run")
    assert main(["export", str(run)]) == 0

    def full(path, content):
        if path.name.startswith("step"):
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    monkeypatch.setattr(exporting, "write_whole", full)
    assert main(["export", str(run), "--force"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not (run / "export" / "export.json").exists()


REFUSED = {
    ("nowhere",): "there is no run nowhere",
    ("empty",): "empty is not a run directory",
    ("memory-reuse", "--memory_size=0"): "memory_size=0: must be a whole number of at least 1",
    ("memory-reuse", "--out=file"): "--out: file is not a directory",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_export_refuses(arguments, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("something of the user's")
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == 2
    assert REFUSED[arguments] in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "file"}


def test_without_flatbuffers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert main(["export", "memory-reuse"]) == 2
    assert 'pip install "dncx[export]"' in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_help_needs_no_jax(tmp_path):
    code = (
        "import atexit, sys; from dncx.cli.main import main;"
        "atexit.register(lambda: print('HEAVY', [m for m in ('jax', 'flax', 'numpy') if m in"
        " sys.modules])); main(['export', '--help'])"
    )
    assert "HEAVY []" in fresh(code, folder=ROOT)


@pytest.mark.second_step
def test_what_the_guide_shows(tmp_path):
    """Its example, in a fresh process, beside the folder that its command makes."""
    guide = (ROOT / "docs" / "serving.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S)
    assert "\ndncx export associative-recall\n" in guide
    out = tmp_path / "export" / "associative-recall"
    assert main(["export", "associative-recall", f"--out={out}"]) == 0
    told = fresh(example + "\nimport sys; print('dncx' in sys.modules)", folder=tmp_path)
    assert told.split() == ["(2,", "20,", "6)", "(1,", "6)", "False"]
