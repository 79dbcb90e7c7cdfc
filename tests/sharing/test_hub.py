"""`hf://owner/name` wherever a run is named, and `dncx push`, with a hub on this machine."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from fake_hub import FakeHub
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils.logging import set_verbosity_error

from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.explore.tracing import trace_run
from dncx.runs import hub as naming
from dncx.runs.directory import load_run
from dncx.runs.hub import HubName, fetch, hub_name, spelled
from dncx.runs.paths import CARD, CONFIG, MODEL, SHIPPED

FLAGS = ["train", "copy", "--model=lstm", "--batch_size=2", "--max_length=2", "--hidden_size=4",
         "--num_training_iterations=4"]  # fmt: skip
COMMIT = "a" * 40


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run."""
    run_dir = tmp_path_factory.mktemp("runs") / "trained"
    assert main([*FLAGS, f"--run_dir={run_dir}"]) == 0
    return run_dir


def library_at(monkeypatch, endpoint, **more):
    """Points huggingface_hub, which reads its environment when it is imported, to a server."""
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    values = {"ENDPOINT": endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template, **more}
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    huggingface_hub.close_session()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub; the hub is not asked, and nobody is logged in."""
    fetch.cache_clear()
    folder = tmp_path / "hub"
    places = {"HF_HUB_CACHE": str(folder), "HF_TOKEN_PATH": str(tmp_path / "token")}
    library_at(monkeypatch, "http://127.0.0.1:9", HF_HUB_OFFLINE=True, **places)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield folder
    fetch.cache_clear()
    huggingface_hub.close_session()


@pytest.fixture
def hub(cache, monkeypatch):
    """A hub that can be reached."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    disable_progress_bars()
    set_verbosity_error()  # its handler keeps the stream of the first test
    with FakeHub() as server:
        library_at(monkeypatch, server.endpoint, HF_HUB_OFFLINE=False)
        yield server


