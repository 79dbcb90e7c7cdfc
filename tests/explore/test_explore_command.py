"""`dncx explore`: what it writes, where, and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dncx import explore
from dncx.cli.main import main
from dncx.explore import command
from dncx.runs.lock import Locks
from dncx.runs.paths import SHIPPED

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(capsys, *arguments):
    """The message of a command that is refused."""
    assert main(["explore", *arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A trace.npz of two episodes."""
    path = tmp_path_factory.mktemp("kept") / "trace.npz"
    return explore.save(explore.trace_run("memory-reuse", num_episodes=2, num_sequences=2), path)


def test_without_a_run_it_shows_a_model_that_ships(here, capsys):
    assert main(["explore", "--path_length=2", "--num_episodes=1", "--no_figures"]) == 0
    out = here / "explore" / "traversal"
    assert files(out) == ["memory.html", "trace.npz"]
    printed = capsys.readouterr().out
    assert "traversal: 64 slots" in printed
    assert str(out / "memory.html") in printed
    assert explore.load(out / "trace.npz")[0].num_slots == 64


@pytest.mark.second_step
def test_a_run_keeps_them_itself_with_figures(here, capsys):
    shutil.copytree(SHIPPED / "memory-reuse", here / "mine")
    (here / "mine" / "metrics.jsonl").write_text('{"iteration": 1, "loss": 2.0}\n')
    assert main(["explore", "mine", "--num_sequences=2", "--num_episodes=1"]) == 0
    drawn = {name.split("/")[1] for name in files(here / "mine" / "explore") if "/" in name}
    assert {"overview.png", "link.svg", "memory_reuse.pdf", "learning_curves.png"} <= drawn
    assert len(drawn) == 3 * 8


def test_without_matplotlib_it_says_so(here, capsys, monkeypatch, kept):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["explore", str(kept)]) == 0
    assert 'pip install "dncx[plots]"' in capsys.readouterr().out
    assert files(here / "explore" / "trace") == ["memory.html", "trace.npz"]


def test_two_beside_each_other(here, capsys, kept):
    flags = ["--no_figures", "--num_sequences=2", f"--compare={kept}", "--out=both"]
    assert main(["explore", "memory-reuse", *flags]) == 0
    assert files(here / "both") == ["compared.npz", "memory.html", "trace.npz"]
    one, two = (explore.load(here / "both" / name) for name in ("trace.npz", "compared.npz"))
    assert one[0].num_steps == two[0].num_steps


def test_another_run_of_the_task_sees_the_same_episodes(here, kept):
    flags = ["--no_figures", "--num_sequences=3", "--seed=4", "--out=both"]
    assert main(["explore", "memory-reuse", "--compare", "memory-reuse", *flags]) == 0
    one, two = (explore.load(here / "both" / name) for name in ("trace.npz", "compared.npz"))
    np.testing.assert_array_equal(one[1].inputs, two[1].inputs)


def test_a_second_call_writes_beside_the_first(here, kept):
    for _ in range(3):
        assert main(["explore", str(kept), "--no_figures"]) == 0
    assert sorted(path.name for path in (here / "explore").iterdir()) == [
        "trace", "trace-2", "trace-3"
    ]  # fmt: skip
    assert main(["explore", str(kept), "--no_figures", "--force"]) == 0
    assert len(files(here)) == 6


def test_nothing_is_overwritten(here, capsys, kept):
    (here / "out").mkdir()
    (here / "out" / "thesis.tex").write_text("mine")
    said = refused(capsys, str(kept), "--out=out", "--no_figures")
    assert "--out: out" in said
    assert "--force" in said
    assert files(here / "out") == ["thesis.tex"]
    for _ in range(2):
        assert main(["explore", str(kept), "--out=out", "--no_figures", "--force"]) == 0
    assert files(here / "out") == ["memory.html", "thesis.tex", "trace.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["typo"], "there is no run typo"),
        (["typo.npz"], "there is no file typo.npz"),
        (["--num_episodes=0"], "num_episodes=0: must lie in 1..100"),
        (["--compare=typo"], "there is no run typo"),
        (["memory-reuse", "--num_sequences=0"], "num_sequences=0"),
        (["--memory_size=0"], "memory_size"),
    ],
)
def test_bad_input(here, capsys, arguments, message):
    assert message in refused(capsys, *arguments, "--no_figures")
    assert files(here) == []


def test_a_trace_holds_its_episodes(capsys, kept):
    assert "--seed: " in refused(capsys, str(kept), "--seed=3")


