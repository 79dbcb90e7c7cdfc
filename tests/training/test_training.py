"""The trainer: reports, files, checkpoints, resuming, and evaluation."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from dncx import DNC, unroll
from dncx.cli.main import main, train_main
from dncx.errors import UsageError
from dncx.runs import checkpoints
from dncx.runs import directory as runs
from dncx.runs.lock import Locks
from dncx.runs.metrics import read_metrics
from dncx.runs.progress import Resumption
from dncx.runs.trained import find_trained, trained_progress
from dncx.tasks.repeat_copy import RepeatCopy

pytestmark = pytest.mark.usefixtures("shared_programs")
SIZES = ["--hidden_size=8", "--memory_size=6", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=4", "--report_interval=10", "--seed=3", "--learning_rate=1e-3"]


def train(run_dir, iterations, *more):
    return train_main(
        [*TRAIN, f"--run_dir={run_dir}", f"--num_training_iterations={iterations}", *more]
    )


def files(folder):
    """Every file below, with its content."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 35 iterations that nothing interrupts; without checkpoints, the default."""
    run_dir = tmp_path_factory.mktemp("runs") / "straight"
    assert train(run_dir, 35) == 0
    return run_dir


@pytest.fixture(scope="module")
def checkpointed(tmp_path_factory):
    """The same up to iteration 14, with checkpoints that do not fall on reports."""
    run_dir = tmp_path_factory.mktemp("runs") / "checkpointed"
    assert train(run_dir, 14, "--checkpoint_interval=7") == 0
    return run_dir


@pytest.fixture
def copy_of_checkpointed(checkpointed, tmp_path):
    return shutil.copytree(checkpointed, tmp_path / "run")


def test_what_a_run_leaves(straight):
    assert sorted(p.name for p in straight.iterdir()) == [
        "config.json", "metrics.jsonl", "model.safetensors"
    ]  # fmt: skip
    lines = read_metrics(straight / "metrics.jsonl")
    assert [line["iteration"] for line in lines] == [10, 20, 30, 35]
    assert all(line["iterations_per_second"] > 0 for line in lines)
    config = json.loads((straight / "config.json").read_text())
    assert config["task"]["name"] == "repeat-copy"
    assert config["network"]["cell"]["memory_size"] == 6
    given = {"batch_size": 4, "seed": 3, "num_training_iterations": 35, "num_seeds": 1}
    assert config["updates"].items() >= given.items()
    assert config["loss_unit"] == "nats per sequence"
    model = safetensors.numpy.load_file(straight / "model.safetensors")
    assert model["controller.gates.kernel"].shape == (6 + 2 * 4 + 8, 4 * 8)


def test_the_reported_loss_is_the_average_of_its_iterations(tmp_path, straight):
    """Ten reports of one iteration have the mean that one report of ten has."""
    assert train(tmp_path / "run", 10, "--report_interval=1") == 0
    each = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert len(each) == 10
    together = read_metrics(straight / "metrics.jsonl")[0]["loss"]
    np.testing.assert_allclose(np.mean(each), together, rtol=1e-6)


def test_reports_are_for_people(tmp_path, capsys):
    """Loss, speed, and a sample as bit strings; plain lines where there is no terminal."""
    assert train(tmp_path / "run", 10) == 0
    report = capsys.readouterr().out
    assert re.search(r"iteration 10/10: average loss \d+\.\d+ nats per sequence, \d+ it", report)
    observation, target, output = (
        re.search(rf"^ *{name} ([\d. ]+)$", report, re.M).group(1).split()
        for name in ("observation", "target", "model output")
    )
    assert observation[0] == "000010"
    assert len(observation) == len(target) == len(output)
    assert target[-1] == "00001"
    assert "\x1b" not in report


def test_training_learns(tmp_path):
    """From about the cost of a blind guess to well below it."""
    assert train(tmp_path / "run", 400, "--max_length=1", "--max_repeats=1", "--batch_size=16") == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"]


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(straight, copy_of_checkpointed):
    assert train(copy_of_checkpointed, 35, "--checkpoint_interval=7") == 0
    assert (copy_of_checkpointed / "model.safetensors").read_bytes() == (
        straight / "model.safetensors"
    ).read_bytes()
    saved = checkpoints.saved_iterations(copy_of_checkpointed / "checkpoints")
    assert saved == [7, 14, 21, 28, 35]
    resumed = {
        line["iteration"]: line["loss"]
        for line in read_metrics(copy_of_checkpointed / "metrics.jsonl")
    }
    for line in read_metrics(straight / "metrics.jsonl"):
        if line["iteration"] > 20:  # the report at 14, the end of the first part, split one average
            assert resumed[line["iteration"]] == line["loss"]