def put(cache, repo, run, revision="main", commit=COMMIT):
    """A model in a cache as huggingface_hub lays it out: blobs, links to them, a reference."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot, blobs, refs = folder / "snapshots" / commit, folder / "blobs", folder / "refs"
    for one in (snapshot, blobs, refs):
        one.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, MODEL):
        blob = blobs / hashlib.sha256((run / name).read_bytes()).hexdigest()
        shutil.copy(run / name, blob)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    (refs / revision).write_text(commit)
    return snapshot


def assert_equal(found, expected):
    """Whether two networks have the same weights."""
    import jax
    from flax import nnx

    pairs = (jax.tree.leaves(nnx.split(one)[1]) for one in (found, expected))
    for one, other in zip(*pairs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("hf://owner/name", HubName("owner/name")),
        ("owner/na.me-1_x", HubName("owner/na.me-1_x")),
        ("hf:/owner/name", HubName("owner/name")),
        ("hf://owner/name@v1", HubName("owner/name", "v1")),
        ("hf://owner/name@refs/pr/1", HubName("owner/name", "refs/pr/1")),
    ],
)
def test_names(word, name):
    assert hub_name(word) == name


WRONG_NAMES = ["hf://", "hf://name", "hf://owner/name/file", "hf://owner/name@", "hf://../name",
               "hf://owner/na me", "hf://owner/@v1", "hf://-o/n"]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "word"),
    [*(("eval", word) for word in WRONG_NAMES),
     *((command, "hf://name") for command in ("explore", "export", "card"))],
)  # fmt: skip
def test_a_wrong_name_is_one_line(command, word, capsys, cache):
    assert main([command, word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dncx: error: hf://")
    assert "hf://OWNER/NAME" in line
    assert not cache.exists()


def test_a_path_is_spelled_as_the_user_does():
    assert spelled(Path("hf://owner/name@v1")) == "hf://owner/name@v1"
    assert spelled(Path("runs/copy")) == "runs/copy"
    assert not naming.is_on_hub(Path("runs/hf:"))


def test_offline_from_the_cache(cache, trained, capsys):
    put(cache, "owner/name", trained)
    found = load_run("hf://owner/name")
    expected = load_run(trained)
    assert found.config == expected.config
    assert_equal(found.network, expected.network)
    assert main(["eval", "hf://owner/name", "--num_episodes=4"]) == 0
    on_hub = capsys.readouterr().out
    assert main(["eval", str(trained), "--num_episodes=4"]) == 0
    assert capsys.readouterr().out == on_hub


@pytest.mark.second_step
def test_a_trace_has_the_name_on_the_hub(cache):
    put(cache, "owner/name", SHIPPED / "memory-reuse")
    trace = trace_run(Path("hf://owner/name"), num_episodes=1)
    assert (trace.title, trace.about["run"]) == ("name", "hf://owner/name")


@pytest.mark.second_step
def test_a_run_begins_with_weights_of_the_hub(cache, trained, tmp_path):
    put(cache, "owner/name", trained)
    flags = ["--initial_model=hf://owner/name", "--learning_rate=0", f"--run_dir={tmp_path / 'r'}"]
    assert main([*FLAGS, *flags]) == 0
    assert_equal(load_run(tmp_path / "r").network, load_run(trained).network)
    assert load_run(tmp_path / "r").config.initial_model.name == "hf://owner/name"


def test_a_revision(cache, trained):
    put(cache, "owner/name", trained, revision="v1")
    assert load_run("hf://owner/name@v1").config.task.name == "copy"
    assert load_run(f"hf://owner/name@{COMMIT}").config.task.name == "copy"
    with pytest.raises(UsageError, match="not in the cache"):
        load_run("hf://owner/name")


def test_a_model_that_is_not_in_the_cache_is_one_line(cache, capsys):
    assert main(["eval", "hf://owner/name"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hf://owner/name" in line
    assert "HF_HUB_OFFLINE" in line


def test_a_hub_that_cannot_be_reached_is_one_line(cache, capsys, monkeypatch):
    library_at(monkeypatch, "http://127.0.0.1:9", HF_HUB_OFFLINE=False)
    for command in (["eval", "hf://owner/name"], ["push", "memory-reuse", "owner/name"]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "hf://owner/name" in line
        assert "cannot be reached" in line
        assert "OFFLINE" not in line


@pytest.mark.parametrize("command", [["eval", "hf://o/n"], ["push", "memory-reuse", "o/n"]])
def test_a_missing_library_is_one_line(command, cache, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'pip install "dncx[hub]"' in line


def damaged(run, name, change):
    path = run / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (CONFIG, lambda content: b""),
        (CONFIG, lambda content: content.replace(b"dncx-run-2", b"dncx-run-1")),
        (CONFIG, lambda content: content.replace(b'"hidden_size": 4', b'"hidden_size": 5')),
        (MODEL, lambda content: content[:-1]),
        (MODEL, lambda content: content[: len(content) // 2]),
        (MODEL, lambda content: b"\x80\x04N."),  # a pickle
    ],
)
def test_files_are_checked_as_those_of_a_run(name, change, cache, trained, capsys):
    damaged(put(cache, "owner/name", trained), name, change)
    assert main(["eval", "hf://owner/name", "--num_episodes=4"]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("name", [CONFIG, MODEL])
def test_a_model_of_another_library_is_one_line(name, cache, trained, capsys):
    (put(cache, "owner/name", trained) / name).unlink()
    assert main(["eval", "hf://owner/name"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert "hf://owner/name" in line


def is_private(created):
    """Whether a repository was created as a private one, in the words of 1.x or 2.x."""
    return bool(created.get("private")) or created.get("visibility") == "private"


def push(run, *more):
    return main(["push", str(run), *more])


def test_a_pushed_model_is_loaded_by_its_name(hub, trained, capsys):
    """Up and down again: the same configuration, weights and scores."""
    assert push(trained, "me/copier") == 0
    assert "hf://me/copier" in capsys.readouterr().out
    assert sorted(hub.models["me/copier"]) == [CARD, CONFIG, MODEL]
    assert hub.models["me/copier"][MODEL] == (trained / MODEL).read_bytes()
    assert json.loads(hub.models["me/copier"][CONFIG]) == json.loads(
        (trained / CONFIG).read_bytes()
    )
    assert 'load_run("hf://me/copier")' in hub.models["me/copier"][CARD].decode()
    assert [is_private(one) for one in hub.created] == [False]
    assert len(hub.commits) == 1
    found, expected = load_run("hf://me/copier"), load_run(trained)
    assert found.config == expected.config
    assert_equal(found.network, expected.network)


def test_nothing_but_three_files_is_downloaded(hub, trained):
    push(trained, "me/copier")
    hub.models["me/copier"] |= {"pytorch_model.bin": b"pickle", "code.py": b"", "a/x.json": b"{}"}
    folder = fetch(Path("hf://me/copier"), (CONFIG, MODEL), (CARD,))
    assert sorted(path.name for path in folder.iterdir()) == [CARD, CONFIG, MODEL]
    assert not [path for path in hub.asked if ".bin" in path or ".py" in path or "x.json" in path]


def test_a_model_is_looked_up_once_in_a_process(hub, trained, capsys):
    push(trained, "me/copier")
    hub.asked.clear()
    assert main(["eval", "hf://me/copier", "--num_episodes=4", "--sweep=max_length=2,3"]) == 0
    assert len([path for path in hub.asked if "/revision/" in path]) == 1


def test_the_card_of_the_run_is_pushed(hub, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["card", str(run), "--license=mit"]) == 0
    with (run / CARD).open("a") as file:
        file.write("\nA sentence of the owner.\n")
    assert push(run, "hf://me/copier", "--private") == 0
    card = hub.models["me/copier"][CARD].decode()
    assert 'license: "mit"' in card
    assert 'load_run("hf://me/copier")' in card
    assert "OWNER/NAME" not in card
    assert "A sentence of the owner." in card
    assert [is_private(one) for one in hub.created] == [True]


def test_a_card_of_other_weights_is_refused(hub, trained, tmp_path, capsys):
    """One that was written before the model was trained further."""
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["card", str(run)]) == 0
    assert main([*FLAGS, f"--run_dir={run}", "--num_training_iterations=8"]) == 0
    assert push(run, "me/copier") == 2
    assert f"dncx card {run} --force" in capsys.readouterr().err
    assert not hub.models
    assert main(["card", str(run), "--force"]) == 0
    assert push(run, "me/copier") == 0
    (run / CARD).write_text("Written by hand.\n")
    assert push(run, "me/copier") == 0


def test_a_card_that_is_on_the_hub_is_kept(hub, trained, capsys):
    hub.models["me/copier"] = {CARD: b"written on the hub"}
    assert push(trained, "me/copier") == 0
    assert "in the repository stays" in capsys.readouterr().out
    assert hub.models["me/copier"][CARD] == b"written on the hub"
    assert sorted(hub.models["me/copier"]) == [CARD, CONFIG, MODEL]


def test_no_folder_of_this_machine_is_published(hub, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((run / CONFIG).read_text())
    config["task"]["settings"]["data_dir"] = str(tmp_path / "tasks")
    config["checkpoint_dir"] = str(tmp_path / "checkpoints")
    config["initial_model"] = {"name": str(tmp_path / "first"), "sha256": "0"}
    (run / CONFIG).write_text(json.dumps(config))
    assert push(run, "me/copier") == 0
    pushed = json.loads(hub.models["me/copier"][CONFIG])
    assert pushed["task"]["settings"]["data_dir"] == "tasks"
    assert pushed.get("checkpoint_dir") is None
    assert pushed["initial_model"]["name"] == "first"
    assert not [f for f in hub.models["me/copier"].values() if str(tmp_path).encode() in f]


def refused(hub, words, capsys):
    """The line with which a command is refused."""
    before = copy.deepcopy(hub.models)
    assert main(words) == 2
    assert hub.models == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_models_that_cannot_be_loaded(hub, trained, capsys):
    push(trained, "me/copier")
    hub.models["me/hidden"] = {}
    hub.private.add("me/hidden")
    capsys.readouterr()
    assert "no such model" in refused(hub, ["eval", "hf://me/other"], capsys)
    assert "no such model" in refused(hub, ["eval", "hf://me/hidden"], capsys)
    assert "revision" in refused(hub, ["eval", "hf://me/copier@v2"], capsys)


def test_a_model_without_a_configuration(hub, capsys):
    hub.models["me/empty"] = {"code.py": b""}
    assert CONFIG in refused(hub, ["eval", "hf://me/empty"], capsys)


def test_a_public_repository_is_not_taken_for_a_private_one(hub, trained, capsys):
    assert push(trained, "me/copier") == 0
    capsys.readouterr()
    words = ["push", str(trained), "me/copier", "--private"]
    assert "is public" in refused(hub, words, capsys)


def test_what_cannot_be_pushed(hub, trained, tmp_path, capsys):
    assert "OWNER/NAME" in refused(hub, ["push", str(trained), "copier"], capsys)
    assert "main branch" in refused(hub, ["push", str(trained), "me/copier@v1"], capsys)
    assert "no run" in refused(hub, ["push", str(tmp_path / "none"), "me/copier"], capsys)
    assert "REPO" in refused(hub, ["push", str(trained)], capsys)
    assert "b: unexpected word" in refused(hub, ["push", str(trained), "me/copier", "b"], capsys)
    unfinished = shutil.copytree(trained, tmp_path / "run")
    (unfinished / MODEL).unlink()
    assert "no model" in refused(hub, ["push", str(unfinished), "me/copier"], capsys)
    assert hub.asked == []
    hub.refuses = True
    assert "log in" in refused(hub, ["push", str(trained), "me/copier"], capsys)


@pytest.mark.second_step
@pytest.mark.parametrize("command", ["eval", "explore"])
def test_the_program_offline(command, tmp_path):
    """As users set it up: by environment variables."""
    put(tmp_path / "hub", "owner/memory", SHIPPED / "memory-reuse")
    variables = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    small = {"eval": ["--num_episodes=4"], "explore": ["--num_episodes=1", "--no_figures"]}
    words = [sys.executable, "-m", "dncx", command, "hf://owner/memory", *small[command]]
    env = os.environ | variables | {"PYTHONPATH": str(SHIPPED.parent.parent)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if command == "explore":
        assert (tmp_path / "explore" / "memory" / "memory.html").is_file()
    missing = [*words[:4], "hf://owner/other"]
    done = subprocess.run(missing, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
