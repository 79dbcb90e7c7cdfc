"""`dncx runs`: what became of the runs in a folder, at once and whatever lies there."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from dncx.cli.main import main
from dncx.runs.lock import LOCK
from dncx.runs.paths import CONFIG, FAILURE, METRICS, MODEL, SHIPPED
from dncx.text import table

ROOT = Path(__file__).parents[2]


def make_run(run, *, trained=None, reports=(), age=0, **progress):
    """A run directory with the configuration of one that ships."""
    run.mkdir(parents=True)
    config = json.loads((SHIPPED / "memory-reuse" / CONFIG).read_text())
    config["updates"]["num_training_iterations"] = 100
    (run / CONFIG).write_text(json.dumps(config))
    if reports:
        (run / METRICS).write_text("".join(json.dumps(line) + "\n" for line in reports))
    if trained is not None:
        progress = json.dumps({"iteration": trained} | progress)
        header = json.dumps({"__metadata__": {"progress": progress}}).encode()
        (run / MODEL).write_bytes(len(header).to_bytes(8, "little") + header)
    for path in run.iterdir():
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    return run


def report(iteration, loss=2.5):
    return {"iteration": iteration, "loss": loss, "iterations_per_second": 12.3}


def listed(folder, capsys):
    """What --json prints, by the names of the runs."""
    assert main(["runs", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {str(Path(row["name"]).relative_to(folder)): row for row in rows}


@pytest.fixture
def folder(tmp_path):
    worse, runs = {"error": 3.5, "iteration": 40, "worse": 2}, tmp_path / "runs"
    make_run(runs / "done", trained=100, reports=[report(50), report(100, 0.25)], age=200)
    make_run(runs / "early", trained=60, reports=[report(60), {"iteration": 60}], validation=worse)
    make_run(runs / "cut", reports=[report(50), report(70) | {"lesson": 4}], age=7300)
    make_run(runs / "more", trained=60, reports=[report(80)], age=90_000)
    make_run(runs / "seeds" / "seed-1", reports=[report(10, None), report(20, None)], age=20)
    make_run(runs / "fresh", age=40)
    make_run(runs / "bad", reports=[report(30) | {"skipped": 4}], age=100)
    (runs / "bad" / FAILURE).mkdir()
    return runs


def test_states(folder, capsys):
    rows = listed(folder, capsys)
    assert {name: (row["state"], row["iteration"]) for name, row in rows.items()} == {
        "done": ("finished", 100),
        "early": ("stopped early", 60),
        "cut": ("interrupted", 70),
        "more": ("interrupted", 80),
        "seeds/seed-1": ("interrupted", 20),
        "fresh": ("interrupted", 0),
        "bad": ("failed", 30),
    }
    assert (rows["early"]["best_validation_error"], rows["early"]["best_validation_iteration"]) == (
        3.5,
        40,
    )
    assert rows["early"]["loss"] == 2.5
    assert rows["seeds/seed-1"]["loss"] is None
    assert (rows["cut"]["lesson"], rows["done"]["lesson"]) == (4, 0)
    assert (rows["done"]["loss"], rows["done"]["iterations_per_second"]) == (0.25, 12.3)
    assert (rows["bad"]["skipped"], rows["cut"]["skipped"]) == (4, None)
    newest_first = ["early", "seeds/seed-1", "fresh", "bad", "done", "cut", "more"]
    assert list(rows) == newest_first
    os.utime(folder / "bad" / CONFIG)  # which a run that goes on writes anew
    os.utime(folder / "bad" / FAILURE, (0, 0))
    assert listed(folder, capsys)["bad"]["state"] == "interrupted"


def test_a_running_one(folder, capsys):
    """The lock that the trainer holds tells; one that a crash left behind does not."""
    (folder / "cut" / LOCK).touch()
    assert listed(folder, capsys)["cut"]["state"] == "interrupted"
    with (folder / "cut" / LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert listed(folder, capsys)["cut"]["state"] == "running"


def test_the_table(folder, capsys, monkeypatch):
    """Newest first; a line for each run where there is room."""
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["runs", str(folder)]) == 0
    title, first, *_, last = capsys.readouterr().out.splitlines()
    assert title.split() == ["run", "task", "(model)", "state", "loss", "it/s", "age"]
    for text in ("early ", "copy (dnc 10x16)", "stopped early 60/100, best 3.5 % at 40"):
        assert text in first
    assert last.split() == ["more", "copy", "(dnc", "10x16)", "interrupted", "80/100", "2.5",
                            "bits", "per", "series", "12", "1", "d"]  # fmt: skip
    assert {line.find("copy") for line in (first, last)} == {title.find("task")}


@pytest.mark.parametrize("columns", ["80", "100"])
def test_the_table_fits_the_terminal(columns, folder, capsys, monkeypatch):
    """Also with the longest names of tasks and runs that users give; nothing is lost."""
    make_run(folder / ("a-name-" * 9), trained=100, reports=[report(100, 123.456)])
    make_run(folder / "broken").joinpath(CONFIG).write_text("{")
    longest = make_run(folder / "associative-recall", trained=50, lesson=3, reports=[report(50)])
    text = (longest / CONFIG).read_text()
    (longest / CONFIG).write_text(text.replace('"name": "copy"', '"name": "associative-recall"'))
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["runs", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= int(columns)
    for word in ("seeds/seed-1", "associative-recall,", "123.5", "interrupted", "50/100", "broken"):
        assert word in shown
    first_column = "".join(line[:20].strip() for line in shown.splitlines())
    assert len(shown.splitlines()) < 40
    assert "a-name-a-name" in first_column


def test_a_run_itself(folder, capsys):
    assert list(listed(folder / "done", capsys)) == ["."]


BROKEN = {
    "no config": lambda run: (run / CONFIG).unlink(),
    "not JSON": lambda run: (run / CONFIG).write_text("{"),
    "deep JSON": lambda run: (run / CONFIG).write_text("[" * 100_000),
    "not text": lambda run: (run / CONFIG).write_bytes(b"\xff\xfe"),
    "foreign": lambda run: (run / CONFIG).write_text('{"not": "ours"}'),
    "other types": lambda run: (run / CONFIG).write_text(
        json.dumps(json.loads((run / CONFIG).read_text()) | {"task": [], "model": 3})
    ),
    "other numbers": lambda run: (run / CONFIG).write_text(
        (run / CONFIG).read_text().replace('"num_training_iterations": 100', '"other": 1')
    ),
    "a folder": lambda run: ((run / CONFIG).unlink(), (run / CONFIG).mkdir()),
    "cut model": lambda run: (run / MODEL).write_bytes(b"\x10\0\0"),
    "endless header": lambda run: (run / MODEL).write_bytes(b"\xff" * 8),
    "model of others": lambda run: (run / MODEL).write_bytes((2).to_bytes(8, "little") + b"{}"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_ones_have_a_line(damage, tmp_path, capsys):
    BROKEN[damage](make_run(tmp_path / "runs" / "bad", trained=100, reports=[report(100)]))
    make_run(tmp_path / "runs" / "good", trained=100)
    rows = listed(tmp_path / "runs", capsys)
    assert rows["bad"]["problem"]
    assert rows["good"]["state"] == "finished"
    assert main(["runs", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr().out
    assert "finished" in shown
    assert "".join(rows["bad"]["problem"].split()) in "".join(shown.split())


def test_lines_that_are_none(tmp_path, capsys):
    """A report cut off by a crash, numbers that are none, and a file too long to read."""
    run = make_run(tmp_path / "runs" / "long", reports=[report(n) for n in range(3000)])
    with (run / METRICS).open("a") as file:
        file.write('{"iteration": "x"}\n[3]\n{"iteration": 3001, "loss": NaN}\n{"iterat')
    row = listed(tmp_path / "runs", capsys)["long"]
    assert (row["iteration"], row["loss"]) == (3001, 2.5)


def test_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert "there is no folder runs" in capsys.readouterr().err
    assert main(["runs", "."]) == 0
    assert capsys.readouterr().out == "there are no runs in .\n"


def test_it_needs_no_jax(folder):
    code = (
        f"import sys; from dncx.cli.main import main; assert main(['runs', {str(folder)!r}]) == 0;"
        "print([m for m in ('jax', 'flax', 'numpy', 'safetensors') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.endswith("\n[]\n"), result.stderr


def test_a_table_fits_and_loses_no_sign(monkeypatch):
    """In 80 columns, whatever the lengths of its cells."""
    monkeypatch.setenv("COLUMNS", "80")
    random = Random(0)
    for _ in range(100):
        rows = [
            [
                "x" * random.randint(1, 40),
                f"{'y' * random.randint(3, 14)}, lesson {random.randint(1, 14)} (dnc 128x16)",
                f"interrupted {random.randint(0, 99_999)}/100000",
                f"{random.random() * 100:.4g} nats per sequence",
                f"{random.choice([1, 43])} {random.choice(['s', 'min', 'days'])}",
            ]
            for _ in range(random.randint(1, 6))
        ]
        lines = table(("run", "task", "state", "loss", "age"), rows, left=5, width=None)
        assert max(map(len, lines.splitlines())) <= 80
        signs = "".join("".join(row) for row in [("run", "task", "state", "loss", "age"), *rows])
        assert sorted(lines.replace("\n", "").replace(" ", "")) == sorted(signs.replace(" ", ""))
