"""What is compiled: the same program for a run that resumes, so that its cache is found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dncx.cli.main import main, train_main
from dncx.training import devices, update

ROOT = Path(__file__).parents[2]
SMALL = ["--hidden_size=4", "--memory_size=4", "--word_size=4", "--num_read_heads=1"]
SMALL += ["--report_interval=2", "--batch_size=2", "--checkpoint_interval=1"]


def test_a_resumed_run_compiles_the_same_program(tmp_path, monkeypatch):
    texts = []

    class Recorded:
        def __init__(self, program):
            self._program = program

        def lower(self, *arguments):
            lowered = self._program.lower(*arguments)
            texts.append(lowered.as_text())
            return lowered

    make = update.make_train
    monkeypatch.setattr(update, "make_train", lambda *a: Recorded(make(*a)))
    for iterations in (2, 4):
        flags = [*SMALL, f"--num_training_iterations={iterations}"]
        assert train_main([*flags, f"--run_dir={tmp_path / 'run'}"]) == 0
    fresh, resumed = texts
    assert fresh == resumed


FAILURES = {
    "cuda": (AssertionError(), "jax[cuda"),
    "gpu": (RuntimeError("Unable to initialize backend 'rocm': Backend 'rocm' is not in"), "cuda"),
    "tpu": (RuntimeError("Unable to initialize backend 'tpu': INTERNAL: no libtpu.so"), "jax[tpu]"),
    "cuad": (RuntimeError("Unable to initialize backend 'cuad': it is not in the list"), "cuda?"),
    "cuda,cpu": (RuntimeError("Unable to initialize backend 'cuda': CUDA_ERROR\nmore"), "driver"),
    "CUDA": (RuntimeError("Backend 'CUDA' is not known"), "JAX_PLATFORMS=cuda"),
    None: (RuntimeError("Unable to initialize backend 'cuda': no memory\n"), "JAX_PLATFORMS=cpu"),
}


@pytest.mark.parametrize("asked", FAILURES)
@pytest.mark.parametrize("command", ["train", "eval", "explore", "export"])
def test_a_device_that_is_not_there(command, asked, monkeypatch, capsys, tmp_path):
    """One line that says what to do, and exit code 2; nothing is written."""
    error, advice = FAILURES[asked]

    def fail():
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices.jax, "devices", fail)
    monkeypatch.setattr(devices, "_platforms", lambda: asked)
    word = "copy" if command == "train" else "memory-reuse"
    assert main([command, word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert advice in line
    if asked:
        assert f"JAX_PLATFORMS={asked}: " in line
    assert not any(tmp_path.iterdir())


BROKEN_PLUGIN = """
def initialize():
    raise RuntimeError("Unable to load cuSPARSE.\\nIs it installed?")
"""


@pytest.mark.second_step
def test_a_plugin_that_fails(tmp_path):
    """JAX logs a stack trace of it; a line is enough. The CPU does the work."""
    folder = tmp_path / "jax_plugins"
    folder.mkdir()
    (folder / "broken.py").write_text(BROKEN_PLUGIN)
    for platform, code in (("", 0), ("cuda", 2)):
        result = subprocess.run(
            [sys.executable, "-m", "dncx", "eval", "associative-recall", "--num_episodes=1"],
            env=os.environ | {"JAX_PLATFORMS": platform, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        (line, *rest) = result.stderr.splitlines()
        assert "cuSPARSE" in line
        assert len(rest) == (1 if code else 0)