@pytest.mark.second_step
def test_without_links_it_resumes_bit_for_bit_and_is_explored(tmp_path):
    """Its state has no links, in checkpoints and everywhere else."""
    short = ["--max_length=1", "--max_repeats=1"]
    whole, parts, out = (tmp_path / name for name in ("whole", "parts", "out"))
    assert train(whole, 6, "--linkage=none", *short) == 0
    for iterations in (4, 6):
        flags = ["--linkage=none", "--checkpoint_interval=2"]
        assert train(parts, iterations, *flags, *short) == 0
    weights = [run / "model.safetensors" for run in (whole, parts)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert json.loads((whole / "config.json").read_text())["network"]["cell"]["linkage"] == "none"
    assert main(["eval", str(whole), "--num_episodes=2"]) == 0
    assert main(["explore", str(whole), "--num_episodes=1", f"--out={out}"]) == 0
    drawn = {path.stem for path in (out / "figures").iterdir()}
    assert {"overview", "gates"} <= drawn
    assert "link" not in drawn


def test_resuming_after_a_crash_drops_the_lines_that_come_again(straight, copy_of_checkpointed):
    """Killed after the report at 20 (and in the middle of the next line), it goes on from 14."""
    metrics = copy_of_checkpointed / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"iteration": 20, "loss": 1.0}\n{"iterat')
    assert train(copy_of_checkpointed, 35, "--checkpoint_interval=7") == 0
    assert [line["iteration"] for line in read_metrics(metrics)] == [10, 14, 20, 30, 35]
    assert (copy_of_checkpointed / "model.safetensors").read_bytes() == (
        straight / "model.safetensors"
    ).read_bytes()


def test_only_the_newest_checkpoints_stay(tmp_path):
    assert train(tmp_path / "run", 10, "--checkpoint_interval=2", "--keep_checkpoints=3") == 0
    assert checkpoints.saved_iterations(tmp_path / "run" / "checkpoints") == [6, 8, 10]


def test_checkpoint_dir_of_ones_own(tmp_path):
    """Checkpoints go there, are found there, and are moved aside there."""
    own = ["--checkpoint_interval=5", f"--checkpoint_dir={tmp_path / 'mine'}"]
    assert train(tmp_path / "run", 5, *own) == 0
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert train(tmp_path / "run", 10, *own) == 0
    assert checkpoints.saved_iterations(tmp_path / "mine") == [5, 10]
    assert train(tmp_path / "run", 5, *own, "--no-resume") == 0
    assert checkpoints.saved_iterations(tmp_path / "mine") == [5]
    assert checkpoints.saved_iterations(tmp_path / "mine" / "earlier-1") == [5, 10]
    assert find_trained(tmp_path / "run", 5).checkpoint == tmp_path / "mine" / "5"
    (tmp_path / "run" / "model.safetensors").unlink()
    assert find_trained(tmp_path / "run").note.endswith("is unfinished: iteration 5 of 5")


def test_checkpoints_of_another_run_are_not_used(tmp_path):
    """The folder may have a new owner; a model that is complete is still found."""
    own = ["--checkpoint_interval=5", f"--checkpoint_dir={tmp_path / 'mine'}"]
    assert train(tmp_path / "run", 5, *own) == 0
    assert train(tmp_path / "other", 10, *own, "--no-resume") == 0
    assert find_trained(tmp_path / "run").checkpoint is None
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no checkpoint"):
        find_trained(tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 0, "trained to iteration 14"),
        (["--seed=9"], 2, "other settings:\n  seed: 3 in the checkpoint, 9 asked"),
    ],
)
def test_a_finished_run_is_left_as_it_is(flags, code, message, copy_of_checkpointed, capsys):
    before = files(copy_of_checkpointed)
    assert train(copy_of_checkpointed, 10, *flags) == code
    output = capsys.readouterr()
    assert message in output.out + output.err
    assert files(copy_of_checkpointed) == before


def test_a_run_in_another_runs_directory_moves_it_aside(straight, checkpointed, tmp_path):
    """Checkpoints of one run, the run directory of another: the other is kept."""
    run_dir = shutil.copytree(straight, tmp_path / "run")
    before = files(run_dir)
    assert train(run_dir, 20, f"--checkpoint_dir={checkpointed / 'checkpoints'}") == 0
    assert files(run_dir / "earlier-1") == before
    assert [line["iteration"] for line in read_metrics(run_dir / "metrics.jsonl")] == [20]


