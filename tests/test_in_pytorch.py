"""examples/in_pytorch.py computes what dncx does. .ci/run runs these tests once it has PyTorch."""

import dataclasses
import importlib
import json
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.runs.directory import flat, load_model, nested
from dncx.runs.initial import initial_weights
from dncx.runs.paths import SHIPPED
from dncx.tasks.registry import TASKS

pytestmark = pytest.mark.pytorch
SMALL = dict(memory_size=5, word_size=3, num_read_heads=2, hidden_size=4)


@pytest.fixture(scope="module")
def torch():
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def example(torch):
    return importlib.import_module("examples.in_pytorch")


@pytest.fixture
def run(tmp_path):
    """A copy of a run that loads."""
    return shutil.copytree(SHIPPED / "associative-recall", tmp_path / "run")


def edit(run, change):
    """Changes the network in the config.json of a run."""
    path = run / "config.json"
    config = json.loads(path.read_text())
    change(config["network"])
    path.write_text(json.dumps(config))


def in_pytorch(example, torch, cell, config):
    """The same cell in PyTorch; options that it does not have are off."""
    names = {field.name for field in dataclasses.fields(example.Options)}
    options = {name: value for name, value in vars(config).items() if name in names}
    model = example.DNC(cell.input_size, cell.output_size, example.Options(**options)).double()
    weights = {
        name: torch.from_numpy(np.array(array))
        for name, array in flat(nnx.to_pure_dict(nnx.state(cell))).items()
    }
    model.load_state_dict(example.from_dncx(weights))
    return model


# Rounding grows from step to step, so that float32 shows little.
@pytest.mark.parametrize("name", ["associative-recall", "memory-reuse"])
def test_models_that_ship_compute_the_same(name, example):
    found = example.compare(name, episodes=2)
    assert found.steps > 20
    assert found.float64 < 1e-10
    assert found.float64 < found.float32


