"""Tasks with bits, lessons, baselines and custom tasks, on the command line and below."""

import dataclasses
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx

from dncx import DNCConfig, unroll
from dncx.cli.main import main, task_main, train_main
from dncx.networks.config import network_config
from dncx.networks.lstm import LSTMNetwork
from dncx.runs import directory as runs
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import SHIPPED, shipped_models
from dncx.runs.trained import trained_progress
from dncx.settings.presets import PRESETS
from dncx.tasks.associative_recall import AssociativeRecall
from dncx.tasks.base import Bucketed, Episode, Task
from dncx.tasks.copy import Copy
from dncx.tasks.curriculum import Course, Gate, draw_lessons
from dncx.tasks.repeat_copy import RepeatCopy

SIZES = ["--hidden_size=8", "--memory_size=6", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=4", "--report_interval=10", "--learning_rate=1e-3"]


def of_model(model):
    """The flags of a small network of this kind; an LSTM has no memory."""
    sizes = {"--memory_size", "--word_size", "--num_read_heads"} if model == "lstm" else set()
    return [f"--model={model}", *(flag for flag in TRAIN if flag.partition("=")[0] not in sizes)]


def bits(text):
    """'10 01' as rows of numbers."""
    return np.array([[int(c) for c in word] for word in text.split()], np.float32)


def test_copy_step_by_step():
    """Two sequences of 2 and 1 vectors, each answered before the next is shown."""
    task = Copy(num_bits=2, max_length=2, num_sequences=2)
    vectors = jnp.stack([jnp.asarray(bits("10 11")), jnp.asarray(bits("01 00"))])
    episode = task.episode(vectors, jnp.array([2, 1]))
    np.testing.assert_array_equal(episode.inputs, bits("100 110 001 000 000 010 001 000 000 000"))
    np.testing.assert_array_equal(episode.targets, bits("00 00 00 10 11 00 00 01 00 00"))
    np.testing.assert_array_equal(episode.mask, [0, 0, 0, 1, 1, 0, 0, 1, 0, 0])


def test_associative_recall_step_by_step():
    """Three items of two vectors; asked for the second, the third is the answer."""
    task = AssociativeRecall(num_bits=2, item_length=2, max_items=4)
    items = jnp.asarray(bits("10 11 01 00 11 11 10 10")).reshape(4, 2, 2)
    episode = task.episode(items, jnp.array(3), jnp.array(1))
    inputs = "0010 1000 1100 0010 0100 0000 0010 1100 1100 0001 0100 0000 0001 0000 0000"
    np.testing.assert_array_equal(episode.inputs, bits(inputs + " 0000 0000 0000"))
    np.testing.assert_array_equal(episode.targets[13:15], bits("11 11"))
    np.testing.assert_array_equal(episode.mask, [0] * 13 + [1, 1, 0, 0, 0])
    assert episode.targets.sum() == 4


@pytest.mark.parametrize(
    ("task", "counted", "expected"),
    [
        (Copy(num_bits=1, min_length=2, max_length=4), lambda e: e.mask.sum(1), [2, 3, 4]),
        (
            AssociativeRecall(num_bits=1, item_length=1, min_items=2, max_items=5),
            lambda e: e.inputs[:, :, 1].sum(1),
            [2, 3, 4, 5],
        ),
    ],
)
def test_sizes_are_uniform(task, counted, expected):
    episode = jax.jit(task.sample, static_argnums=1)(jax.random.key(0), 4000)
    found, counts = np.unique(counted(episode), return_counts=True)
    assert found.tolist() == expected
    np.testing.assert_allclose(counts / 4000, 1 / len(expected), atol=0.03)


def test_every_item_but_the_last_is_asked_for():
    """Items that all differ show which one the query repeats."""
    task = AssociativeRecall(num_bits=12, item_length=1, min_items=4, max_items=4)
    episode = jax.jit(task.sample, static_argnums=1)(jax.random.key(1), 2000)
    items, query = episode.inputs[:, 1:8:2, :12], episode.inputs[:, 9, :12]
    same = (items == query[:, None]).all(axis=-1)
    alone = same.sum(axis=1) == 1
    asked = Counter(np.argmax(same[alone], axis=1).tolist())
    assert sorted(asked) == [0, 1, 2]
    assert all(abs(n / alone.sum() - 1 / 3) < 0.05 for n in asked.values())


@pytest.mark.parametrize(
    "task", [Copy(num_bits=3, max_length=2), *later(AssociativeRecall(num_bits=2))]
)
def test_a_guess_costs_a_bit_a_bit(task):
    episode = task.sample(jax.random.key(0), 5)
    guess = jnp.zeros(episode.targets.shape)
    assert np.isclose(task.loss(guess, episode), episode.mask.sum() * task.output_size / 5)
    perfect = jnp.where(episode.targets > 0.5, 9.0, -9.0)
    assert task.score(perfect, episode) == {"bit_error": 0, "sequence_error": 0}
    assert isinstance(task, Task)
    assert not isinstance(task, Course | Bucketed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copy(num_sequences=0), "num_sequences=0: must be at least 1"),
        (lambda: Copy(min_length=30), "min_length=30 is above max_length=20"),
        (lambda: AssociativeRecall(min_items=1), "min_items=1: must be at least 2"),
        (lambda: AssociativeRecall(max_items=2**30), "max_items=1073741824, item_length=3: "),
    ],
)
def test_tasks_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Step(NamedTuple):
    size: int
    other: int


