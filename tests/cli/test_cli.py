"""The command line: the original's flags, help at once, and errors without stack traces."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

import dncx.cli.main as cli
from dncx.cli.main import main, train_main
from dncx.config import DNCConfig
from dncx.networks.config import NetworkConfig, network_config
from dncx.runs import directory as runs
from dncx.runs.paths import SHIPPED
from dncx.settings.presets import DEFAULTS
from dncx.tasks.registry import TASKS, make_task
from dncx.tasks.repeat_copy import RepeatCopy

ROOT = Path(__file__).parents[2]
# Flag, default and another value: those of google-deepmind/dnc's train.py, and where they go.
ORIGINAL_FLAGS = {
    "hidden_size": (64, 8, "model"),
    "memory_size": (16, 8, "model"),
    "word_size": (16, 8, "model"),
    "num_write_heads": (1, 2, "model"),
    "num_read_heads": (4, 2, "model"),
    "clip_value": (None, 5, "model"),
    "max_grad_norm": (50, 5, "optimizer"),
    "learning_rate": (1e-4, 1e-3, "optimizer"),
    "optimizer_epsilon": (1e-10, 1e-8, "optimizer"),
    "batch_size": (16, 4, "run"),
    "num_bits": (4, 3, "task"),
    "min_length": (1, 2, "task"),
    "max_length": (2, 5, "task"),
    "min_repeats": (1, 2, "task"),
    "max_repeats": (2, 5, "task"),
    "num_training_iterations": (100_000, 7, "run"),
    "report_interval": (100, 7, "run"),
    "checkpoint_dir": (None, Path("elsewhere"), "run"),
    "checkpoint_interval": (-1, 7, "run"),
}
OWN_FLAGS = {
    "seed": (0, 3, "run"),
    "run_dir": (Path("runs/repeat-copy"), Path("other"), "run"),
    "keep_checkpoints": (5, 2, "run"),
    "momentum": (0, 0.9, "optimizer"),
    "equations": ("deepmind", "nature", "model"),
}
FLAGS = ORIGINAL_FLAGS | OWN_FLAGS


@pytest.fixture
def parsed(monkeypatch):
    """Parses a command line and gives the settings, without training."""

    def parse(arguments, command=train_main):
        got = []
        monkeypatch.setattr(cli, "_train", got.append)
        assert command(arguments) == 0
        return got[0]

    return parse


def test_the_original_has_nineteen_flags():
    assert len(ORIGINAL_FLAGS) == 19


@pytest.mark.parametrize("flag", FLAGS)
def test_flag(flag, parsed):
    """Its default, and its value however it is spelled."""
    default, value, group = FLAGS[flag]
    assert getattr(getattr(parsed([]), group), flag) == default
    hyphened = flag.replace("_", "-")
    for arguments in ([f"--{flag}={value}"], [f"--{flag}", str(value)], [f"--{hyphened}={value}"]):
        assert getattr(getattr(parsed(arguments), group), flag) == value
    assert (
        getattr(getattr(parsed(["train", "repeat-copy", *arguments], main), group), flag) == value
    )


@pytest.mark.parametrize("flag", [f for f in FLAGS if FLAGS[f][2] in ("model", "task")])
def test_flag_reaches_the_network_or_the_task(flag, parsed):
    _, value, group = FLAGS[flag]
    limits = {"max_length": 6, "max_repeats": 6, flag: value}
    settings = parsed([f"--{name}={number}" for name, number in limits.items()])
    task = make_task(settings.task_name, settings.task)
    network = network_config(settings.model, task.input_size, task.output_size)
    model = vars(network) | vars(network.cell)
    if flag == "equations":
        assert vars(DNCConfig.nature()).items() <= model.items()
    else:
        assert (model[flag] if group == "model" else getattr(task, flag)) == value


def test_resume_is_the_default(parsed):
    assert parsed([]).run.resume is True
    assert parsed(["--resume"]).run.resume is True
    assert parsed(["--no-resume"]).run.resume is False


def test_checkpoints_go_into_the_run_directory(parsed):
    assert parsed(["--run_dir=here"]).run.checkpoints == Path("here/checkpoints").resolve()
    assert parsed(["--checkpoint_dir=there"]).run.checkpoints == Path("there").resolve()


def test_defaults_are_those_of_the_library():
    defaults = DEFAULTS["repeat-copy"]
    assert vars(defaults.task).items() <= vars(RepeatCopy()).items()
    assert network_config(defaults.model, 6, 5) == NetworkConfig(input_size=6, output_size=5)


def run(*command, folder, unset="", **environment):
    inherited = {name: value for name, value in os.environ.items() if name != unset}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**inherited, **environment},
        timeout=600,
    )


@pytest.mark.parametrize(
    "command",
    [["-m", "dncx"], ["-m", "dncx", "train"], ["-m", "dncx", "eval"], ["train.py"]],
)
def test_help_needs_no_jax(command):
    """--help is instant because nothing heavy is imported for it."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:];"
        "import atexit; atexit.register(lambda: print('HEAVY', [m for m in ('jax', 'flax', 'numpy',"
        " 'optax', 'matplotlib') if m in sys.modules]));"
    )
    target = (
        f"runpy.run_module({command[1]!r}, run_name='__main__')"
        if command[0] == "-m"
        else f"runpy.run_path({command[0]!r}, run_name='__main__')"
    )
    name, *rest = command[1:] if command[0] == "-m" else command
    result = run("-c", code + target, name, *rest, "--help", folder=ROOT)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout
    assert "HEAVY []" in result.stdout


