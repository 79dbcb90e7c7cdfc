"""Custom networks in the trainer: FILE.py:FUNCTION, or a function in Python."""

import dataclasses
import json
import py_compile
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dncx
from dncx.cli.main import main, task_main
from dncx.errors import UsageError
from dncx.networks import custom
from dncx.runs.directory import load_model, load_run, save_model
from dncx.runs.metrics import read_metrics
from dncx.runs.progress import Progress
from dncx.settings.presets import DEFAULTS
from dncx.tasks import registry
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.loop import train

PROGRAM = Path(__file__).parents[2] / "examples" / "own_parts.py"
SIZES = ["--hidden_size=6", "--memory_size=5", "--word_size=3", "--num_read_heads=1"]
FLAGS = [*SIZES, "--batch_size=2", "--report_interval=1", "--checkpoint_interval=2"]


@pytest.fixture
def file(tmp_path):
    return shutil.copy(PROGRAM, tmp_path / "parts.py")


@pytest.fixture(autouse=True)
def as_in_another_process(monkeypatch):
    monkeypatch.setattr(custom, "_FUNCTIONS", {})
    monkeypatch.setattr(custom, "_GIVEN", {})


def trained(folder, file, iterations=2, *more):
    name, total = f"--network={file}:make_network", f"--num_training_iterations={iterations}"
    assert main(["train", "repeat-copy", *FLAGS, name, total, f"--run_dir={folder}", *more]) == 0
    return folder


def losses(run):
    return [line["loss"] for line in read_metrics(run / "metrics.jsonl")]


def test_a_custom_network_is_trained_resumed_and_shown(file, tmp_path, capsys):
    whole = trained(tmp_path / "whole", file, 4)
    cut = trained(tmp_path / "cut", file, 2)
    trained(cut, file, 4)
    assert losses(cut) == losses(whole)
    models = [load_model(run / "model.safetensors") for run in (cut, whole)]
    jax.tree.map(np.testing.assert_array_equal, *models)
    assert models[0]["access.linkage.rate"].shape == ()
    named, few = f"--network={file}:make_network", "--num_episodes=1"
    capsys.readouterr()
    assert main(["eval", str(cut), named, few, "--memory_size=9"]) == 0
    assert "memory_size 9" in capsys.readouterr().out
    assert main(["explore", str(cut), named, few, "--no_figures"]) == 0
    assert main(["runs", str(tmp_path)]) == 0
    assert "custom 5x3" in capsys.readouterr().out
    source = json.loads((cut / "config.json").read_text())["network"]["source"]
    assert (source["file"], source["function"]) == (str(file), "make_network")


def test_a_file_runs_only_if_a_person_names_it(file, tmp_path, capsys):
    run = trained(tmp_path / "run", file)
    custom._FUNCTIONS.clear()
    Path(file).write_text("raise SystemExit('it ran')")
    for command in ("eval", "explore", "export"):
        assert main([command, str(run)]) == 2
        assert f"--network={file}:make_network" in capsys.readouterr().err
    assert main(["card", str(run)]) == main(["runs", str(tmp_path)]) == 0
    with pytest.raises(UsageError, match="--network="):
        load_run(run)


def test_a_file_that_has_changed_is_reported(file, tmp_path, capsys, caplog):
    run = trained(tmp_path / "run", file)
    with Path(file).open("a") as program:
        program.write("\n# A new line.\n")
    load_run(run, network=f"{file}:make_network")
    assert "has changed since" in caplog.text
    capsys.readouterr()
    trained(run, file, 3)
    assert "its file has changed since the checkpoint" in capsys.readouterr().out