def test_lessons_are_mixed_as_said():
    """The present lesson, and a tenth from those before; the bounds of a lesson stay together."""
    lessons = [Step(1, 10), Step(2, 20), Step(3, 30)]
    drawn = draw_lessons(jax.random.key(0), lessons, 3, 0.1, 20_000)
    counts = Counter(drawn.size.tolist())
    assert abs(counts[1] / 20_000 - 0.05) < 0.01
    assert abs(counts[2] / 20_000 - 0.05) < 0.01
    np.testing.assert_array_equal(drawn.other, 10 * drawn.size)
    assert set(draw_lessons(jax.random.key(0), lessons, 1, 0.9, 50).size.tolist()) == {1}
    assert set(draw_lessons(jax.random.key(0), lessons, 2, 0.0, 50).size.tolist()) == {2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growing(Copy):
    """Copy of one vector, then of two, then of three."""

    name: ClassVar[str] = "growing"
    at_most: float = 1.0
    last_lesson: int = 3

    def __post_init__(self):
        if not 0 <= self.at_most <= 1:
            raise ValueError(f"at_most={self.at_most}: must lie in 0..1")

    @property
    def num_lessons(self):
        return self.last_lesson

    @property
    def gate(self):
        return Gate("sequence_error", self.at_most, every=6, episodes=3)

    def at_lesson(self, number, earlier_share=0.0):
        least = 1 if earlier_share else number
        return dataclasses.replace(self, min_length=least, max_length=number)


def train(task, run_dir, iterations, *more):
    flags = [*TRAIN, f"--run_dir={run_dir}", f"--num_training_iterations={iterations}"]
    return task_main(task, ["train", *flags, *more])


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Lessons 1 and 2 end at iterations 6 and 12."""
    run_dir = tmp_path_factory.mktemp("runs") / "grown"
    assert train(Growing, run_dir, 20, "--checkpoint_interval=8") == 0
    return run_dir


def test_lessons_follow_each_other(grown):
    lines = read_metrics(grown / "metrics.jsonl")
    assert [(line["iteration"], line["lesson"]) for line in lines] == [
        (6, 1), (10, 2), (12, 2), (20, 3)
    ]  # fmt: skip
    assert [line["iteration"] for line in lines if "sequence_error" in line] == [6, 12]
    assert trained_progress(grown).lesson == 3


def test_a_run_resumed_in_mid_lesson_equals_an_uninterrupted_one(grown, tmp_path):
    """From iteration 8, in lesson 2: parameters bit for bit, and the same lines."""
    run_dir = shutil.copytree(grown, tmp_path / "run")
    (run_dir / "model.safetensors").unlink()
    for newer in ("16", "20"):
        shutil.rmtree(run_dir / "checkpoints" / newer)
    assert train(Growing, run_dir, 20, "--checkpoint_interval=8") == 0
    again, before = (
        [{k: v for k, v in line.items() if k != "iterations_per_second"} for line in lines]
        for lines in (read_metrics(r / "metrics.jsonl") for r in (run_dir, grown))
    )
    assert again == before
    assert (run_dir / "model.safetensors").read_bytes() == (
        grown / "model.safetensors"
    ).read_bytes()


def test_a_gate_that_stays_shut(tmp_path, capsys):
    assert train(Growing, tmp_path / "run", 20, "--at_most=0") == 0
    assert "is learned" not in capsys.readouterr().out
    assert {line["lesson"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")} == {1}


def test_a_custom_task_refuses_settings(tmp_path, capsys):
    assert train(Growing, tmp_path / "run", 20, "--at_most=2") == 2
    assert capsys.readouterr().err == "dncx: error: at_most=2.0: must lie in 0..1\n"


def test_a_run_cannot_end_before_the_lesson_it_is_in(grown, tmp_path, capsys):
    run_dir = shutil.copytree(grown, tmp_path / "run")
    assert train(Growing, run_dir, 30, "--last_lesson=2") == 2
    message = capsys.readouterr().err
    assert "in lesson 3" in message
    assert "ends with lesson 2" in message


def test_another_task_of_the_same_sizes_does_not_go_on(grown, tmp_path, capsys):
    run_dir = shutil.copytree(grown, tmp_path / "run")
    flags = [*TRAIN, f"--run_dir={run_dir}", "--num_training_iterations=30"]
    assert main(["train", "copy", *flags]) == 2
    assert "name: growing in the checkpoint, copy asked for" in capsys.readouterr().err


def test_a_run_of_a_task_that_the_command_does_not_know(grown, copied, capsys):
    assert main(["eval", str(grown)]) == 2
    assert "task growing" in capsys.readouterr().err
    assert task_main(Growing, ["eval", str(copied)]) == 2
    assert "task copy" in capsys.readouterr().err


@pytest.mark.second_step
def test_eval_measures_the_lesson_reached(tmp_path, capsys):
    assert train(Growing, tmp_path / "run", 7) == 0
    assert task_main(Growing, ["eval", str(tmp_path / "run"), "--num_episodes=4"]) == 0
    assert "last_lesson 2" in capsys.readouterr().out


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shelf:
    """Sequences of one length that are held as an array; the answer is the input."""

    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 2
    loss_unit: ClassVar[str] = "squares"
    rows: jax.Array

    def sample(self, key, batch_size):
        rows = self.rows[jax.random.randint(key, (batch_size,), 0, len(self.rows))]
        return Episode(rows, rows, jnp.ones(rows.shape[:2]))

    def loss(self, outputs, episode):
        return ((outputs - episode.targets) ** 2).mean()

    def score(self, outputs, episode):
        return {"off": (jnp.abs(outputs - episode.targets) > 1).mean(dtype=jnp.float32)}

    def render(self, outputs, episode):
        return f"{episode.inputs.shape[1]} steps"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Library(Shelf):
    """A task in two buckets."""

    name: ClassVar[str] = "library"
    rows: ClassVar[None] = None

    @property
    def buckets(self):
        return (Shelf(jnp.zeros((5, 3, 2))), Shelf(jnp.ones((5, 7, 2))))

    @property
    def shares(self):
        return (0.25, 0.75)


def test_buckets_train_in_their_shares(tmp_path, capsys):
    """The loss of a network that gives 0 tells which bucket a batch came from."""
    flags = ["--report_interval=1", "--learning_rate=0"]
    assert train(Library, tmp_path / "run", 60, *flags) == 0
    assert "3 steps" in capsys.readouterr().out
    losses = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert 0.6 < np.mean(np.array(losses) > 0.5) < 0.9
    capsys.readouterr()
    out = tmp_path / "out.json"
    command = ["eval", str(tmp_path / "run"), "--num_episodes=4", f"--out={out}"]
    assert task_main(Library, command) == 0
    (result,) = json.loads(out.read_text())
    of_ones = np.mean([loss for loss in losses if loss > 0.5])
    np.testing.assert_allclose(result["loss"], 0.75 * of_ones, rtol=0.1)


@pytest.mark.parametrize(
    ("task", "model"),
    [("copy", "dnc"), ("associative-recall", "lstm"),
     *later(("associative-recall", "dnc"), ("copy", "lstm"), ("copy", "ntm"))],
)  # fmt: skip
def test_train_and_eval_at_the_command_line(task, model, tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = [*of_model(model), f"--run_dir={run_dir}", "--num_training_iterations=10"]
    assert main(["train", task, *flags]) == 0
    deep = model == "lstm"
    kernel = "controller.layers.0.gates.kernel" if deep else "controller.gates.kernel"
    assert kernel in runs.flat_shapes(nnx.to_pure_dict(nnx.state(runs.load_run(run_dir)[1])))
    assert main(["eval", str(run_dir), "--num_episodes=4"]) == 0
    out = capsys.readouterr().out
    assert "bits per sequence" in out
    assert "sequence error" in out
    assert "model output" in out


@pytest.mark.second_step
@pytest.mark.parametrize("model", ["lstm", "ntm"])
def test_a_baseline_takes_part_in_a_dialogue(model, tmp_path, capsys):
    """Shortest path asks most of a network: its state enters a loop whose inputs are its answers.

    The lesson is in the checkpoint, and the same command goes on from it.
    """
    flags = [*of_model(model), "--last_lesson=1", f"--run_dir={tmp_path / 'run'}"]
    for iterations in (2, 4):
        more = ["--checkpoint_interval=2", f"--num_training_iterations={iterations}"]
        assert main(["train", "shortest-path", *flags, *more]) == 0
    assert "resuming from" in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "run"), "--num_episodes=4"]) == 0
    out = capsys.readouterr().out
    assert "path error" in out
    assert "taken (" in out


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "copied"
    flags = [*TRAIN, "--max_length=3", f"--run_dir={run_dir}", "--num_training_iterations=10"]
    assert main(["train", "copy", *flags]) == 0
    return run_dir


@pytest.mark.second_step
def test_a_memory_too_small_is_said(tmp_path, capsys):
    flags = [*TRAIN, "--num_training_iterations=3", "--batch_size=2"]
    assert main(["train", "copy", *flags, "--max_length=7", f"--run_dir={tmp_path / 'a'}"]) == 0
    assert "memory_size=6, but a sequence may have 7 vectors" in capsys.readouterr().out
    assert main(["train", "copy", *flags, "--max_length=6", f"--run_dir={tmp_path / 'b'}"]) == 0
    assert main(["eval", str(tmp_path / "b"), "--num_episodes=2"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "b"), "--num_episodes=2", "--memory_size=5"]) == 0
    assert "warning: memory_size=5, but a sequence may have 6 vec" in capsys.readouterr().out


def test_a_sweep_is_a_table(copied, tmp_path, capsys):
    """Every pair of values is a line, and the same line as when measured alone."""
    out = tmp_path / "table.json"
    sweep = ["--sweep=length=1,5", "--sweep", "memory_size=4,6", "--num_episodes=6"]
    assert main(["eval", str(copied), *sweep, f"--out={out}"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["1", "4"], ["1", "6"], ["5", "4"], ["5", "6"]]
    measured = json.loads(out.read_text())
    assert measured[3]["task"]["min_length"] == measured[3]["task"]["max_length"] == 5
    alone = ["--min_length=5", "--max_length=5", "--memory_size=4", "--num_episodes=6"]
    assert main(["eval", str(copied), *alone]) == 0
    assert f"{measured[2]['loss']:.4g} bits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep=depth=3"], "--sweep=depth=3: must be NAME=VALUE,VALUE,... with one of length, "),
        (["--sweep=length"], "--sweep=length: must be"),
        (["--sweep=length=3", "--sweep=length=4"], "--sweep length: given twice"),
        (["--sweep=length=three"], "--sweep=length=three: must be"),
        (["--sweep=length=0"], "min_length=0: must be at least 1"),
        (["--out=there"], "--out: there exists"),
        (["--out=nowhere/x.json"], "--out: nowhere/x.json is in a folder that does not"),
    ],
)
def test_sweeps_that_cannot_be(flags, message, copied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("something of the user's")
    assert main(["eval", str(copied), "--num_episodes=2", *flags]) == 2
    assert message in capsys.readouterr().err
    assert Path("there").read_text() == "something of the user's"


def test_the_help_of_eval_has_the_options_and_values_of_the_run(copied, capsys):
    assert main(["eval", str(copied), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--max_length=3 " in shown
    assert "--memory_size=6 " in shown


def test_an_unknown_preset_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train_main(["--preset=nature-babi"]) == 2
    assert "--preset=" in capsys.readouterr().err
    assert train(Growing, "run", 3, "--preset=gold") == 2
    assert "--preset=" in capsys.readouterr().err
    assert main(["train", "copy", "--preset=gold"]) == 2
    assert "--preset=gold: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


TINY = [
    "--hidden_size=8", "--memory_size=5", "--word_size=4", "--num_read_heads=2", "--batch_size=2",
    "--num_training_iterations=4", "--report_interval=2",
]  # fmt: skip
SHORT = {
    "copy": ["--num_sequences=2", "--min_length=5", "--max_length=5"],
    "associative-recall": [],
    "traversal": ["--last_lesson=1"],
    "shortest-path": ["--last_lesson=1"],
    "inference": ["--last_lesson=1"],
    "mini-shrdlu": ["--last_lesson=1"],
}


QUICK_TWINS = ("memory-reuse", "nature-copy")


def is_babi(preset):
    return PRESETS[preset].settings.task_name == "babi"


@pytest.mark.parametrize(
    "preset",
    [
        *QUICK_TWINS,
        *later(*(n for n in PRESETS if n not in QUICK_TWINS and not is_babi(n))),
    ],
)
def test_the_tiny_twin_of_a_preset(preset, tmp_path, capsys):
    """Trained for a few iterations and measured; bAbI's twin is in test_babi.py."""
    task = PRESETS[preset].settings.task_name
    flags = [f"--preset={preset}", *TINY, *SHORT[task], f"--run_dir={tmp_path / 'run'}"]
    assert main(["train", task, *flags]) == 0
    assert main(["eval", str(tmp_path / "run"), "--num_episodes=4", "--batch_size=2"]) == 0
    _, _, config, _ = runs.load_run(tmp_path / "run")
    model, sizes = PRESETS[preset].settings.model, config.network
    full = network_config(model, sizes.input_size, sizes.output_size)
    assert (full.kind, full.embedding_size) == (sizes.kind, sizes.embedding_size)
    trained = vars(sizes.cell)
    assert {name for name, value in vars(full.cell).items() if trained[name] != value} <= {
        "hidden_size", "memory_size", "word_size", "num_read_heads"
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted({*shipped_models()} - {"babi"}))  # test_babi.py has it
def test_a_model_that_ships_has_learned_its_task(name, capsys):
    """Small, and right in most of its episodes; a guess is always wrong."""
    assert (SHIPPED / name / "model.safetensors").stat().st_size < 2e6
    out = ["--num_episodes=50", "--batch_size=50"]
    assert main(["eval", name, *out]) == 0
    error = re.search(r"sequence error +([\d.]+)%", capsys.readouterr().out)
    assert float(error[1]) <= 25


def test_models_ship():
    assert {"associative-recall", "babi", "memory-reuse", "traversal"} <= set(shipped_models())


def test_the_baseline_is_the_papers_deep_lstm():
    """Against its equations (Methods, "Controller network"), written out for two layers."""
    cell = LSTMNetwork(3, 2, DNCConfig.nature(hidden_size=4, num_layers=2), rngs=nnx.Rngs(0))
    inputs = jax.random.normal(jax.random.key(1), (5, 3))
    outputs, _ = unroll(cell, inputs)
    h, s = np.zeros((2, 4)), np.zeros((2, 4))
    for x, y in zip(np.asarray(inputs), outputs, strict=True):
        below = x
        for layer in range(2):
            gates = cell.controller.layers[layer].gates
            z = np.concatenate([below, h[layer]]) @ gates.kernel[...] + gates.bias[...]
            i, j, f, o = np.split(z, 4)
            s[layer] = s[layer] / (1 + np.exp(-f)) + np.tanh(j) / (1 + np.exp(-i))
            h[layer] = np.tanh(s[layer]) / (1 + np.exp(-o))
            below = np.concatenate([x, h[layer]])
        np.testing.assert_allclose(y, h.ravel() @ cell.output_linear.kernel[...], atol=1e-5)


@pytest.mark.second_step
def test_repeat_copy_with_the_baseline_and_a_feedforward_controller(tmp_path):
    for flag, sizes in (("--model=lstm", of_model("lstm")), ("--controller=feedforward", TRAIN)):
        flags = [*sizes, flag, f"--run_dir={tmp_path / flag}", "--num_training_iterations=5"]
        assert main(["train", "repeat-copy", *flags]) == 0
        task, cell, config, _ = runs.load_run(tmp_path / flag)
        assert isinstance(task, RepeatCopy)
        assert isinstance(cell, LSTMNetwork) is (config.network.kind == "lstm")