def test_import_brings_no_trainer_and_no_plotting():
    """`import dncx` and its core need neither command line nor checkpoints nor plots."""
    code = (
        "import sys, dncx;"
        "others = (*dncx._PACKAGES, 'export', 'load_run');"
        "[getattr(dncx, name) for name in dir(dncx) if name not in others];"
        "print([m for m in sys.modules if m.startswith(('matplotlib', 'dncx.training',"
        "'dncx.cli.main', 'dncx.tasks', 'safetensors', 'orbax'))])"
    )
    result = run("-c", code, folder=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


REFUSED = {
    "--memory_size=0": "memory_size=0: must be a whole number of at least 1",
    "--hidden_size=-4": "hidden_size=-4: must be a whole number of at least 1",
    "--num_read_heads=0": "num_read_heads=0",
    "--clip_value=-1": "clip_value=-1.0: must be a finite number of at least 0",
    "--clip_value=nan": "clip_value=nan",
    "--learning_rate=-1": "learning_rate=-1.0: must be a finite number of at least 0",
    "--learning_rate=inf": "learning_rate=inf",
    "--batch_size=0": "batch_size=0: must lie in 1..2147483647",
    "--report_interval=0": "report_interval=0: must lie in 1..",
    "--num_training_iterations=0": "num_training_iterations=0: must lie in 1..",
    "--checkpoint_interval=0": "checkpoint_interval=0: must lie in 1..2147483647; -1 is off",
    "--keep_best_checkpoints=2": "keep_best_checkpoints=2: needs --checkpoint_interval",
    "--warmup_iterations=200000": "warmup_iterations=200000: must lie between 0 and num_",
    "--keep_checkpoints=-1": "keep_checkpoints=-1: must lie in 0..",
    "--seed=-1": "seed=-1: must lie in 0..4294967295",
    "--report_interval=3000000000": "report_interval=3000000000: must lie in 1..2147483647",
    "--max_repeats=2000000000": "4000000005 steps",
    "--num_bits=0": "num_bits=0: must be at least 1",
    "--min_length=3": "min_length=3 is above max_length=2",
    "--min_repeats=5": "min_repeats=5 is above max_repeats=2",
}


@pytest.mark.parametrize("flag", REFUSED)
def test_impossible_numbers(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train_main([flag]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dncx: error: ")
    assert REFUSED[flag] in error
    assert list(tmp_path.iterdir()) == []


def make_places(folder):
    (folder / "file").write_text("something of the user's")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "config.json").write_text('{"not": "ours"}')
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{")
    (folder / "empty").mkdir()
    (folder / "runs" / "kept").mkdir(parents=True)


PLACES = {
    ("--run_dir=file",): "--run_dir: file is not a directory",
    ("--run_dir=file/below",): "file is not a directory",
    ("--run_dir=foreign",): "foreign/config.json is not the configuration of a dncx run",
    ("--run_dir=broken",): "broken/config.json",
    ("--run_dir=" + 300 * "x",): "File name too long",
    ("--equations=nature", "--clip_value=5"): "clip_value=5.0: the paper's equations",
    ("--run_dir=new", "--checkpoint_dir=file"): "file is not a directory",
    ("--run_dir=new", "--checkpoint_dir=file/below"): "file is not a directory",
}


@pytest.mark.parametrize("flags", PLACES)
def test_impossible_places(flags, tmp_path, monkeypatch, capsys):
    make_places(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert train_main([*flags]) == 2
    assert PLACES[flags] in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flag", ["checkpoint_dir", "run_dir"])
def test_a_place_without_permission(flag, tmp_path, monkeypatch, capsys):
    """Permissions as the system tells them, for tests may run as root, who may do everything."""
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.chdir(tmp_path)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
    assert train_main([f"--{flag}={locked / 'below'}"]) == 2
    assert f"--{flag}: no permission to read and write in {locked}" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["locked"]


EVALS = {
    ("nowhere",): "there is no run nowhere",
    ("memory_reuse",): "did you mean memory-reuse?",
    ("runs/kepd",): "did you mean runs/kept?",
    ("traversal", "--sweep=graph=undergrund"): "did you mean underground?",
    ("memory-reuse", "--sweep=lenght=1,2"): "did you mean length?",
    ("empty",): "empty is not a run directory",
    ("file",): "file is not a run directory",
}


@pytest.mark.parametrize("arguments", EVALS)
def test_eval_refuses(arguments, tmp_path, monkeypatch, capsys):
    make_places(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *arguments]) == 2
    assert EVALS[arguments] in capsys.readouterr().err


@pytest.mark.second_step
def test_what_does_not_fit_into_memory(tmp_path, monkeypatch, capsys):
    """No stack trace, and nothing written before it was compiled."""
    monkeypatch.chdir(tmp_path)
    assert train_main(["--memory_size=1000000", "--num_training_iterations=5"]) == 1
    assert "this does not fit into memory; try" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses(tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_whole", full)
    small = ["--memory_size=4", "--hidden_size=4", "--num_training_iterations=3"]
    assert train_main([*small, f"--run_dir={tmp_path / 'run'}"]) == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.second_step
def test_a_second_start_finds_the_compiled_program(tmp_path):
    """In the user's cache by default; nothing is cached where JAX's own switch is off."""
    # An LSTM, since the kernels of a DNC would be compiled anew in another cache.
    small = ["--model=lstm", "--hidden_size=4", "--num_training_iterations=1"]
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    off = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    for environment, kept in ((places | off, False), (places, True)):
        command = [str(ROOT / "train.py"), *small, f"--run_dir={tmp_path / str(kept)}"]
        result = run(*command, folder=tmp_path, unset="JAX_COMPILATION_CACHE_DIR", **environment)
        assert result.returncode == 0, result.stderr
        assert any((tmp_path / "cache").glob("dncx/jit_train*")) is kept


STUB = """#!/bin/sh
# In the place of the interpreter that trains.
trap 'sleep 0.1; exit CODE' INT
echo training
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize(("code", "error"), [(130, False), (1, True)])
def test_ctrl_c_in_make_train(code, error, tmp_path):
    """The terminal sends it to make as well; a run that was saved is no error."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(STUB.replace("CODE", str(code)))
    python.chmod(0o755)
    (tmp_path / ".ready").touch()
    command = ["make", "--no-print-directory", "train", f"VENV={tmp_path}", "ARGS=--seed=1"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as make:  # fmt: skip
        assert "train.py --seed=1" in make.stdout.readline()
        assert make.stdout.readline() == "training\n"
        os.killpg(make.pid, signal.SIGINT)
        try:
            _, errors = make.communicate(timeout=300)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended, as it should
                os.killpg(make.pid, signal.SIGKILL)
    assert ("***" in errors) is error


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dncx 0.")


def test_an_error_at_the_shell_has_no_stack_trace(tmp_path):
    result = run(str(ROOT / "train.py"), "--memory_size=0", folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("dncx: error: memory_size=0: must be a whole number")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_task_whose_fields_are_flags_of_dncx(capsys):
    @dataclasses.dataclass(frozen=True)
    class Mine(RepeatCopy):
        name: ClassVar[str] = "mine"
        seed: int = 0

    assert cli.task_main(Mine, ["train"]) == 2
    assert capsys.readouterr().err.startswith("dncx: error: seed: ")
    assert "mine" not in TASKS


def test_a_task_that_is_not_whole(capsys):
    @dataclasses.dataclass(frozen=True)
    class Mine:
        input_size: int = 3

    assert cli.task_main(Mine, ["train"]) == 2
    missing = "name, output_size, loss_unit, loss, score, render, sample"
    assert f"error: Mine has no {missing}; " in capsys.readouterr().err


def test_a_reader_that_has_seen_enough():
    """As in `dncx runs | head`: no message, and the shell's code for a broken pipe."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "dncx", "runs", str(SHIPPED)]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.second_step
def test_ipython(tmp_path):
    """ipython train.py -- --memory_size=..., as the original's README has it."""
    flags = [
        "--memory_size=4",
        "--hidden_size=4",
        "--num_training_iterations=3",
        "--report_interval=3",
    ]
    result = run(
        "-m", "IPython", str(ROOT / "train.py"), "--", *flags,
        folder=tmp_path, IPYTHONDIR=str(tmp_path / "ipython"),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "iteration 3/3: average loss" in result.stdout
    assert (tmp_path / "runs" / "repeat-copy" / "model.safetensors").exists()
