"""Every command that the documentation shows is one that dncx understands."""

import dataclasses
import importlib.util
import os
import re
import sys

import pytest
from commands import EXAMPLES, PAGES, ROOT, commands, filled

import dncx.cli.main as cli
from dncx.cli import parsing
from dncx.cli.help import Help
from dncx.runs.codec import to_plain
from dncx.runs.summary import (
    CellSummary,
    NetworkSummary,
    RunSummary,
    TaskSummary,
    UpdatesSummary,
    read_finished,
)
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import TrainSettings

EVERYTHING = [command for page in [*PAGES, *EXAMPLES] for command in commands(page)]
# Runs of the reader's own, which no command on the page makes.
OF_A_READER = {"runs/mine": "associative-recall", "runs/seeds/seed-0": "repeat-copy"}


def is_ours(command):
    """Whether it is dncx, train.py or the command line of a custom task."""
    program, *rest = command.words
    script = rest[0] if rest else ""
    return (
        program == "dncx" or script == "train.py" or re.match(r"examples/own_(task|data)", script)
    )


OURS = [command for command in EVERYTHING if is_ours(command)]
# In a sentence `dncx eval` is the name of a command.
NAMES = [command for command in OURS if command.inline and len(command.words) == 2]
LINES = [command for command in OURS if command not in NAMES]


def summary(settings):
    """What a run with these settings would say of itself."""
    model = settings.model
    cell = CellSummary(memory_size=model.memory_size, word_size=model.word_size,
                       hidden_size=model.hidden_size, num_layers=model.num_layers)  # fmt: skip
    return RunSummary(
        format="", id="", loss_unit="", network=NetworkSummary(kind=model.model, cell=cell),
        task=TaskSummary(name=settings.task_name, settings=to_plain(settings.task)),
        updates=UpdatesSummary(num_training_iterations=1, num_seeds=1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def asked():
    """The settings of each command, parsed in the order of the pages; nothing is carried out."""
    runs = {run: DEFAULTS[task] for run, task in OF_A_READER.items()}
    found = {}

    def of_run(path):
        name = os.path.relpath(path)
        if name not in runs:
            return read_finished(path)
        return summary(runs[name])

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(parsing, "read_finished", of_run)
        for command in LINES:
            got = []
            patch.setattr(cli, "_carry_out", got.append)
            words = [filled(word) for word in command.words]
            found[str(command)] = (run(words), *got)
            if got and isinstance(got[0], TrainSettings):
                settings = got[0]
                run_dir = os.path.normpath(settings.run.run_dir)
                runs[run_dir] = settings
                runs |= {f"{run_dir}/seed-{n}": settings for n in range(settings.scale.num_seeds)}
    return found


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


def test_commands_are_found():
    pages = {command.page for command in OURS}
    assert {"README.md", "docs/scaling.md", "docs/tasks.md", "examples/own_task.py"} <= pages
    assert len(OURS) > 60
    assert any("sh -c" in c.text for c in OURS)
    assert any(c.before[:1] == ("srun",) for c in OURS)


def test_names_of_commands():
    assert {command.words[1] for command in NAMES} <= {*parsing.COMMANDS}


@pytest.mark.parametrize("command", LINES, ids=str)
def test_commands_are_understood(command, asked):
    code, *got = asked[str(command)]
    assert code == 0
    assert len(got) == 1
    help_wanted = bool({"--help", "--preset=help", "help"} & set(command.words))
    assert isinstance(got[0], Help) is help_wanted


def test_flags_and_presets_in_sentences_exist():
    """Of dncx's own; flags of other programs are named here."""
    flags = {flag.name for settings in DEFAULTS.values() for flag in parsing.flags_of(settings)}
    for kind in parsing.COMMANDS.values():
        if kind is not TrainSettings:
            flags |= {flag.name for flag in parsing.flags_of(parsing._about_no_run(kind))}
    others = {"help", "version", "tiny", "sizes", "batch", "faults", "full_disks", "iterations",
              "logdir", "map-by", "kill-on-bad-exit", "nodes", "ntasks-per-node", "gpus-per-task",
              "gpus-per-node", "time", "signal", "requeue", "runs", "data_file", "quiet", "group",
              "xla_force_host_platform_device_count", "bits"}  # fmt: skip
    for page in PAGES:
        for flag in re.findall(r"`[^`\n]*?--([a-zA-Z][\w-]+)", page.read_text()):
            name = flag.replace("-", "_").removeprefix("no_")
            assert name in flags or flag in others, f"{page.relative_to(ROOT)}: --{flag}"
