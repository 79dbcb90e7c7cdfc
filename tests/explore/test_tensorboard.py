"""What TensorBoard is given, and what the loggers in docs/watching.md give to others."""

import contextlib
import io
import json
import re
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import matplotlib
import matplotlib.image
import matplotlib.pyplot as plt
import pytest
from flax import nnx
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from dncx import DNC, DNCConfig
from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.explore import tensorboard
from dncx.explore.tensorboard import TensorBoard, check_installed
from dncx.reporting.loggers import numbers
from dncx.runs.metrics import Metrics, read_metrics
from dncx.runs.paths import CONFIG, METRICS, SHIPPED
from dncx.settings.training import RunSettings, TrainSettings
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.tasks.settings import RepeatCopySettings
from dncx.training.loop import train

PAGE = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
SMALL_PNG = next(Path(matplotlib.get_data_path(), "images").glob("*.png"))
DESCRIPTION = json.loads((SHIPPED / "traversal" / CONFIG).read_text())


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


@pytest.fixture
def run(tmp_path):
    """A run directory without metrics."""
    (tmp_path / CONFIG).write_text(json.dumps(DESCRIPTION))
    return tmp_path


def log(board, run, *lines):
    """As training does: a line is in the file before the logger gets it."""
    for line in lines:
        Metrics(run / METRICS).append(line)
        board(line)


@pytest.fixture(scope="module")
def network():
    return DNC(6, 5, DNCConfig(memory_size=4, word_size=3, hidden_size=5), rngs=nnx.Rngs(0))


def test_every_number_of_a_line(run):
    losses = {"iteration": 300, "loss": None, "grad_norm_max": float("inf"), "losses": [1, None]}
    with TensorBoard(run) as board:
        log(board, run, report(100), report(200), losses)
    assert scalars(run) == {
        "loss": [(100, 25), (200, 50)],
        "skipped": [(100, 0), (200, 0)],
        "grad_norm_max": [(300, float("inf"))],
        "losses/0": [(300, 1)],
    }
    assert len(files(run)) == 1
    assert events(files(run)[0])[0].file_version == "brain.Event:2"


def test_a_report_is_soon_on_the_disk(run):
    """While the file is still open, within the time that the writing thread has."""
    with TensorBoard(run) as board:
        log(board, run, report(100))
        for _ in range(1200):
            if "loss" in scalars(run):
                break
            time.sleep(0.05)
        assert scalars(run)["loss"] == [(100, 25)]


def test_settings(run):
    """Flat, in the run itself; no description of an experiment, which would be of one run only."""
    task = {"name": "own", "settings": {"parts": [1, 2], "last": None, "on": True}}
    (run / CONFIG).write_text(json.dumps(DESCRIPTION | {"task": task}))
    with TensorBoard(run) as board:
        log(board, run, report(100))
    found = hparams(run)
    assert set(found) == {"session_start_info", "session_end_info"}
    settings = found["session_start_info"].session_start_info.hparams
    assert settings["task.parts"].string_value == "[1, 2]"
    assert settings["task.on"].bool_value is True
    assert settings["network.memory_size"].number_value == 64
    assert settings["optimizer.optimizer_epsilon"].number_value == 1e-10
    assert settings["updates.num_training_iterations"].number_value == 38000
    assert {"task.last", "network.controller_gradient_clip"} & set(settings) == set()  # null


def test_an_interrupted_training_keeps_its_reports_and_is_no_success(run):
    with contextlib.suppress(KeyboardInterrupt), TensorBoard(run) as board:
        log(board, run, report(100))
        raise KeyboardInterrupt
    assert scalars(run)["loss"] == [(100, 25)]
    assert set(hparams(run)) == {"session_start_info"}


def test_without_a_report_nothing_is_written(run):
    with TensorBoard(run):
        pass
    assert [path.name for path in run.iterdir()] == [CONFIG]


@pytest.fixture
def drawn(monkeypatch):
    """Pictures are of nothing, and quick."""
    monkeypatch.setattr(tensorboard, "trace_task", lambda *_, **__: [None])
    monkeypatch.setattr(tensorboard, "_draw", lambda _: io.BytesIO(SMALL_PNG.read_bytes()))


@pytest.fixture
def later(monkeypatch):
    """later() -> it is one second later, which gives the next file another name."""
    clock = [1000]
    monkeypatch.setattr("time.time", lambda: clock[0])

    def wait():
        clock[0] += 1

    return wait


