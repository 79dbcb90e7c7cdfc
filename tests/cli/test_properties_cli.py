"""The command line, whatever is typed: settings, help, or a code of 2 and a line that says why.

Real flags, misspelt ones, words without a flag; values that are none; nothing is trained, and
nothing is written.
"""

import contextlib
import dataclasses
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dncx.cli.main as cli
from dncx.cli import parsing
from dncx.cli.help import Help
from dncx.errors import UsageError
from dncx.networks.config import network_config
from dncx.settings import presets
from dncx.tasks.registry import make_task

LONGEST = 1500  # signs of a message, beside what was typed
VALUES = ["", "0", "-0", "-1", "1", "3", "0.5", "nan", "inf", "-inf", "1e400", "1e-400", "1_0",
          "0x1", str(10**30), 5000 * "1", "two", "True", "None", "--", "-", "=", "[/]", "[red]x",
          "nowhere/at/all", ".", "..", "/", "/dev/null", "file", "file/below", 300 * "x", "~", "*",
          "a\nb", "ü✓", "\udcff", "1,2", "length=1,2", "memory_size=", "memory-reuse", "trace.npz",
          "deepmind", "nature", "random", "{0}", "%s", "-h", "--help", "--version"]  # fmt: skip


def fields_below(kind):
    """The names of all fields, those of sections included."""
    for field in dataclasses.fields(kind):
        value = getattr(kind, field.name, None)
        inner = list(fields_below(value)) if dataclasses.is_dataclass(value) else []
        yield from inner or [field.name]


RUN_COMMANDS = {word: kind for word, kind in parsing.COMMANDS.items() if word != "train"}
OWN_FLAGS = {
    **{("train", name): [*fields_below(start)] for name, start in presets.DEFAULTS.items()},
    **{(name,): [*fields_below(kind)] for name, kind in RUN_COMMANDS.items()},
    ("eval", "memory-reuse"): [*fields_below(parsing.EvalSettings), "num_bits", "max_length"],
    ("explore", "memory-reuse"): [*fields_below(parsing.ExploreSettings), "num_bits"],
}


def words_for(flags):
    """A flag as it is typed, rightly or not, with its value or without."""
    flag = st.sampled_from(flags)
    spelled = st.one_of(
        flag,
        flag.map(lambda name: name.replace("_", "-")),
        flag.map(lambda name: f"no_{name}"),
        flag.map(lambda name: name[:-1]),
        flag.map(str.upper),
        st.sampled_from(["", "preset", "help", "é"]),
    ).map("--{}".format)
    value = st.one_of(st.sampled_from(VALUES), st.integers().map(str), st.floats().map(str))
    return st.one_of(
        st.tuples(spelled, value).map("=".join).map(lambda word: (word,)),
        st.tuples(spelled, value),
        st.tuples(spelled),
        st.tuples(value),
    )


def most(line):
    return LONGEST + 2 * sum(map(len, line))


def lines_for(start):
    more = st.lists(words_for(OWN_FLAGS[start]), max_size=4)
    return more.map(lambda groups: [*start, *(word for group in groups for word in group)])


ANY_LINE = st.sampled_from(list(OWN_FLAGS)).flatmap(lines_for)
NO_COMMAND = st.lists(st.sampled_from([*VALUES, "train", "eval", "copy", "runs"]), max_size=4)


def quick(examples):
    """As many examples, the same ones in every run, and nothing kept of them."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run, with a file that is in the way."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "file").write_text("something of the user's")
    with contextlib.chdir(folder):
        yield folder


def printed(call):
    """What a call returns or leaves with, and what it wrote to a terminal of UTF-8."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    streams = out, io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")  # as Python has them
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            found = call()
        except SystemExit as leaving:
            found = leaving.code
        for stream in streams:
            stream.flush()
    return found, "".join(stream.buffer.getvalue().decode() for stream in streams)


@quick(70)
@given(line=st.sampled_from([s for s in OWN_FLAGS if s[0] == "train"]).flatmap(lines_for))
def test_what_is_asked_for_is_a_task_and_a_network_or_refused(folder, line):
    """Before anything is trained or written."""

    def made():
        try:
            asked = parsing.parse(presets.DEFAULTS, line, "dncx")
            if isinstance(asked, Help):
                return 0
            asked.check()
            task = make_task(asked.task_name, asked.task)
            return network_config(asked.model, task.input_size, task.output_size)
        except UsageError as error:
            return error

    found, _ = printed(made)
    assert found in (0, 2) if isinstance(found, int) else found is not None
    assert not isinstance(found, UsageError) or 0 < len(str(found)) < most(line)


@pytest.fixture(scope="module")
def _nothing_is_done():
    """Commands are parsed and checked, and that is all."""
    with pytest.MonkeyPatch.context() as patch:
        commands = "_train", "_eval", "_explore", "_probe", "_export", "_card", "_push", "_debug"
        for command in commands:
            patch.setattr(cli, command, lambda asked: getattr(asked, "check", bool)())
        yield


@pytest.mark.usefixtures("_nothing_is_done")
@quick(100)
@given(line=st.one_of(ANY_LINE, NO_COMMAND), original=st.booleans())
def test_the_command_has_a_code_and_a_message(folder, line, original):
    """No stack trace, of `dncx` and of `train.py`."""
    command = cli.train_main if original else cli.main
    code, text = printed(lambda: command(line))
    assert code in (0, 2)
    assert code == 0 or text
    assert "Traceback" not in text
    if text.startswith("dncx: error: "):
        assert len(text) < most(line)
    assert [path.name for path in folder.iterdir()] == ["file"]