CONFIGS = {
    "deepmind": DNCConfig(**SMALL),
    "nature": DNCConfig.nature(**SMALL, num_layers=2),
    "gradients clipped": DNCConfig.nature(**SMALL, controller_gradient_clip=0.01),
    "feedforward": DNCConfig(**SMALL, controller="feedforward", num_layers=2, clip_value=0.1),
    "oneplus": DNCConfig(**SMALL, strength_activation="oneplus", clip_value=0.1),
    "usage": DNCConfig(**SMALL, usage_write_gradient=True, forget_bias=0.5),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_outputs_and_gradients(config, example, torch, x64):
    cell = DNC(3, 2, config, implementation="plain", rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    graph, params = nnx.split(cell)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: 2 * x + 0.3 * random.normal(size=x.shape), params)
    cell = nnx.merge(graph, params)
    inputs = random.normal(size=(2, 7, 3))

    def loss(params):
        outputs, _ = unroll(nnx.merge(graph, params), jnp.asarray(inputs))
        return (outputs**2).sum(), outputs

    (_, expected), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    model = in_pytorch(example, torch, cell, config)
    outputs, _ = model(torch.from_numpy(inputs))
    (outputs**2).sum().backward()
    np.testing.assert_allclose(outputs.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    theirs = example.from_dncx(
        {n: torch.from_numpy(np.array(x)) for n, x in flat(nnx.to_pure_dict(gradient)).items()}
    )
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        scale = float(array.abs().max())
        assert scale > 0, name
        np.testing.assert_allclose(ours[name], array, atol=1e-9 * scale, err_msg=name)


def test_a_sequence_in_pieces(example, torch):
    torch.manual_seed(0)
    model = example.DNC(3, 2, example.Options(**SMALL))
    inputs = torch.randn(2, 6, 3)
    outputs, last = model(inputs)
    first, state = model(inputs[:, :4])
    second, state = model(inputs[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), outputs)
    torch.testing.assert_close(state.memory, last.memory)


def test_it_learns(example, torch):
    torch.manual_seed(0)
    model = example.DNC(3, 3, example.Options(**SMALL))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    inputs = torch.randn(8, 5, 3)
    losses = []
    for _ in range(30):
        loss = ((model(inputs)[0] - inputs.cumsum(1)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["associative-recall", "memory-reuse"])
def test_dncx_reads_what_is_saved(name, example, tmp_path):
    file = tmp_path / "model.safetensors"
    example.save(example.load(SHIPPED / name).double(), file)
    original, saved = load_model(SHIPPED / name / "model.safetensors"), load_model(file)
    assert saved.keys() == original.keys()
    for key, array in original.items():
        np.testing.assert_array_equal(saved[key], array)
    task = TASKS[{"memory-reuse": "copy"}.get(name, name)]()
    assert initial_weights(file, task).arrays.keys() == original.keys()


def test_a_deep_lstm_is_saved(example, torch, tmp_path):
    config = DNCConfig.nature(**SMALL, num_layers=2)
    cell = DNC(3, 2, config, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(cell))
    example.save(in_pytorch(example, torch, cell, config), tmp_path / "model.safetensors")
    saved = nested(load_model(tmp_path / "model.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, saved, params)


REFUSED = {
    "two write heads": (lambda n: n["cell"].update(num_write_heads=2), "num_write_heads=2"),
    "an option": (lambda n: n["cell"].update(wipe_freed=True), "wipe_freed=True"),
    "no links": (lambda n: n["cell"].update(linkage="none"), "linkage='none'"),
    "bfloat16": (lambda n: n["cell"].update(controller_dtype="bfloat16"), "controller_dtype"),
    "an unknown option": (lambda n: n["cell"].update(new_option=0), "new_option=0"),
    "an embedding": (lambda n: n.update(embedding_size=4), "embedding_size=4"),
    "two directions": (lambda n: n.update(bidirectional=True), "bidirectional=True"),
    "another network": (lambda n: n.update(kind="lstm"), "kind='lstm'"),
    "another size": (lambda n: n["cell"].update(word_size=21), "interface_linear.weight"),
    "a size is missing": (lambda n: n.pop("input_size"), "input_size"),
}


@pytest.mark.parametrize(("change", "named"), REFUSED.values(), ids=REFUSED)
def test_other_networks_are_refused(change, named, example, run):
    edit(run, change)
    with pytest.raises(ValueError) as raised:
        example.load(run)
    assert str(run) in str(raised.value)
    assert named in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "dncx-run-1", "network": {}}'])
def test_other_configurations_are_refused(content, example, run):
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match="dncx-run-2"):
        example.load(run)


def test_other_files_are_refused(example, run):
    file = run / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        example.load(run)
    file.unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        example.load(run)


def test_loading_needs_no_dncx():
    code = (
        "import sys; from examples.in_pytorch import load; "
        f"load({str(SHIPPED / 'memory-reuse')!r}); print({{'jax', 'dncx'}} & {{*sys.modules}})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_the_command(example, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["in_pytorch.py", "babi"])
    with pytest.raises(SystemExit, match="content_mask=True") as refused:
        example.main()
    assert refused.value.code
    wrong = example.Comparison(16, 3, float64=2e-5, float32=1e-3, rounding=1e-3)
    for found, code in ((wrong._replace(float64=1e-6), False), (wrong, True)):
        monkeypatch.setattr(example, "compare", lambda run, found=found: found)
        with pytest.raises(SystemExit) as ended:
            example.main()
        assert ended.value.code is code
    assert "babi, 16 episodes of 3 steps" in capsys.readouterr().out


def test_the_tutorial(torch, tmp_path, monkeypatch):
    """Its cells run, with few updates; `make docs` runs all of them if PyTorch is installed."""
    page = (ROOT / "docs" / "tutorials" / "in-pytorch.md").read_text()
    cells = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```", page, re.M | re.S)
    code = "\n".join(cell for cell in cells if not cell.startswith(("!", ":tags:")))
    assert "range(40)" in code
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    exec(code.replace("range(40)", "range(2)"), {})
    original = load_model(SHIPPED / "associative-recall" / "model.safetensors")
    trained = load_model(tmp_path / "from-pytorch.safetensors")
    assert trained.keys() == original.keys()
    assert all((trained[name] != array).any() for name, array in original.items())
