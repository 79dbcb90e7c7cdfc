"""What TensorBoard is given, and what the loggers in docs/watching.md give to others."""

import dataclasses
import json
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from dncx.errors import UsageError
from dncx.explore import tensorboard
from dncx.explore.record import AXES, EpisodeTrace, Trace
from dncx.explore.tensorboard import TensorBoard, check_installed
from dncx.reporting.loggers import numbers
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import CONFIG, METRICS, SHIPPED

PAGE = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
RUN = read_config(SHIPPED / "traversal" / CONFIG)


def trace():
    sizes = {"T": 7, "N": 4, "W": 3, "R": 2, "M": 1, "F": 3, "O": 2, "H": 5, "1+2*M": 3}
    shapes = {name: [sizes[axis] for axis in axes.split()] for name, axes in AXES.items()}
    arrays = {name: np.full(shape, 0.25, np.float32) for name, shape in shapes.items()}
    return Trace((EpisodeTrace(**arrays),))


def report(iteration):
    return {"iteration": iteration, "loss": iteration / 4, "skipped": 0}


def files(run):
    return sorted((run / "tensorboard").iterdir())  # as TensorBoard reads them


def events(path):
    """Those in a file that are whole; each begins with its length and a checksum of that."""
    data, found = path.read_bytes(), []
    while len(data) >= 12 and len(data) >= (end := struct.unpack("<Q", data[:8])[0] + 16):
        found.append(Event.FromString(data[12 : end - 4]))
        data = data[end:]
    return found


def shown(run):
    """What TensorBoard shows, (iteration, value) by tag: a START forgets its step and later ones.

    The first START forgets nothing.
    """
    told, started = [], False
    for event in (event for path in files(run) for event in events(path)):
        if event.session_log.status == SessionLog.START:
            told = [one for one in told if not started or one.step < event.step]
            started = True
        told.append(event)
    series = {}
    for event in told:
        for value in event.summary.value:
            series.setdefault(value.tag, []).append((event.step, value))
    return series


def scalars(run):
    return {
        tag: [(step, value.simple_value) for step, value in series]
        for tag, series in shown(run).items()
        if series[0][1].HasField("simple_value")
    }


def hparams(run):
    """What the HParams tab reads, by tag."""
    found = {}
    for tag, series in shown(run).items():
        plugin = series[0][1].metadata.plugin_data
        if plugin.plugin_name == "hparams":
            found[tag.removeprefix("_hparams_/")] = HParamsPluginData.FromString(plugin.content)
    return found


def test_numbers_of_a_line():
    line = {"iteration": 100, "loss": None, "said": "x", "losses": [1, None, 0.5], "skipped": 2}
    assert numbers(line) == {"losses/0": 1.0, "losses/2": 0.5, "skipped": 2.0}


def test_every_line_is_on_the_disk_at_once(tmp_path):
    """What kill -9 leaves: the file is read while it is still open."""
    with TensorBoard(tmp_path, RUN, 0) as board:
        for iteration in (100, 200):
            board(report(iteration))
            assert scalars(tmp_path)["loss"][-1] == (iteration, iteration / 4)
        board({"iteration": 300, "loss": None, "grad_norm_max": float("inf"), "losses": [1, None]})
    assert scalars(tmp_path) == {
        "loss": [(100, 25), (200, 50)],
        "skipped": [(100, 0), (200, 0)],
        "grad_norm_max": [(300, float("inf"))],
        "losses/0": [(300, 1)],
    }
    assert len(files(tmp_path)) == 1
    assert events(files(tmp_path)[0])[0].file_version == "brain.Event:2"


