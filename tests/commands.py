"""The commands that README, docs and examples show; test_docs parses and runs them."""

import contextlib
import dataclasses
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
from jaxtyping import config as jaxtyping_config

import dncx.cli.main as cli

ROOT = Path(__file__).parent.parent
# Where somebody looks for commands. A changelog tells of commands as they were.
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dncx").rglob("*.md")]
    if page.name != "CHANGELOG.md"
)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROGRAMS = re.compile(r"dncx|python3?|ipython")
# Command lines that `run` can run in this process.
OWN_PROGRAMS = re.compile(r"dncx\b|i?python3? (train|examples/own_(task|data))\.py\b")
# Words that stand for what a reader puts in their place.
PLACEHOLDERS = {
    "RUN": "memory-reuse",
    "TASK": "repeat-copy",
    "FOLDER": "runs",
    "FILE": "measured.json",
    "FILE.json": "measured.json",
    "NAME": "repeat-copy",
    "D": "bfloat16",
}


class Command(NamedTuple):
    """A command line in the documentation."""

    page: str
    line: int
    text: str
    before: tuple[str, ...]  # of other programs: environment variables, srun
    words: tuple[str, ...]  # from dncx or python on
    inline: bool  # within a sentence, where it may be a sketch

    def __str__(self):
        return f"{self.page}:{self.line}: {self.text}"


def commands(page):
    """All commands of a page or of an example, in their order."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    found = []
    if page.suffix == ".py":
        (docstring,) = re.findall(r'^"""(.*?)"""', text, re.S)
        found += _lines(name, 1, docstring, within=r"^python ")
    for block in re.finditer(r"^ *```(sh|yaml)\n(.*?)^ *```", text, re.M | re.S):
        start = text.count("\n", 0, block.start(2)) + 1
        if block[1] == "sh":
            found += _lines(name, start, block[2])
        for listed in re.finditer(r"command: \[(.*)\]", block[2]):
            line = start + block[2].count("\n", 0, listed.start())
            found += _command(name, line, listed[1].replace(",", ""))
    outside = re.sub(r"^ *```.*?^ *```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    for match in re.finditer(
        r"`((?:dncx|python) [^`\n]+)`", outside if page.suffix == ".md" else ""
    ):
        found += _command(name, outside.count("\n", 0, match.start()) + 1, match[1], inline=True)
    return sorted(found, key=lambda command: command.line)


def _lines(page, start, block, within=""):
    """The commands in lines, which a backslash may continue."""
    for match in re.finditer(r"(?:.*\\\n)*.+", block):
        if re.search(within, match[0]):
            line = start + block.count("\n", 0, match.start())
            yield from _command(page, line, match[0].replace("\\\n", " "))


def _command(page, line, text, inline=False):
    """The command in a line, if it is one of ours; also within `sh -c`."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise AssertionError(f"{page}:{line}: {error}: {text}") from error
    for number, word in enumerate(words):
        if word == "-c" and number and words[number - 1] == "sh":
            yield from _command(page, line, words[number + 1], inline)
            return
        if PROGRAMS.fullmatch(word):
            shown = " ".join(text.split())
            yield Command(page, line, shown, tuple(words[:number]), tuple(words[number:]), inline)
            return


def filled(word):
    """A word with an example in the place of what stands for something else."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    value = PLACEHOLDERS.get(value, value)
    value = re.sub(r"\b[A-Z]+_MACHINE\b", "localhost", value)
    value = re.sub(r"\$\w*SIZE", "2", value)
    value = re.sub(r"\$\w*(RANK|INDEX|ID)", "1", value)
    value = re.sub(r"\$\w+", ".", value)
    return f"{flag}{equals}{'3' if flag and re.fullmatch('[KMNS]', value) else value}"


def run(words):
    """The exit code of a command, as if typed."""
    program, *rest = words
    if program == "dncx":
        return cli.main(rest)
    script, *rest = [word for word in rest if word != "--"]
    if script == "train.py":
        return cli.train_main(rest)
    spec = importlib.util.spec_from_file_location("__example__", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    sys.modules["__example__"] = module
    spec.loader.exec_module(module)
    (task,) = [
        kind for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and kind.__module__ == "__example__"
        and "name" in vars(kind)
    ]  # fmt: skip
    return cli.task_main(task, rest)


def carry_out(words, folder, **variables):
    """Runs a command, which must succeed, and returns what it prints.

    Those of dncx run in this process, which has loaded JAX already: most of the time of a new
    process is spent on that. Environment variables need a new process, and other scripts do.
    tests/cli and test_examples try dncx and custom tasks as programs. The tests' own checks of
    shapes and dtypes are off, as for users; an exported program has sizes without a number.
    """
    if variables or not OWN_PROGRAMS.match(" ".join(words)):
        return _in_a_process(words, folder, **variables)
    printed, errors = io.StringIO(), io.StringIO()
    with (
        _without_type_checks(),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        code = run(words)
    assert code == 0, _shown(words, printed.getvalue(), errors.getvalue())
    return printed.getvalue()


@contextlib.contextmanager
def _without_type_checks():
    jaxtyping_config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)


def _in_a_process(words, folder, **variables):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, env=os.environ | {"PATH": path} | variables,
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, _shown(words, done.stdout, done.stderr)
    return done.stdout


def _shown(words, *streams):
    return "\n".join([" ".join(words), *(text[-2000:] for text in streams)])