def test_resuming_with_other_settings_says_and_records_them(copy_of_checkpointed, capsys):
    assert train(copy_of_checkpointed, 20, "--batch_size=5", "--max_length=3") == 0
    out = capsys.readouterr().out
    changed = [
        "max_length: 2 in the checkpoint, 3 asked for",
        "batch_size: 4 in the checkpoint, 5 asked for",
    ]
    assert all(line in out for line in changed)
    progress = trained_progress(copy_of_checkpointed)
    assert progress.resumed == (Resumption(iteration=14, changed=tuple(changed)),)
    updates = json.loads((copy_of_checkpointed / "config.json").read_text())["updates"]
    assert updates["batch_size"] == 5


def test_a_finished_run_is_not_trained_again(copy_of_checkpointed, capsys):
    """Though its checkpoint is from before its end, as after an interruption."""
    assert train(copy_of_checkpointed, 20) == 0
    before = files(copy_of_checkpointed)
    assert train(copy_of_checkpointed, 20) == 0
    assert "trained to iteration 20" in capsys.readouterr().out
    assert files(copy_of_checkpointed) == before


def test_a_model_trained_further_than_the_checkpoint_is_moved_aside(copy_of_checkpointed):
    """A checkpoint at 14, a finished model at 20: going on to 16 must not replace it."""
    assert train(copy_of_checkpointed, 20) == 0
    further = files(copy_of_checkpointed)
    assert train(copy_of_checkpointed, 16) == 0
    assert trained_progress(copy_of_checkpointed).iteration == 16
    aside = copy_of_checkpointed / "earlier-1"
    for name in ("config.json", "metrics.jsonl", "model.safetensors"):
        assert (aside / name).read_bytes() == further[Path(name)]
    lines = read_metrics(copy_of_checkpointed / "metrics.jsonl")
    assert [line["iteration"] for line in lines] == [10, 14, 16]


def test_an_earlier_run_is_moved_aside_not_overwritten(straight, tmp_path, capsys):
    run_dir = shutil.copytree(straight, tmp_path / "run")
    before = files(run_dir)
    assert train(run_dir, 10) == 0
    assert f"{run_dir / 'earlier-1'}" in capsys.readouterr().out
    assert files(run_dir / "earlier-1") == before
    assert main(["eval", str(run_dir / "earlier-1"), "--num_episodes=4"]) == 0


def test_another_model_is_refused_and_nothing_changes(copy_of_checkpointed, capsys):
    before = files(copy_of_checkpointed)
    more = ["--hidden_size=9", "--memory_size=7", "--equations=nature", "--num_bits=5"]
    assert train(copy_of_checkpointed, 35, *more) == 2
    message = capsys.readouterr().err
    for line in (
        "hidden_size: 8 in the checkpoint, 9 asked for",
        "memory_size: 6 in the checkpoint, 7 asked for",
        "strength_activation: softplus in the checkpoint, oneplus asked for",
        "input_size: 6 in the checkpoint, 7 asked for",
        "controller.gates.kernel: (22, 32) there, absent here",
        "controller.layers.0.gates.kernel: absent there, (24, 36) here",
        "output_linear.kernel: (16, 5) there, (17, 6) here",
        "--no-resume",
    ):
        assert line in message
    assert files(copy_of_checkpointed) == before


def test_a_checkpoint_whose_numbers_changed_is_refused(copy_of_checkpointed, monkeypatch, capsys):
    """A flipped bit that the storage does not notice: the checksum does."""
    load = checkpoints.ocp.load

    def flipped(path, like):
        state = load(path, like)
        kernel = state["params"]["output_linear"]["kernel"]
        state["params"]["output_linear"]["kernel"] = kernel.at[0, 0].add(1e-6)
        return state

    monkeypatch.setattr(checkpoints.ocp, "load", flipped)
    assert train(copy_of_checkpointed, 35) == 2
    assert "checksum" in capsys.readouterr().err


def test_what_a_crash_leaves_is_not_in_the_way(copy_of_checkpointed):
    """Half a checkpoint, and half of one that was being deleted."""
    folder = copy_of_checkpointed / "checkpoints"
    for name in ("saving-21", "discarded-3"):
        (folder / name).mkdir()
        (folder / name / "rest").write_text("")
    assert train(copy_of_checkpointed, 28, "--checkpoint_interval=7", "--keep_checkpoints=2") == 0
    assert sorted(p.name for p in folder.iterdir()) == ["21", "28"]


