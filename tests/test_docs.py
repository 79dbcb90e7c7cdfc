"""Every command that the documentation shows is one that dncx understands, and one that works.

The second is tried at tiny sizes in .ci/run's second step (pytest -m second_step).
"""

import io
import itertools
import json
import os
import re
import shutil
import tarfile

import numpy as np
import pytest
from commands import EXAMPLES, OWN_PROGRAMS, PAGES, ROOT, carry_out, commands, filled, run

import dncx.cli.main as cli
from dncx.cli import parsing
from dncx.cli.help import Help
from dncx.runs.codec import to_plain
from dncx.runs.hub import is_on_hub
from dncx.runs.progress import Progress
from dncx.runs.summary import CellSummary, NetworkSummary, RunSummary, TaskConfig, UpdatesSummary
from dncx.runs.trained import TrainedModel, find_trained
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import TrainSettings

EVERYTHING = [command for page in [*PAGES, *EXAMPLES] for command in commands(page)]
# Runs of the reader's own, which no command on the page makes.
OF_A_READER = {
    "runs/mine": "associative-recall",
    "runs/kept": "repeat-copy",
    "runs/inference": "inference",
}


def is_ours(command):
    """Whether it is dncx, train.py or the command line of a custom task."""
    return OWN_PROGRAMS.match(" ".join(command.words))


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
        task=TaskConfig(name=settings.task_name, settings=to_plain(settings.task)),
        updates=UpdatesSummary(num_training_iterations=1, seed=0, num_seeds=1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def asked():
    """The settings of each command, parsed in the order of the pages; nothing is carried out."""
    runs = {run: DEFAULTS[task] for run, task in OF_A_READER.items()}
    runs["hf:/you/recall"] = DEFAULTS["associative-recall"]
    found = {}

    def of_run(path, checkpoint):
        name = os.path.relpath(path)
        if name not in runs:
            return find_trained(path, checkpoint)
        return TrainedModel(path, summary(runs[name]), Progress())

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(parsing, "find_trained", of_run)
        on_disk = parsing.find_run
        patch.setattr(parsing, "find_run", lambda run: run if is_on_hub(run) else on_disk(run))
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


def test_commands_are_found():
    pages = {command.page for command in OURS}
    assert {"README.md", "docs/scaling.md", "docs/tasks.md", "examples/own_task.py"} <= pages
    assert len(OURS) > 60
    assert any("$OMPI_COMM_WORLD_RANK" in c.text for c in OURS)
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


# Every command runs

NOT_RUN = {
    "make": "tests/cli/test_cli.py and .ci/run",
    "tests.faults": "tests/training/test_survival.py",
    "benchmarks": ".ci/run",
    "examples/in_pytorch.py": "tests/test_in_pytorch.py",
    "--coordinator_address": "tests/training/test_processes.py",
    "loggers.py": "tests/test_loggers.py",
    "hf://": "tests/sharing/test_hub.py",
    "dncx push": "tests/sharing/test_hub.py",
    "long_runs.py": "takes five minutes at any size",
    "derive_underground.py": "needs a download",
    "train gymnax": "needs gymnax; tests/tasks/acting/test_gymnax.py",
}
TRAIN = ["--num_training_iterations=4", "--report_interval=2", "--hidden_size=8"]
TINY = {
    "train": TRAIN,
    "eval": ["--num_episodes=2"],
    "explore": ["--num_episodes=1", "--no_figures"],
    "probe": ["--num_episodes=100"],
    "how_it_answers.py": ["--language=en"],
    "learning_curve.py": ["--num_seeds=1", "--num_training_iterations=100"],
}
# What a command prints, by its page and its second word.
PRINTED = {
    "README.md": {
        "explore": "memory.html", "eval": "sequence error", "train": "target", "train.py": "target",
    },
    "examples/own_parts.py": {"examples/own_parts.py": "memory (4, 16, 8)"},
}  # fmt: skip
# bAbI's archive is made here, with little of it.
STORY = b"1 Mary took the milk.\n2 What is Mary carrying? \tmilk\t1\n"
BABI = ["--language=en", "--tasks=4,8", "--partial"]


def tiny(command):
    """A command that takes seconds: later flags replace earlier ones."""
    words = [re.sub("^(--run_dir=)/", r"\1here/", filled(word)) for word in command.words]
    words = [re.sub(r"^((--sweep=)?\w+=[^,=]*),.*", r"\1", word) for word in words]
    if words[0] != "dncx" and words[1] == "train.py":
        words += TRAIN
    for word, flags in TINY.items():
        if word == "eval" and any(re.fullmatch(r"(runs/)?babi(-2)?", w) for w in words):
            continue  # its test set is measured completely, and small here
        if any(w == word or w.endswith(f"/{word}") for w in words[:3]):
            words += flags
    if "babi" in words[:3] and any("tasks_1-20" in word for word in words):
        words += BABI
        words += ["--num_buckets=1", "--hidden_size=8"] if "train" in words else []
    if "--preset=babi" in words:  # it warms up for more iterations than there are here
        words += ["--warmup_iterations=0"]
    if command.before[:1] in (("srun",), ("mpirun",)):
        words += ["--num_processes=1"]
    return words


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what commands read and write: they write next to the scripts in docs/results."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("_build"))
    (folder / "train.py").symlink_to(ROOT / "train.py")
    return folder


@pytest.fixture
def place(clone):
    """The copy, with the files of its own that a reader is supposed to have, and no runs."""
    shutil.rmtree(clone / "runs", ignore_errors=True)
    inputs = np.random.default_rng(0).normal(size=(40, 5, 2))
    arrays = {"inputs": inputs, "targets": inputs.cumsum(axis=1), "mask": np.ones((40, 5))}
    for name in ("train.npz", "test.npz"):
        np.savez(clone / name, **arrays)
    triples = [f"{a},line {a}{b},{b}" for a, b in itertools.permutations("ABCD", 2)]
    (clone / "map.csv").write_text("\n".join(["source,edge,destination", *triples]) + "\n")
    (clone / "my-stories").mkdir(exist_ok=True)
    for split in ("train", "test"):
        (clone / "my-stories" / f"qa1_{split}.txt").write_bytes(20 * STORY)
    for mode in ("gz", "xz"):
        write_archive(clone / f"tasks_1-20_v1-2.tar.{mode}", mode)
    return clone


def write_archive(path, mode):
    """A few stories of two tasks."""
    names = {4: "two-arg-relations", 8: "lists-sets"}
    with tarfile.open(path, f"w:{mode}") as archive:
        for (task, name), split in itertools.product(names.items(), ("train", "test")):
            member = tarfile.TarInfo(f"tasks_1-20_v1-2/en/qa{task}_{name}_{split}.txt")
            member.size = 20 * len(STORY)
            archive.addfile(member, io.BytesIO(20 * STORY))


PAGES_WITH_LINES = [p for p in [*PAGES, *EXAMPLES] if any(not c.inline for c in commands(p))]


def is_shown_before(command):
    """Whether an earlier page explores the same model that ships by the same command."""
    if not command.text.startswith("dncx explore") or "runs/" in command.text:
        return False
    same = (other for other in EVERYTHING if other.words == command.words and not other.inline)
    return next(same) != command


def initial_models(words):
    """The models from whose weights a training begins, whose sizes it must have."""
    flag = "--initial_model="
    return [word.removeprefix(flag) for word in words if word.startswith(flag)]


def is_small(run):
    """Whether a run was trained here at a small size, and does not have that of a shipped model."""
    config = run / "config.json"
    if not config.exists():
        return False
    return json.loads(config.read_text())["network"]["cell"]["hidden_size"] == 8


@pytest.mark.second_step
@pytest.mark.parametrize("page", PAGES_WITH_LINES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_work(page, place):
    """One after the other, as a reader would type them."""
    for number, command in enumerate(commands(page)):
        if command.inline or any(text in command.text for text in NOT_RUN):
            continue
        if is_shown_before(command):
            continue
        words = tiny(command)
        if not all(is_small(place / name) for name in initial_models(words)):
            words = [word for word in words if word != "--hidden_size=8"]
        if "--report_interval=2" in words:  # training; where a run is extended, it is
            words.append(f"--num_training_iterations={4 + 2 * number}")
        for flag, _, value in (word.rpartition("=") for word in words):
            if flag == "--out":  # the file is there, from when its author typed this
                (place / value).unlink(missing_ok=True)
            task = OF_A_READER.get(value)
            if task and "train" not in words and not (place / value).exists():
                carry_out(["dncx", "train", task, f"--run_dir={value}", *TRAIN], place)
        variables = dict(word.split("=", 1) for word in command.before if "=" in word)
        printed = carry_out(words, place, **variables)
        assert printed.strip() or "docs/results" in command.text, command
        if command.page in PRINTED:
            assert PRINTED[command.page][words[1]] in printed