WRONG = {
    "mine.py": ("", "must be FILE.py:FUNCTION"),
    "nowhere.py:make": ("", "nowhere.py: No such file"),
    "mine.py:mke": ("def make(): pass", "has no function mke; did you mean make?"),
    "mine.py:make": ("import nothing_like_this", "line 1: ModuleNotFoundError"),
    "mine.py:makes": ("x = 1\ndef makes(i, o, c, *, rngs):\n    return x / 0", "line 3: ZeroDiv"),
    "mine.py:end": ("raise SystemExit(3)", "SystemExit: 3"),
    "mine.py:pair": (
        "import dncx\nclass Pair(dncx.DNC):\n    def __call__(self, state, x):\n"
        "        state, y = super().__call__(state, x)\n        return state, (y, y)\n"
        "def pair(i, o, c, *, rngs): return Pair(i, o, c, rngs=rngs)",
        "must return 5 outputs",
    ),
    "mine.py:text": ("def text(i, o, c, *, rngs): return 'x'", "has no initialize_carry"),
    "mine.py:few": (
        "import dncx\ndef few(i, o, c, *, rngs): return dncx.DNC(i, o + 1, c, rngs=rngs)",
        "must return 5 outputs",
    ),
    "mine.py:wide": (
        "import dncx\ndef wide(i, o, c, *, rngs): return dncx.DNC(i + 1, o, c, rngs=rngs)",
        "a step with 6 inputs fails",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_network_is_refused(name, tmp_path, monkeypatch, capsys):
    content, message = WRONG[name]
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(content)
    assert main(["train", "repeat-copy", f"--network={name}", "--run_dir=run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("run").exists()


def test_an_implementation_that_cannot_be_chosen_is_refused(tmp_path, capsys):
    name = f"--network={__file__}:small"
    flags = [name, "--implementation=native", f"--run_dir={tmp_path}/run"]
    assert main(["train", "repeat-copy", *flags]) == 2
    assert "implementation=native: needs a DNC" in capsys.readouterr().err


def test_debug_replays_a_custom_network(tmp_path, capsys):
    """Of any kind; it computes by the plain equations."""
    name, run = f"--network={__file__}:small", tmp_path / "run"
    flags = ["--learning_rate=3e38", "--max_skipped_updates=2", f"--run_dir={run}"]
    assert main(["train", "repeat-copy", *FLAGS, *flags, name]) == 1
    capsys.readouterr()
    custom._FUNCTIONS.clear()
    assert main(["debug", str(run)]) == 2
    assert "--network=" in capsys.readouterr().err
    assert main(["debug", str(run), name]) == 0
    assert "replayed" in capsys.readouterr().out


def test_a_network_for_a_run_without_one_is_refused(file, capsys):
    assert main(["eval", "memory-reuse", f"--network={file}:make_network"]) == 2
    assert "not a custom one" in capsys.readouterr().err


def test_the_content_that_was_read_is_the_one_that_runs(tmp_path):
    """Not an older compiled file, which an import would take."""
    program = tmp_path / "mine.py"
    program.write_text(PROGRAM.read_text())
    compiled = py_compile.compile(
        str(program), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert Path(compiled).exists()
    program.write_text("def make_network(i, o, c, *, rngs): raise ValueError('the new content')")
    with pytest.raises(UsageError, match="the new content"):
        custom.called(custom.custom_network(f"{program}:make_network"), 1, 1, None, rngs=None)


def small(input_size, output_size, config, *, rngs):
    """An LSTM of Flax, whose outputs are read by a linear layer."""
    return Read(nnx.LSTMCell(input_size, config.hidden_size, rngs=rngs), output_size, rngs)


class Read(nnx.RNNCellBase):
    def __init__(self, cell, size, rngs):
        self.cell, self.linear = cell, nnx.Linear(cell.hidden_features, size, rngs=rngs)

    num_feature_axes = 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return self.cell.initialize_carry(input_shape, rngs)

    def __call__(self, carry, inputs):
        carry, outputs = self.cell(carry, inputs)
        return carry, self.linear(outputs)


class Mine(RepeatCopy):
    name = "mine"


@pytest.mark.usefixtures("without_type_checks")
def test_a_function_in_python(tmp_path, monkeypatch):
    """For `train`, for the command line of a custom task, and for `load_run`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.TASKS, "mine", Mine)  # is removed again
    flags = [*FLAGS, "--num_training_iterations=2"]
    assert task_main(Mine, ["train", *flags], network=small) == 0
    assert task_main(Mine, ["train", "--model=lstm"], network=small) == 2
    for command in ("eval", "export", "card", "runs"):
        words = [command] if command == "runs" else [command, "runs/mine"]
        assert task_main(Mine, words, network=small) == 0
    run = load_run("runs/mine", network=small)
    assert isinstance(run.network, Read)
    outputs, _ = dncx.unroll(run.network, jnp.ones((2, 3, run.task.input_size)))
    assert outputs.shape == (2, 3, run.task.output_size)
    own = DEFAULTS["repeat-copy"]
    short = dataclasses.replace(
        own.run, num_training_iterations=1, run_dir=tmp_path / "python", batch_size=2
    )
    train(
        dataclasses.replace(own, run=short), network=lambda *sizes, rngs: small(*sizes, rngs=rngs)
    )
    source = load_run(
        tmp_path / "python", network=lambda *sizes, rngs: small(*sizes, rngs=rngs)
    ).config.network.source
    assert "<lambda>" in source.function


def test_parameters_of_any_rank_and_order_are_saved_as_they_are(tmp_path):
    """safetensors writes buffers; NumPy's ascontiguousarray gives a scalar an axis."""
    arrays = {
        "scalar": np.float32(2),
        "empty": np.zeros((0, 3), np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "sliced": np.arange(8, dtype=np.float32)[::2],
    }
    path = save_model(tmp_path, arrays, Progress())
    jax.tree.map(np.testing.assert_array_equal, load_model(path), arrays)
    assert {name: x.shape for name, x in load_model(path).items()} == {
        name: x.shape for name, x in arrays.items()
    }
