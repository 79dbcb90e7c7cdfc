"""config.json: what was asked of a run, and what differs when it resumes."""

import dataclasses

import pytest

from dncx.networks.config import NetworkConfig
from dncx.runs.codec import from_plain, to_plain
from dncx.runs.config import (
    Changes,
    RunConfig,
    TaskConfig,
    UpdatesConfig,
    content_hashes,
    edited_files,
)
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.graphs.settings import TraversalSettings

CONFIG = RunConfig(
    task=TaskConfig(name="traversal", settings={}),
    network=NetworkConfig(input_size=1, output_size=1),
    updates=UpdatesConfig(batch_size=1, num_training_iterations=1, seed=0),
    loss_unit="",
)


def test_fields_that_are_newer_than_a_file_have_their_defaults():
    """So a run of an earlier version resumes, and nothing counts as changed."""
    plain = to_plain(CONFIG)
    older = {**plain, "optimizer": {"learning_rate": 1e-4}}
    del older["network"]["embedding_size"], older["network"]["cell"]["forget_bias"]
    read = from_plain(older, RunConfig, "config.json")
    assert to_plain(read) == to_plain(CONFIG)
    changes = Changes(read, CONFIG)
    assert (changes.fixed, changes.free) == ([], [])


def of_file(folder):
    path = folder / "graph.csv"
    path.write_text("source,edge,destination\nA,x,B\n")
    return path, path


def of_folder(folder):
    path = folder / "en" / "qa1.txt"
    path.parent.mkdir()
    path.write_text("1 Mary went home.\n")
    return folder, path


def other_bytes(file):
    file.write_bytes(file.read_bytes().replace(b"M", b"L").replace(b"A,", b"C,"))


def renamed(file):
    file.rename(file.with_name("qa2.txt"))


def added(file):
    file.with_name("qa2.txt").write_text("")


@pytest.mark.parametrize(
    ("make", "setting", "edit"),
    [
        (of_file, "graph_file", other_bytes),
        (of_folder, "data_dir", other_bytes),
        (of_folder, "data_dir", renamed),
        (of_folder, "data_dir", added),
    ],
)
def test_edited_files_are_named_when_a_run_resumes(make, setting, edit, tmp_path):
    named, file = make(tmp_path)
    kind = TraversalSettings if setting == "graph_file" else BabiSettings
    task = kind(**{setting: named})
    before = content_hashes(task)
    assert content_hashes(task) == before  # it depends on nothing else
    edit(file)
    after = content_hashes(task)
    saved, asked = (dataclasses.replace(CONFIG, files=files) for files in (before, after))
    changes = Changes(saved, asked)
    assert (len(changes.fixed), len(changes.free)) == (0, 1)
    assert setting in changes.free[0]
    trained = TaskConfig(name=task.name, settings=to_plain(task))
    assert edited_files(dataclasses.replace(saved, task=trained), task) == [setting]
    assert edited_files(dataclasses.replace(asked, task=trained), task) == []
    elsewhere = dataclasses.replace(task, **{setting: file.parent})
    if file.parent != named:  # another file was asked for, so it is no surprise that it differs
        assert edited_files(dataclasses.replace(saved, task=trained), elsewhere) == []


def test_settings_without_files_have_no_hashes():
    assert content_hashes(TraversalSettings()) == {}