def test_an_update_that_is_not_finite_stops_with_the_last_good_checkpoint(
    copy_of_checkpointed, capsys
):
    before = files(copy_of_checkpointed / "checkpoints")
    assert train(copy_of_checkpointed, 35, "--learning_rate=3e38") == 1
    message = capsys.readouterr().err
    assert "10 updates in a row are not finite, in iterations 15 to 24" in message
    assert "non-finite norms of parameters after the update: " in message
    assert f"the last good checkpoint is {copy_of_checkpointed / 'checkpoints' / '14'}" in message
    assert "--learning_rate" in message
    assert files(copy_of_checkpointed / "checkpoints") == before


def test_without_checkpoints_it_says_so(tmp_path, capsys):
    assert train(tmp_path / "run", 35, "--learning_rate=3e38") == 1
    assert "there is no checkpoint" in capsys.readouterr().err


def test_a_run_loads_from_python(straight):
    """README's way to use a trained model."""
    task, cell, config, _ = runs.load_run(straight)
    assert isinstance(task, RepeatCopy)
    assert isinstance(cell, DNC)
    assert config.updates.seed == 3
    episode = task.sample(jax.random.key(0), 5)
    outputs, _ = unroll(cell, episode.inputs)
    assert outputs.shape == (5, task.time_steps, 5)


def test_a_run_that_has_not_ended_loads_from_its_newest_checkpoint(copy_of_checkpointed, caplog):
    """With the weights that its model has when it ends there, and a note of where it is."""
    ended = runs.load_run(copy_of_checkpointed)
    (copy_of_checkpointed / "model.safetensors").unlink()
    found = runs.load_run(copy_of_checkpointed)
    assert "unfinished: iteration 14 of 14" in caplog.text
    assert (found.progress, found.config) == (ended.progress, ended.config)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(found.network), nnx.state(ended.network))
    earlier = runs.load_run(copy_of_checkpointed, checkpoint=7)
    assert earlier.progress.iteration == 7
    shutil.rmtree(copy_of_checkpointed / "checkpoints" / "14" / "state")
    kept = runs.load_run(copy_of_checkpointed)  # the newest one that is intact
    jax.tree.map(np.testing.assert_array_equal, nnx.state(kept.network), nnx.state(earlier.network))
    with pytest.raises(UsageError, match=r"--checkpoint=14: .* is missing"):
        runs.load_run(copy_of_checkpointed, checkpoint=14)


def test_a_run_that_is_being_extended_loads_from_its_newest_checkpoint(
    copy_of_checkpointed, caplog
):
    """The model of the shorter run is still there meanwhile."""
    model = copy_of_checkpointed / "model.safetensors"
    shorter = model.read_bytes()
    assert train(copy_of_checkpointed, 20, "--checkpoint_interval=10") == 0
    longer = runs.load_run(copy_of_checkpointed)
    model.write_bytes(shorter)
    found = runs.load_run(copy_of_checkpointed)
    assert "unfinished: iteration 20 of 20" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, nnx.state(found.network), nnx.state(longer.network))
    assert runs.load_run(copy_of_checkpointed, checkpoint=14).progress.iteration == 14


@pytest.mark.usefixtures("without_type_checks")
def test_commands_about_a_run_that_has_not_ended(copy_of_checkpointed, capsys):
    run = str(copy_of_checkpointed)
    (copy_of_checkpointed / "model.safetensors").unlink()
    for command in ("eval", "explore", "export"):
        runs._warn_once.cache_clear()  # as in a process of its own
        few = ["--force"] if command == "export" else ["--num_episodes=1"]
        assert main([command, run, "--checkpoint=7", *few]) == 0
        assert "unfinished: iteration 7 of 14" in capsys.readouterr().err
        assert main([command, run, "--checkpoint=8", *few]) == 2
        assert "7, 14" in capsys.readouterr().err
    about = json.loads((copy_of_checkpointed / "export" / "export.json").read_text())
    assert about["progress"]["iteration"] == 7
    with Locks(print) as locks:
        locks.take([copy_of_checkpointed])
        assert main(["eval", run, "--num_episodes=1"]) == 0
    assert "still training: iteration 14 of 14" in capsys.readouterr().err