def test_a_trace_of_another_version(here, capsys, kept):
    with np.load(kept) as arrays:
        changed = dict(arrays)
    told = json.loads(changed["about"].tobytes()) | {"format": "dncx-trace-9"}
    changed["about"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    np.savez(here / "other.npz", **changed)
    assert "has the format 'dncx-trace-9'" in refused(capsys, "other.npz")


def stopped_run(folder, *saved):
    """A run of 100,000 iterations with checkpoints at some of them, and without a model."""
    folder.mkdir(parents=True)
    config = json.loads((SHIPPED / "memory-reuse" / "config.json").read_text())
    config["updates"]["num_training_iterations"] = 100_000
    (folder / "config.json").write_text(json.dumps(config))
    for iteration in saved:
        (folder / "checkpoints" / str(iteration)).mkdir(parents=True)


@pytest.mark.parametrize("command", ["explore", "eval", "export"])
def test_what_is_no_finished_run(command, here, capsys):
    """Each case is named as what it is: a file, a folder, a folder of runs, an unfinished run."""
    (here / "file").write_text("mine")
    (here / "notes").mkdir()
    stopped_run(here / "runs" / "kept", 41_000, 82_100)
    stopped_run(here / "runs" / "fresh")
    stopped_run(here / "running")
    locks = Locks(print)
    locks.take([here / "running"])
    expected = {
        "nowhere": "no run nowhere",
        "file": "file is not a run directory: it is a file",
        "notes": "notes is not a run directory: it has no config.json",
        "runs": "name one: runs/fresh, runs/kept",
        "runs/kept": "82100: it has no manifest",
        "runs/fresh": "there is no checkpoint in",
        "running": "still training",
    }
    before = files(here)
    for name, words in expected.items():
        assert main([command, name]) == 2
        assert words in capsys.readouterr().err
    locks.__exit__()
    assert files(here) == [name for name in before if name != "running/lock"]


def test_a_folder_with_the_name_of_a_model(here):
    """Such as the output of an earlier call."""
    (here / "associative-recall").mkdir()
    flags = ["--num_episodes=1", "--min_items=2", "--max_items=2", "--no_figures"]
    assert main(["explore", "associative-recall", *flags]) == 0
    assert files(here / "explore" / "associative-recall") == ["memory.html", "trace.npz"]


def test_a_run_without_a_memory(here, capsys):
    flags = ["--model=lstm", "--hidden_size=4", "--num_training_iterations=1", "--run_dir=lstm"]
    assert main(["train", "repeat-copy", *flags]) == 0
    assert "LSTMNetwork" in refused(capsys, "lstm")


def test_runs_with_other_sizes_do_not_fit(capsys):
    """Not as settings, nor beside each other."""
    said = refused(capsys, "memory-reuse", "--num_bits=3")
    assert "was trained with input_size 9; with these settings the task needs 4" in said


def test_what_is_in_the_way(here, capsys, kept):
    (here / "out").mkdir()
    (here / "out" / "figures").write_text("")
    assert "--out: out/figures is a file" in refused(capsys, str(kept), "--out=out", "--force")


def test_another_run_beside_a_trace_sees_its_episodes(here, kept):
    flags = ["--compare=memory-reuse", "--no_figures", "--out=both"]
    assert main(["explore", str(kept), *flags]) == 0
    one, two = (explore.load(here / "both" / name) for name in ("trace.npz", "compared.npz"))
    assert len(one) == len(two) == 2
    np.testing.assert_array_equal(one[1].inputs, two[1].inputs)


@pytest.mark.second_step
def test_a_model_that_has_hardly_learned(here, capsys):
    """There is nothing sharp in it; what can be drawn is drawn."""
    flags = ["--hidden_size=8", "--last_lesson=1", "--num_training_iterations=1", "--run_dir=run"]
    assert main(["train", "traversal", *flags]) == 0
    assert main(["explore", "run", "--num_episodes=1"]) == 0
    assert "no traversal: no write" in capsys.readouterr().out
    assert (here / "run" / "explore" / "figures" / "overview.pdf").exists()


@pytest.mark.second_step
def test_a_task_of_ones_own(here):
    """The example's: with figures, its learning curve among them."""
    example = [sys.executable, str(ROOT / "examples" / "own_task.py")]
    flags = ["--hidden_size=4", "--num_training_iterations=2", "--report_interval=1"]
    subprocess.run([*example, "train", *flags], check=True)
    subprocess.run([*example, "explore", "runs/reverse"], check=True)
    assert "figures/learning_curves.svg" in files(here / "runs" / "reverse" / "explore")