def test_a_resume_shows_no_line_twice(run, later, drawn):
    """Training drops the lines after its checkpoint; TensorBoard hides what belongs to them."""
    for start in (0, 200, 100, 300):
        later()
        Metrics(run / METRICS).keep_up_to(start)
        with TensorBoard(run) as board:
            for iteration in (start + 100, start + 200):
                log(board, run, report(iteration))
                board.picture(None, None, iteration)
    steps = [100, 200, 300, 400, 500]
    assert [step for step, _ in scalars(run)["loss"]] == steps
    assert [step for step, _ in shown(run)["memory"]] == steps
    assert len(files(run)) == 4


def test_a_run_that_had_none_so_far(run, later):
    """Its earlier lines are added, except those that training repeats; and only once."""
    for iteration in (100, 200, 300):
        Metrics(run / METRICS).append(report(iteration))
    for start in (200, 300):
        later()
        Metrics(run / METRICS).keep_up_to(start)
        with TensorBoard(run) as board:
            log(board, run, report(start + 100))
    assert [step for step, _ in scalars(run)["loss"]] == [100, 200, 300, 400]


def test_pictures(run, network):
    with TensorBoard(run) as board:
        log(board, run, report(100))
        board.picture(RepeatCopy(), network, 100)
    ((step, value),) = shown(run)["memory"]
    (run / "memory.png").write_bytes(value.image.encoded_image_string)
    pixels = matplotlib.image.imread(run / "memory.png")
    assert step == 100
    assert pixels.shape[:2] == (value.image.height, value.image.width)
    assert value.image.width == 720
    assert 200 < value.image.height < 1000
    assert pixels.std() > 0.05  # there is something on it
    assert plt.get_fignums() == []


def test_a_picture_that_fails_is_reported_once_and_ends_nothing(run, drawn, monkeypatch):
    said = []
    with TensorBoard(run, said.append) as board:
        log(board, run, report(100))
        with monkeypatch.context() as patch:
            patch.setattr(tensorboard, "trace_task", MagicMock(side_effect=KeyError("odd")))
            board.picture(None, None, 100)
            board.picture(None, None, 200)
        log(board, run, report(200))
        board.picture(None, None, 300)
    assert said == ["no picture for TensorBoard: KeyError: 'odd'"]
    assert [step for step, _ in shown(run)["memory"]] == [300]
    assert scalars(run)["loss"] == [(100, 25), (200, 50)]


def test_the_flag_needs_its_logger_in_python(tmp_path):
    """No flag is ignored: the command gives `train` a TensorBoard, a program must do so itself."""
    run = RunSettings(run_dir=tmp_path / "run", tensorboard=True)
    with pytest.raises(UsageError, match="tensorboard"):
        train(TrainSettings(task=RepeatCopySettings(), run=run))
    assert not (tmp_path / "run").exists()


def test_the_flag(tmp_path, drawn):
    """Every report, and a picture at ten of them."""
    flags = ["--hidden_size=4", "--memory_size=4", "--word_size=3", "--batch_size=2"]
    flags += ["--num_training_iterations=20", "--report_interval=1", "--tensorboard"]
    assert main(["train", "repeat-copy", *flags, f"--run_dir={tmp_path / 'run'}"]) == 0
    assert [step for step, _ in scalars(tmp_path / "run")["loss"]] == [*range(1, 21)]
    steps = [step for step, _ in shown(tmp_path / "run")["memory"]]
    assert (len(steps), steps[0], steps[-1]) == (10, 1, 20)


@pytest.fixture
def limit():
    """Sets the largest size of a file, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_training_does_not_hang_on_a_full_disk(run, limit):
    """The writing thread ends; an OSError follows, and neither a report nor the end waits."""

    def reports():
        with TensorBoard(run) as board:
            log(board, run, report(100))
            limit(2**16)
            for iteration in range(200, 200_000, 100):
                board(report(iteration))

    with pytest.raises(OSError, match="too large"):
        reports()
    assert [step for step, _ in scalars(run)["loss"]][:2] == [100, 200]


@pytest.mark.parametrize("name", ["tensorboardX", "matplotlib"])
def test_what_is_not_installed_is_said_before_anything_is_written(name, tmp_path, monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"needs {name}: pip install 'dncx\[tensorboard\]'"):
        TensorBoard(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_libraries_are_loaded_when_they_are_needed():
    code = (
        "import sys, pathlib, dncx.training.loop\n"
        "assert not [name for name in sys.modules if name.startswith('dncx.explore')]\n"
        "import dncx.explore.tensorboard as t\n"
        "t.TensorBoard(pathlib.Path('run'))\n"
        "assert not {'tensorboardX', 'matplotlib'} & set(sys.modules)\n"
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