def test_a_run_begins_from_a_checkpoint_of_another(copy_of_checkpointed, tmp_path):
    (copy_of_checkpointed / "model.safetensors").unlink()
    new = tmp_path / "new"
    assert train(new, 1, f"--initial_model={copy_of_checkpointed}", "--learning_rate=0") == 0
    found, given = (runs.load_run(run).network for run in (new, copy_of_checkpointed))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(found), nnx.state(given))


def test_layers_load_again(tmp_path):
    """A deep controller's numbered layers survive model.safetensors."""
    assert train(tmp_path / "run", 10, "--equations=nature") == 0
    _, cell, _, _ = runs.load_run(tmp_path / "run")
    assert cell.controller.layers[0].gates.kernel.shape == (6 + 8 + 8, 32)


def test_eval(straight, capsys):
    assert (
        main(["eval", str(straight), "--num_episodes=10", "--batch_size=4", "--max_length=5"]) == 0
    )
    report = capsys.readouterr().out
    assert "max_length 5" in report
    assert "12 episodes" in report
    assert re.search(r"loss +\d+\.\d+ nats per sequence", report)
    assert re.search(r"bit error +\d+\.\d+%", report)


def test_eval_names_the_wrong_flag(straight, capsys):
    assert main(["eval", str(straight), "--min_length=5"]) == 2
    assert "min_length=5 is above max_length=2" in capsys.readouterr().err


def test_eval_with_another_memory_size(straight, capsys):
    assert main(["eval", str(straight), "--num_episodes=4", "--memory_size=20"]) == 0
    assert "memory_size 20" in capsys.readouterr().out


def test_scores_against_cases_counted_by_hand():
    task = RepeatCopy(num_bits=1, max_length=1, max_repeats=1)
    episode = jax.tree.map(
        lambda x: jnp.stack([x, x]), task.episode(jnp.ones((1, 1)), jnp.array(1), jnp.array(1))
    )
    perfect = jnp.where(episode.targets > 0.5, 9.0, -9.0)
    assert task.score(perfect, episode) == {"bit_error": 0, "sequence_error": 0}
    assert float(task.loss(perfect, episode)) < 1e-2
    # two steps count, with two channels each, in two sequences: 8 bits; one is wrong
    one_wrong = perfect.at[0, 3, 0].multiply(-1)
    assert task.score(one_wrong, episode) == {"bit_error": 1 / 8, "sequence_error": 1 / 2}
    # outputs where the mask is 0 do not count
    assert task.score(perfect.at[:, 0].multiply(-1), episode)["bit_error"] == 0


def test_samples_are_fair():
    """Lengths, repeats and bits have the distribution they should."""
    task = RepeatCopy(num_bits=3, min_length=2, max_length=4, min_repeats=1, max_repeats=3)
    episode = jax.jit(task.sample, static_argnums=1)(jax.random.key(0), 4000)
    number = episode.inputs[:, :, -1].sum(axis=1) * 10
    answered = episode.mask.sum(axis=1) - 1
    lengths = answered / number
    for values, expected in ((number, [1, 2, 3]), (lengths, [2, 3, 4])):
        found, counts = np.unique(np.round(values), return_counts=True)
        assert found.tolist() == expected
        np.testing.assert_allclose(counts / 4000, 1 / 3, atol=0.03)
    bits = episode.inputs[:, 1:3, :3]
    np.testing.assert_allclose(bits.mean(axis=(0, 1)), 0.5, atol=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bits": 0}, "num_bits=0: must be at least 1"),
        ({"min_length": 3}, "min_length=3 is above max_length=2"),
        ({"min_repeats": 3}, "min_repeats=3 is above max_repeats=2"),
    ],
)
def test_task_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        RepeatCopy(**settings)


def test_the_seed_decides_everything():
    """Other weights for another seed; the purposes of one seed do not repeat each other."""
    from dncx.runs.state import DATA, EVALUATION, SAMPLES, WEIGHTS, stream

    keys = [
        tuple(jax.random.key_data(stream(seed, purpose)).tolist())
        for seed in (0, 1)
        for purpose in (WEIGHTS, DATA, SAMPLES, EVALUATION)
    ]
    assert len(set(keys)) == 8
    a, b = (nnx.state(DNC(3, 2, rngs=nnx.Rngs(params=stream(seed, WEIGHTS)))) for seed in (0, 1))
    assert not np.array_equal(a["output_linear"]["kernel"][...], b["output_linear"]["kernel"][...])
