"""The command line as settings: values, order, home directories, help, and misspelt words."""

import dataclasses
import enum
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest

from dncx.cli import parsing
from dncx.cli.help import Help
from dncx.cli.main import main, task_main, train_main
from dncx.errors import UsageError, did_you_mean
from dncx.runs.paths import SHIPPED
from dncx.runs.trained import find_trained
from dncx.settings import presets
from dncx.settings.commands import EvalSettings, ExploreSettings, ExportSettings
from dncx.settings.flags import POSITIONAL, changed, flags_of
from dncx.settings.training import RunSettings
from dncx.tasks.repeat_copy import RepeatCopy

RUN = {"eval": "memory-reuse", "explore": "memory-reuse", "probe": "memory-reuse",
       "export": "memory-reuse", "card": "memory-reuse", "debug": "memory-reuse",
       "runs": "dncx/models"}  # fmt: skip
REPO = "me/model"  # the second word of `push`


def parse(*arguments):
    if arguments[0] == "push" and "--help" not in arguments:
        arguments = (*arguments, REPO)
    return parsing.parse(presets.DEFAULTS, [*arguments], "dncx")


# Each command with the word that it needs.
STARTS = [*(("train", task) for task in presets.DEFAULTS), *RUN.items(), ("push", "memory-reuse")]


def flags_by_start():
    """The flags of each command; of those that all tasks have, one."""
    seen = set()
    for command, word in STARTS:
        for flag in flags_of(parse(command, word)):
            if flag.mark != POSITIONAL and (command, flag.name) not in seen:
                yield pytest.param(command, word, flag, id=f"{command} {word} --{flag.name}")
            seen.add((command, flag.name))


def typed(flag):
    """Words that give a flag another value than its default."""
    if flag.kind is bool:
        return [f"--{'no_' if flag.default else ''}{flag.name}"]
    if flag.name in ("preset", "show_errors", "auxiliary_word", "checkpoint", "network"):
        return []  # tried below or elsewhere; refused without another option
    value = next((choice for choice in flag.choices if choice != flag.default), "7")
    return [f"--{flag.name}", value]


def values_of(settings):
    """All values of settings, by the names of their flags."""
    return {flag.name: flag.default for flag in flags_of(settings)}


EVERY_FLAG = list(flags_by_start())


@pytest.mark.parametrize(("command", "word", "flag"), EVERY_FLAG)
def test_options_stand_before_or_after_the_word(command, word, flag):
    after = parse(command, word, *typed(flag))
    assert parse(command, *typed(flag), word) == after
    if words := typed(flag):
        assert values_of(after)[flag.name] != flag.default
        hyphened = [words[0].replace("_", "-"), *words[1:]]
        assert parse(command, *hyphened, word) == after
    if len(words) == 2:
        assert parse(command, "=".join(words), word) == after


def test_two_words():
    """In their order, whatever options stand between them."""
    for line in (["a", REPO, "--private"], ["a", "--private", REPO], ["--private", "a", REPO]):
        asked = parsing.parse(presets.DEFAULTS, ["push", *line], "dncx")
        assert (asked.run_dir, asked.repo, asked.private) == (Path("a"), REPO, True)


def test_several_options_before_the_word():
    asked = parse("explore", "--seed", "3", "--compare", "a", "--no-figures", "traversal")
    assert (asked.run_dir, asked.compare, asked.seed) == (Path("traversal"), Path("a"), 3)
    assert (asked.figures, asked.task.name) == (False, "traversal")
    asked = parse("eval", "--sweep", "length=1,2", "--max_length", "9", "--sweep", "a=b",
                  "memory-reuse", "--seed=2")  # fmt: skip
    assert asked.sweep == ("length=1,2", "a=b")
    assert (asked.task.max_length, asked.task.num_sequences, asked.seed) == (9, 10, 2)
    assert parse("train", "--tasks", "1", "4", "babi").task.tasks == (1, 4)
    assert parse("train", "babi", "--tasks=1,4,6").task.tasks == (1, 4, 6)
    assert parse("train", "babi", "--tasks", "1", "4,6").task.tasks == (1, 4, 6)


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 3
    """How wide."""


