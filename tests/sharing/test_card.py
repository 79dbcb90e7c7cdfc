"""`dncx card`: facts of the run, measured scores, and metadata that the hub can read."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from dncx.cli.main import main
from dncx.runs.directory import load_model
from dncx.runs.paths import CARD, CONFIG, METRICS, MODEL
from dncx.runs.weights import weights_digest

FLAGS = ["train", "copy", "--model=lstm", "--batch_size=2", "--max_length=2", "--hidden_size=4",
         "--num_training_iterations=4", "--report_interval=2", "--seed=3"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and its scores in measured.json."""
    run_dir = tmp_path_factory.mktemp("runs") / "trained"
    assert main([*FLAGS, f"--run_dir={run_dir}"]) == 0
    measure = ["eval", str(run_dir), "--num_episodes=4", "--batch_size=4"]
    assert main([*measure, f"--out={run_dir}/measured.json"]) == 0
    return run_dir


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def rows(text):
    """The cells of all tables by the first of their line."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in lines}


def card_of(run, *flags):
    assert main(["card", str(run), *flags]) == 0
    return (run / CARD).read_text()


def change(run, file, **changes):
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps(content | changes))


def test_a_run_that_has_not_ended_has_no_card(trained, tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*FLAGS, f"--run_dir={run}", "--checkpoint_interval=2"]) == 0
    (run / MODEL).unlink()
    assert main(["card", str(run)]) == 2
    assert "unfinished: iteration 4 of 4" in capsys.readouterr().err
    assert not (run / CARD).exists()


def test_the_card_of_a_custom_network_names_its_function(tmp_path):
    program = Path(__file__).parents[2] / "examples" / "own_parts.py"
    flags = [flag for flag in FLAGS if "lstm" not in flag]
    named = f"--network={program}:make_network"
    assert main([*flags, named, f"--run_dir={tmp_path}/run"]) == 0
    text = card_of(tmp_path / "run")
    assert "own_parts.py:make_network" in text
    assert str(program.parent) not in text


def test_facts_of_a_run(run):
    found = rows(card_of(run))
    size = sum(array.size for array in load_model(run / MODEL).values())
    assert found["task"] == ["copy"]
    assert found["max_length"] == ["2"]
    assert found["kind"] == ["lstm"]
    assert found["parameters"] == [str(size)]
    assert found["hidden_size"] == ["4"]
    assert "memory_size" not in found
    assert found["iterations"] == ["4"]
    assert found["sequences seen"] == ["8"]
    assert found["seed"] == ["3"]
    last = json.loads((run / METRICS).read_text().splitlines()[-1])
    assert found["loss in the last report"] == [
        f"{last['loss']:.4g} bits per sequence (iteration 4)"
    ]
    assert "minutes of updates" in found


def test_a_shipped_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["card", "babi"]) == 0
    text = (tmp_path / "card" / "babi" / CARD).read_text()
    found = rows(text)
    assert found["memory_size"] == ["64"]
    assert found["interface_norm"] == ["true"]  # which google-deepmind/dnc does not have
    assert "cosine_epsilon" not in found  # which is as there
    assert found["weights of iteration"] == ["75,000 (best validation)"]
    assert found["babi, validation set (iteration 75,000)"] == ["mean error", "11.6613%"]
    assert not [name for name in found if name.startswith(("loss in", "minutes"))]
    data = ModelCard(text).data
    assert (data.license, data.pipeline_tag) == ("apache-2.0", "question-answering")


def test_changes_within_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["card", "memory-reuse", "--out=card.md"]) == 0
    found = rows((tmp_path / "card.md").read_text())
    assert found["changed at iteration 30,000"] == [
        "learning_rate: 0.0003 in the checkpoint, 5e-05 asked for"
    ]


def test_minutes_are_left_out_unless_all_updates_are_recorded(run):
    line, *_ = (run / METRICS).read_text().splitlines(keepends=True)
    (run / METRICS).write_text(line)
    assert "minutes of updates" not in rows(card_of(run))
    (run / METRICS).unlink()
    found = rows(card_of(run, "--force"))
    assert not {"minutes of updates", "loss in the last report"} & {*found}


def test_metadata_for_the_hub(run):
    data = ModelCard(card_of(run, "--license=mit")).data
    assert data.library_name == "dncx"
    assert data.license == "mit"
    assert {"dncx", "lstm", "copy"} <= {*data.tags}
    assert data.pipeline_tag is None
    assert data.eval_results is None


def test_scores_are_those_of_the_measurement(run):
    text = card_of(run, f"--scores={run}/measured.json")
    (measured,) = json.loads((run / "measured.json").read_text())
    data = ModelCard(text).data
    found = {one.metric_type: one.metric_value for one in data.eval_results}
    assert found == measured["scores"]
    assert {one.dataset_name for one in data.eval_results} == {"copy, 4 episodes"}
    assert {one.task_name for one in data.eval_results} == {"copy"}
    for value in measured["scores"].values():
        assert f"{value:.4%} |" in text


def test_the_settings_of_a_sweep_are_named(run):
    file = run / "sweep.json"
    sweep = ["--sweep=length=1,3", "--num_episodes=4", f"--out={file}"]
    assert main(["eval", str(run), *sweep]) == 0
    data = ModelCard(card_of(run, f"--scores={file}", f"--scores={run}/measured.json")).data
    assert {one.dataset_name for one in data.eval_results} == {
        "copy, 4 episodes",
        "copy, 4 episodes, max_length 1",
        "copy, 4 episodes, min_length 3, max_length 3",
    }


def test_a_lesson_that_was_learned_is_a_score(run):
    with (run / METRICS).open("a") as file:
        file.write('{"iteration": 4, "lesson": 7, "sequence_error": 0.0625}\n')
    assert rows(card_of(run))["copy, lesson 7 (iteration 4)"] == ["sequence error", "6.2500%"]


def test_without_scores_none_are_claimed(run, capsys):
    text = card_of(run)
    assert "model-index" not in text
    assert "No scores are recorded." in text
    assert "--scores" in capsys.readouterr().out


def error(words, capsys):
    """The line with which a command is refused; no card is written."""
    capsys.readouterr()
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_scores_of_another_model_are_refused(run, tmp_path, capsys):
    other = tmp_path / "other"
    assert main([*FLAGS, "--seed=4", f"--run_dir={other}"]) == 0
    words = ["card", str(other), f"--scores={run}/measured.json"]
    assert "does not measure this model" in error(words, capsys)
    change_all = json.loads((run / "measured.json").read_text())
    del change_all[0]["weights"]  # as an earlier version wrote it
    (run / "measured.json").write_text(json.dumps(change_all))
    assert "measured.json" in error(["card", str(run), f"--scores={run}/measured.json"], capsys)
    assert "none.json" in error(["card", str(run), "--scores=none.json"], capsys)
    assert CONFIG in error(["card", str(run), f"--scores={run / CONFIG}"], capsys)
    assert not (run / CARD).exists()
    assert not (other / CARD).exists()


def test_a_file_is_replaced_only_with_force(run, capsys):
    (run / CARD).write_text("of the user")
    assert "--force" in error(["card", str(run)], capsys)
    assert (run / CARD).read_text() == "of the user"
    assert card_of(run, "--force").startswith("---\n")
    assert "folder" in error(["card", str(run), f"--out={run}"], capsys)


def test_what_has_no_card(run, tmp_path, capsys):
    assert "license=My Own" in error(["card", str(run), "--license=My Own"], capsys)
    assert "no run" in error(["card", str(tmp_path / "none")], capsys)
    (run / MODEL).unlink()
    assert "no model" in error(["card", str(run)], capsys)
    assert not (run / CARD).exists()


def test_text_cannot_break_a_table_or_the_metadata(run):
    config = json.loads((run / CONFIG).read_text())
    config["task"] = {"name": "own: | task\n---", "settings": {"word": "a|b\nc", "many": [1] * 21}}
    (run / CONFIG).write_text(json.dumps(config))
    text = card_of(run)
    assert ModelCard(text).data.tags[-1] == "own: | task\n---"
    assert "| word | a\\|b c |" in text
    assert "| many | 21 values |" in text


def test_the_digest_depends_on_names_shapes_and_numbers():
    import numpy as np

    one = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    assert weights_digest(one) == weights_digest(dict(reversed(one.items())))
    others = [
        {"a": one["b"], "b": one["a"]},
        one | {"a": np.zeros((3, 2), np.float32)},
        one | {"b": np.array([1, 2], np.float32)},
    ]
    assert len({weights_digest(other) for other in (one, *others)}) == 4