def test_settings(tmp_path):
    """Flat, in the run itself; no description of an experiment, which would be of one run only."""
    description = dataclasses.replace(
        RUN, task=TaskConfig(name="own", settings={"parts": [1, 2], "last": None, "on": True})
    )
    with TensorBoard(tmp_path, description, 0):
        assert set(hparams(tmp_path)) == {"session_start_info"}
    found = hparams(tmp_path)
    assert set(found) == {"session_start_info", "session_end_info"}
    settings = found["session_start_info"].session_start_info.hparams
    assert settings["task.name"].string_value == "own"
    assert settings["task.parts"].string_value == "[1, 2]"
    assert settings["task.on"].bool_value is True
    assert settings["network.memory_size"].number_value == 64
    assert settings["optimizer.optimizer_epsilon"].number_value == 1e-10
    assert settings["updates.num_training_iterations"].number_value == 38000
    assert {"task.last", "network.controller_gradient_clip"} & set(settings) == set()  # null


def test_an_interrupted_training_is_no_success(tmp_path):
    with pytest.raises(KeyboardInterrupt), TensorBoard(tmp_path, RUN, 0):
        raise KeyboardInterrupt
    assert set(hparams(tmp_path)) == {"session_start_info"}


def test_a_resume_shows_no_line_twice(tmp_path, monkeypatch):
    """From the iteration of its checkpoint on; even where clocks go back, or starts are quick."""
    monkeypatch.setattr(tensorboard, "_draw", lambda _: b"a PNG with a header of 24 bytes")
    for start, now in ((0, 1000), (200, 1000), (100, 1), (300, 1)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        with TensorBoard(tmp_path, RUN, start) as board:
            for iteration in (start + 100, start + 200):
                board(report(iteration))
                board.picture(trace, iteration)
    steps = [100, 200, 300, 400, 500]
    assert [step for step, _ in scalars(tmp_path)["loss"]] == steps
    assert [step for step, _ in shown(tmp_path)["memory"]] == steps
    assert len(files(tmp_path)) == 4


def test_a_killed_writer_leaves_what_is_whole(tmp_path):
    """A record that was cut short is in the way of nothing that is written later."""
    with TensorBoard(tmp_path, RUN, 0) as board:
        board(report(100))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with TensorBoard(tmp_path, RUN, 100) as board:
        board(report(200))
    assert [step for step, _ in scalars(tmp_path)["loss"]] == [100, 200]


def test_a_run_that_had_none_so_far(tmp_path):
    """Its earlier lines come along, but for those that come again; and only once."""
    lines = "".join(json.dumps(report(iteration)) + "\n" for iteration in (100, 200, 300))
    (tmp_path / METRICS).write_text(lines)
    for start in (200, 300):
        with TensorBoard(tmp_path, RUN, start) as board:
            board(report(start + 100))
    assert [step for step, _ in scalars(tmp_path)["loss"]] == [100, 200, 300, 400]


def test_pictures(tmp_path):
    with TensorBoard(tmp_path, RUN, 0) as board:
        board.picture(trace, 100)
        ((step, value),) = shown(tmp_path)["memory"]  # while the file is open
    (tmp_path / "memory.png").write_bytes(value.image.encoded_image_string)
    pixels = matplotlib.image.imread(tmp_path / "memory.png")
    assert step == 100
    assert pixels.shape == (value.image.height, value.image.width, 4)
    assert value.image.width == 720
    assert 200 < value.image.height < 1000
    assert pixels.std() > 0.05  # there is something on it
    assert plt.get_fignums() == []


def test_a_picture_that_fails_is_said_once_and_ends_nothing(tmp_path, monkeypatch):
    said = []
    with TensorBoard(tmp_path, RUN, 0, said.append) as board:
        with monkeypatch.context() as patch:
            patch.setattr("dncx.explore.plots.overview", MagicMock(side_effect=KeyError("odd")))
            board.picture(trace, 100)
            board.picture(trace, 200)
        board(report(200))
        board.picture(trace, 300)
    assert said == ["no picture for TensorBoard: KeyError: 'odd'"]
    assert [step for step, _ in shown(tmp_path)["memory"]] == [300]
    assert scalars(tmp_path)["loss"] == [(200, 50)]


@pytest.fixture
def limit():
    """Sets the largest size of a file, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told(tmp_path, limit):
    """By an OSError, as of every other file; the writer closes after it without a second one."""
    board = TensorBoard(tmp_path, RUN, 0)
    board(report(100))
    limit(files(tmp_path)[0].stat().st_size + 10)
    with pytest.raises(OSError, match="too large"):
        board(report(200))
    board.__exit__(OSError)
    assert scalars(tmp_path)["loss"] == [(100, 25)]


@pytest.mark.parametrize("name", ["tensorboardX", "matplotlib"])
def test_what_is_not_installed_is_said_before_anything_is_written(name, tmp_path, monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"needs {name}: pip install 'dncx\[tensorboard\]'"):
        TensorBoard(tmp_path / "run", RUN, 0)
    assert not (tmp_path / "run").exists()


def test_libraries_are_loaded_when_they_are_needed():
    """None to train without it, and matplotlib not before the first picture."""
    code = (
        "import sys, tempfile, pathlib, dncx.training.loop, dncx.explore.tensorboard as t\n"
        "t.check_installed()\n"
        "assert not {'tensorboardX', 'matplotlib'} & set(sys.modules)\n"
        "parts = dict.fromkeys(('task', 'model', 'optimizer', 'training'), {})\n"
        "with tempfile.TemporaryDirectory() as d, t.TensorBoard(pathlib.Path(d), parts, 0) as b:\n"
        "    b({'iteration': 1, 'loss': 1.0})\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def blocks(word):
    """The Python code on the page that has a word in it."""
    found = [
        code for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S) if word in code
    ]
    assert found, word
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training as on the page, with a logger: the run directory, and what it was given."""
    folder, space = tmp_path_factory.mktemp("watching"), {}
    (code,) = blocks("lines.append")
    short = "num_training_iterations=6, report_interval=2"
    changed = code.replace("runs/logged", str(folder / "logged"))
    exec(changed.replace("num_training_iterations=2000", short), space)
    return folder / "logged", space


def test_a_logger_gets_every_line_of_the_file(trained):
    run, space = trained
    assert [line["iteration"] for line in space["lines"]] == [2, 4, 6]
    assert space["lines"] == read_metrics(run / METRICS)


def test_every_field_is_on_the_page(trained):
    table = [row.split("|")[1] for row in PAGE.splitlines() if row.startswith("| `")]
    documented = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert {name for line in trained[1]["lines"] for name in line} <= documented
    for name in documented:
        sources = Path(tensorboard.__file__).parent.parent.rglob("*.py")
        assert any(f'"{name}"' in path.read_text() for path in sources), name


@pytest.mark.parametrize("library", ["wandb", "mlflow", "aim"])
def test_adapters(library, trained, monkeypatch):
    """As on the page, with something in the library's place that takes down the calls."""
    fake, line = MagicMock(), {"iteration": 100, "loss": 0.5, "grad_norm_max": None}
    monkeypatch.setitem(sys.modules, library, fake)
    (shared,), (code,) = blocks("import numbers\n"), blocks(f"import {library}\n")
    assert len(code.split("\n\n")[1].splitlines()) <= 5

    def train(settings, loggers):
        for logger in loggers:
            logger(line)

    exec(shared + code, {"settings": trained[1]["settings"], "train": train})
    log = {
        "wandb": fake.init.return_value.__enter__.return_value.log,
        "mlflow": fake.log_metrics,
        "aim": fake.Run.return_value.track,
    }
    log[library].assert_called_once_with({"loss": 0.5}, step=100)


def test_the_reading_on_the_page(trained, monkeypatch, capsys):
    run, space = trained
    (reading,), (drawing,) = blocks("read_metrics"), blocks("learning_curves")
    monkeypatch.chdir(run.parent)
    for code in (reading, drawing):
        exec(code.replace("runs/watched", "logged"), {})
    wanted = {line["iteration"]: line["loss"] for line in space["lines"]}
    assert capsys.readouterr().out == f"{wanted}\n"
    assert {path.suffix for path in run.parent.glob("learning.*")} == {".png", ".svg", ".pdf"}