@dataclasses.dataclass(frozen=True)
class Own(RepeatCopy):
    """A custom task."""

    name: ClassVar[str] = "own"

    where: Path = Path("here")
    """A place."""
    perhaps: Path | None = None
    many: tuple[Path, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    kind: Literal["a", "b"] = "a"
    colour: Colour | None = None
    inner: Inner = Inner()
    unreadable: dict[str, int] = dataclasses.field(default_factory=dict)
    filled_in: Annotated[tuple[str, ...], "hidden"] = ()

    def __post_init__(self):
        """It has more than counts."""


def test_types_of_fields():
    """Of custom tasks, too, whose fields may be dataclasses."""
    flags = {flag.name: flag for flag in flags_of(Own())}
    words = {"where": ["x"], "perhaps": ["y"], "many": ["a,b", "c"], "pair": ["3", "0.5"],
             "kind": ["b"], "colour": ["RED"], "width": ["9"], "num_bits": ["1"]}  # fmt: skip
    read = {name: flags[name].read(typed) for name, typed in words.items()}
    assert changed(Own(), read) == Own(
        num_bits=1, where=Path("x"), perhaps=Path("y"), many=(Path("a"), Path("b"), Path("c")),
        pair=(3, 0.5), kind="b", colour=Colour.RED, inner=Inner(9),
    )  # fmt: skip
    assert not {"unreadable", "filled_in"} & {*flags}
    assert (flags["where"].help, flags["width"].help) == ("A place.", "How wide.")
    assert flags["num_bits"].help  # inherited
    for name, typed_words in {"pair": ["3"], "width": ["x"], "colour": ["BLUE"]}.items():
        with pytest.raises(UsageError, match=f"--{name}"):
            flags[name].read(typed_words)


# Home directories

SHIPPED_RUN = find_trained(SHIPPED / "memory-reuse")


def path_flags():
    seen = set()
    for command, word in STARTS:
        for flag in flags_of(parse(command, word)):
            if flag.kind is Path and (command, flag.name) not in seen:
                yield pytest.param(command, word, flag, id=f"{command} {word} {flag.name}")
            seen.add((command, flag.name))
    for flag in flags_of(Own()):
        if "Path" in str(flag.kind):
            yield pytest.param("train", None, flag, id=f"own task {flag.name}")


@pytest.mark.parametrize(("command", "word", "flag"), list(path_flags()))
def test_home_directories(command, word, flag, monkeypatch, tmp_path):
    """As a shell has them; $VARIABLES are the shell's own business."""
    monkeypatch.setenv("HOME", str(tmp_path))
    user = next(name for name in ("root", os.environ.get("USER", "root")) if name)
    for text, path in {
        "~": tmp_path,
        "~/x": tmp_path / "x",
        f"~{user}/x": Path(f"~{user}/x").expanduser(),
        "$HOME/x": Path("$HOME/x"),
        "./~": Path("~"),
        "a~/~b": Path("a~/~b"),
    }.items():
        words = [text] if flag.mark == POSITIONAL else [f"--{flag.name}", text]
        if word is None:
            value = flag.read([text])
            assert value == ((path,) if flag.takes_several else path)
            continue
        before = [] if flag.mark == POSITIONAL else [word]
        if flag.mark == POSITIONAL and command in ("eval", "explore", "probe"):
            monkeypatch.setattr(parsing, "find_trained", lambda *_: SHIPPED_RUN)
        assert values_of(parse(command, *before, *words))[flag.name] == path


@pytest.mark.parametrize("settings", [RunSettings, EvalSettings, ExploreSettings, ExportSettings])
def test_home_directories_in_python(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    more = {"task": None} if settings in (EvalSettings, ExploreSettings) else {}
    assert settings(run_dir="~/x", **more).run_dir == tmp_path / "x"
    assert settings(run_dir=Path("~/x"), **more).run_dir == Path("~/x")
    with pytest.raises(UsageError):
        settings(run_dir="~nobody-has-this-name/x", **more)


@pytest.mark.parametrize("text", ["~nobody-has-this-name/x", ""])
def test_paths_that_are_none(text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["train", "copy"], ["eval", "memory-reuse"]):
        flag = "run_dir" if command[0] == "train" else "out"
        assert main([*command, f"--{flag}={text}"]) == 2
        assert f"--{flag}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Misspelt words


def misspelt(word):
    """Two letters in the middle exchanged, and one left out."""
    middle = len(word) // 2
    yield word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    yield word[:middle] + word[middle + 1 :]


def misspellings():
    """Command lines with a wrong word, and the right one."""
    words = [([], command, "") for command in parsing.COMMANDS]
    words += [(["train"], task, "") for task in presets.DEFAULTS]
    for preset, known in presets.PRESETS.items():
        words.append((["train", known.settings.task_name], preset, "--preset="))
    for command, word, flag in (case.values for case in EVERY_FLAG):
        words.append(([command, word], flag.name, "--"))
        words += [([command, word], c, f"--{flag.name}=") for c in flag.choices if len(c) > 2]
    for start, right, before in words:
        for wrong in misspelt(right):
            if wrong != right:
                yield [*start, before + wrong], "--" + right if before == "--" else right


def test_misspelt_words_get_a_suggestion():
    for line, right in misspellings():
        with pytest.raises(UsageError) as refused:
            parse(*line)
        _, suggested, rest = str(refused.value).partition("did you mean ")
        assert suggested, line
        assert right in rest.partition("?")[0].replace(",", "").split(), line


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (["--vresion"], "--version"),
        (["--hlep"], "--help"),
        (["train", "copy", "seed=3"], "--seed"),
        (["eval", "memory-reuse", "num_episodes=3"], "--num_episodes"),
    ],
)
def test_suggestions_without_a_command_or_dashes(line, right):
    with pytest.raises(UsageError, match=f"did you mean {right}"):
        parse(*line)


