"""What training prints: a bar, reports at a human pace on a terminal, and everything elsewhere."""

import contextlib
import io
import logging
import os
import shutil
import sys

import pytest

from dncx.cli.main import main
from dncx.reporting import console
from dncx.reporting.console import Reporter
from dncx.reporting.logs import log_shown
from dncx.runs.metrics import read_metrics

WIDE = " ".join(["00000"] * 40)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(monkeypatch):
    """A terminal of 60 columns in the place of standard output, which pytest sets anew."""
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    return sys.stdout


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    seconds = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: seconds[0])
    return seconds


def reported(reporter, clock, moments, total):
    """The iterations of the reports that are printed, made at these moments."""
    for iteration, moment in enumerate(moments, 1):
        clock[0] = 1000 + moment
        reporter.report(
            f"iteration {iteration}/{total}", f" target {WIDE}\noutput {WIDE}", iteration
        )
    text = sys.stdout.getvalue()
    return [n for n in range(1, len(moments) + 1) if f"iteration {n}/" in text], text


def test_a_terminal_shows_a_report_every_two_seconds(clock, monkeypatch):
    """The first and the last ones always; samples are cut to its width."""
    on_a_terminal(monkeypatch)
    with Reporter(6) as reporter:
        printed, text = reported(reporter, clock, [0, 0.5, 1.9, 2.1, 3.9, 4.0], 6)
    assert printed == [1, 4, 6]
    samples = [line for line in text.splitlines() if "00000" in line]
    assert {len(line) for line in samples} == {60}
    assert all(line.endswith(" ...") for line in samples)


@pytest.mark.parametrize("place", ["pipe", "command in a notebook", "notebook"])
def test_others_get_every_report_in_full_as_plain_lines(place, monkeypatch, clock):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    if place == "command in a notebook":
        monkeypatch.setattr(sys, "stdout", Terminal())
        monkeypatch.setenv("JPY_PARENT_PID", "1")
    if place == "notebook":
        monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with Reporter(3) as reporter:
        reporter.show_bar()
        printed, text = reported(reporter, clock, [0, 0.1, 0.2], 3)
        reporter.advance(3)
        reporter.progress.refresh()
    assert printed == [1, 2, 3]
    assert text.count(WIDE) == 6
    assert sys.stdout.getvalue() == text
    assert "\x1b" not in text


def test_the_bar_waits_for_progress(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    with Reporter(10) as reporter:
        reporter.say("compiling")
        assert "/10" not in terminal.getvalue()
        reporter.show_bar()
        reporter.advance(4)
        reporter.progress.refresh()
        reporter.say("a line")
    assert "4/10" in terminal.getvalue()
    assert "a line" in terminal.getvalue()


def test_what_is_logged_is_shown_meanwhile():
    shown, logger = [], logging.getLogger("dncx")
    level = logger.level
    with log_shown(shown.append):
        logger.info("building the kernel: %s s", 15)
        logger.warning("no compiler")
        logger.debug("nothing to say")
    logger.info("later")
    assert shown == ["building the kernel: 15 s", "no compiler"]
    assert (logger.level, logger.handlers) == (level, [])


# Streams that cannot write every character

SMALL = ["--hidden_size=4", "--memory_size=4", "--word_size=4", "--num_read_heads=1"]
SMALL += ["--num_training_iterations=30", "--report_interval=1", "--batch_size=2"]
NOT_UTF8 = os.fsdecode(b"x\xff")
COMMANDS = {
    "eval": ["--num_episodes=2"],
    "explore": ["--num_episodes=1", "--no-figures", "--force"],
    "debug": [],
    "runs": [],
    "runs --json": [],
}


class Stream(io.TextIOWrapper):
    """With the bytes that were written to it; a terminal or none."""

    terminal = False

    def __init__(self, encoding, errors):
        super().__init__(io.BytesIO(), encoding, errors)

    def isatty(self):
        return self.terminal


def printed(line, encoding="ascii", errors="strict", kind=Stream):
    """The exit code of a command, and what it wrote to streams of an encoding."""
    streams = [kind(encoding, errors) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(line)
    for stream in streams:
        stream.flush()
    return code, b"".join(stream.buffer.getvalue() for stream in streams).decode(encoding)


class TerminalStream(Stream):
    terminal = True


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory named ü, and what training it wrote to an ASCII terminal."""
    run_dir = tmp_path_factory.mktemp("runs") / "ü"
    line = ["train", "repeat-copy", *SMALL, f"--run_dir={run_dir}"]
    code, text = printed(line, kind=TerminalStream)
    assert code == 0
    return run_dir, text


def test_all_reports_are_in_the_metrics(trained):
    """Also those that a terminal does not show; what samples mean is said once."""
    run_dir, text = trained
    lines = read_metrics(run_dir / "metrics.jsonl")
    assert [line["iteration"] for line in lines] == list(range(1, 31))
    assert text.count("average loss") < 30
    assert "iteration 30/30" in text
    assert text.count("one channel") == 1
    assert "\\xfc" in text


@pytest.mark.parametrize(
    ("name", "encoding", "errors"),
    [("ü", "ascii", "strict"), ("ü", "ascii", "surrogateescape"), (NOT_UTF8, "utf-8", "strict")],
)
def test_streams_and_names(name, encoding, errors, trained, tmp_path):
    """Of any encoding, and of a locale without one; names need not even be UTF-8."""
    copied = shutil.copytree(trained[0], tmp_path / name)
    for command, flags in COMMANDS.items():
        if errors == "surrogateescape" and command in ("eval", "explore"):
            continue  # the same prints, and slow
        code, text = printed([*command.split(), str(copied), *flags], encoding, errors)
        assert code == (2 if command == "debug" else 0), text
        assert text


def test_training_needs_a_path_in_utf8(tmp_path, monkeypatch):
    """Checkpoints do; it is refused before anything is written."""
    for flag in ("run_dir", "checkpoint_dir"):
        code, text = printed(["train", "copy", f"--{flag}={tmp_path / NOT_UTF8}"], "utf-8")
        assert code == 2
        assert flag in text
    (tmp_path / NOT_UTF8).mkdir()
    monkeypatch.chdir(tmp_path / NOT_UTF8)
    assert printed(["train", "copy", "--run_dir=here"])[0] == 2
    assert not any((tmp_path / NOT_UTF8).iterdir())


def test_help_on_an_ascii_terminal():
    code, text = printed(["train", "--preset=help"])
    assert code == 0
    assert "memory-reuse" in text