def test_train_py_and_custom_tasks_suggest_as_well(capsys):
    assert train_main(["--memroy_size=3"]) == 2
    assert "--memory_size" in capsys.readouterr().err
    assert task_main(Own, ["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err
    assert task_main(Own, ["train", "--wheer=x"]) == 2
    assert "did you mean --where?" in capsys.readouterr().err


def test_the_suggestions_for_a_flag_are_of_the_task(capsys):
    assert main(["train", "copy", "--num_items=3"]) == 2
    assert "min_items" not in capsys.readouterr().err


def test_beginnings_are_suggested_and_other_words_are_not():
    assert did_you_mean("--hidden", ["--hidden_size", "--seed"]) == "; did you mean --hidden_size?"
    assert did_you_mean("xyz", ["abc", "def"]) == ""
    assert did_you_mean("xyz", []) == ""


WRONG = {
    "a value that is none": (["train", "copy", "--memory_size=three"], "--memory_size=three"),
    "no value": (["train", "copy", "--memory_size"], "--memory_size"),
    "no value before a flag": (["train", "copy", "--memory_size", "--seed=1"], "--memory_size"),
    "a value too many": (["train", "copy", "--resume=3"], "--resume"),
    "a word too many": (["train", "copy", "babi"], "babi"),
    "a word for train.py": (["runs", "a", "b"], "b"),
    "a flag of another task": (["train", "copy", "--max_items=3"], "associative-recall"),
    "a flag of another run's task": (["eval", "memory-reuse", "--max_items=3"], "--max_items"),
    "a flag of a task for a trace": (["explore", "trace.npz", "--num_bits=3"], "--num_bits"),
    "a preset of another task": (["train", "repeat-copy", "--preset=ntm-copy"], "copy"),
    "no run": (["eval"], "memory-reuse"),
    "no second word": (["push", "memory-reuse"], "REPO"),
    "a word after the second": (["push", "memory-reuse", "me/model", "c"], "c"),
    "no task": (["train"], "repeat-copy"),
    "a flag before the command": (["--seed=1", "train", "copy"], "--seed=1"),
    "a shortened flag": (["train", "copy", "--memory=3"], "--memory_size"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, named = WRONG[case]
    assert main(line) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("dncx: error: ")
    assert named in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


# Help


@pytest.fixture
def shown(capsys, monkeypatch):
    """What a command line prints at 100 columns; it must succeed."""

    def show(*line, command=main):
        monkeypatch.setenv("COLUMNS", "100")
        assert command([*line]) == 0
        return capsys.readouterr().out

    return show


def test_dncx_alone_prints_its_commands(shown):
    assert shown() == shown("--help") == shown("-h") == shown("help")
    assert all(f"  {command} " in shown() for command in parsing.COMMANDS)


def test_help_on_tasks_has_one_line_for_each(shown):
    lines = shown("train", "--help").splitlines()
    assert len(lines) < 30
    assert all(sum(line.startswith(f"  {task} ") for line in lines) == 1 for task in presets.ABOUT)


@pytest.mark.parametrize(("command", "word"), STARTS)
def test_help_names_every_flag_once_with_its_default(command, word, shown):
    text, settings = shown(command, word, "--help"), parse(command, word)
    lines = text.splitlines()
    acting = hasattr(getattr(settings, "task", None), "gae_lambda")  # ten flags more
    assert len(lines) <= (105 if acting else 90)
    assert max(map(len, lines)) <= 100
    for flag in flags_of(settings):
        spelled = f"--[no_]{flag.name}" if flag.kind is bool else f"--{flag.name}="
        if flag.mark != POSITIONAL:
            assert sum(line.strip().startswith(spelled) for line in lines) == 1
        assert all(choice in text for choice in flag.choices)
        assert flag.help
    if command == "train":
        assert all(preset in text for preset in presets.of_task(word))
        titles = [line for line in lines if line and line[0] != " "]
        assert [title.split()[0] for title in titles[3:]] == [
            "task", "network", "optimiser", "run", "scaling:"
        ]  # fmt: skip
    assert shown(command, "--help", word) == text
    assert shown("help", command, word) == text


def test_help_shows_the_values_of_a_run_and_of_a_preset(shown):
    assert "--num_sequences=10 " in shown("eval", "memory-reuse", "--help")
    assert "--memory_size=128 " in shown("train", "copy", "--preset=ntm-copy", "--help")


def test_presets_have_a_table(shown):
    everything = shown("train", "--preset=help")
    assert all(preset in everything for preset in presets.PRESETS)
    of_copy = shown("train", "copy", "--preset", "help")
    assert {p for p in presets.PRESETS if p in of_copy} == {*presets.of_task("copy")}


def test_help_of_train_py_and_of_a_custom_task(shown):
    assert "--num_repeats" not in shown("--help", command=train_main)
    assert "--max_repeats=2 " in shown("--help", command=train_main)
    text = shown("train", "--help", command=lambda line: task_main(Own, line))
    assert "--where=here" in text
    assert "A custom task." in text


def test_help_is_a_value_until_it_is_printed(capsys):
    assert isinstance(parse("train", "copy", "--help"), Help)
    assert capsys.readouterr().out == ""
