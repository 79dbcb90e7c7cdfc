"""`--initial_model`: runs that begin with the weights of a trained model."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from dncx.cli.main import main
from dncx.runs.paths import SHIPPED

FLAGS = ["train", "copy", "--model=lstm", "--batch_size=2", "--max_length=2", "--hidden_size=4"]


def train(run_dir, iterations, *more):
    given = [*FLAGS, f"--num_training_iterations={iterations}", f"--run_dir={run_dir}"]
    return main([*given, *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of four iterations."""
    run_dir = tmp_path_factory.mktemp("runs") / "trained"
    assert train(run_dir, 4, "--learning_rate=1e-2") == 0
    return run_dir


@pytest.fixture(scope="module")
def continued(trained, tmp_path_factory):
    """A run that began from it, with checkpoints after two and four iterations."""
    run_dir = tmp_path_factory.mktemp("runs") / "continued"
    assert train(run_dir, 4, f"--initial_model={trained}", "--checkpoint_interval=2") == 0
    return run_dir


def weights(run_dir):
    return safetensors.numpy.load_file(run_dir / "model.safetensors")


def config(run_dir):
    return json.loads((run_dir / "config.json").read_text())


def assert_equal(model, expected):
    assert model.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(model[name], array, err_msg=name)


@pytest.mark.parametrize("place", [".", "model.safetensors"])
def test_a_run_begins_with_the_weights(place, trained, tmp_path, capsys):
    """With a learning rate of 0, they are what it ends with."""
    name = f"--initial_model={trained / place}"
    assert train(tmp_path / "run", 2, name, "--learning_rate=0") == 0
    assert f"weights of {trained / place}" in capsys.readouterr().out
    assert_equal(weights(tmp_path / "run"), weights(trained))
    sha256 = hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    assert config(tmp_path / "run")["initial_model"] == {
        "name": str(trained / place), "sha256": sha256
    }  # fmt: skip


def test_all_seeds_begin_with_them(trained, tmp_path):
    flags = [f"--initial_model={trained}", "--num_seeds=2", "--learning_rate=0"]
    assert train(tmp_path / "run", 2, *flags) == 0
    for seed in range(2):
        assert_equal(weights(tmp_path / "run" / f"seed-{seed}"), weights(trained))
        assert config(tmp_path / "run" / f"seed-{seed}")["initial_model"]


@pytest.mark.parametrize("again", [True, False])
def test_it_resumes_bit_for_bit(again, trained, continued, tmp_path):
    """With the flag or without; what it began with stays recorded."""
    run_dir = shutil.copytree(continued, tmp_path / "run")
    shutil.rmtree(run_dir / "checkpoints" / "4")
    (run_dir / "model.safetensors").unlink()
    flags = [f"--initial_model={trained}"] if again else []
    assert train(run_dir, 4, *flags, "--checkpoint_interval=2") == 0
    assert_equal(weights(run_dir), weights(continued))
    assert config(run_dir)["initial_model"] == config(continued)["initial_model"]


def test_a_copied_model_is_the_same_model(trained, continued, tmp_path):
    other = shutil.copy(trained / "model.safetensors", tmp_path / "other.safetensors")
    run_dir = shutil.copytree(continued, tmp_path / "run")
    assert train(run_dir, 6, f"--initial_model={other}", "--checkpoint_interval=2") == 0


@pytest.mark.second_step
def test_a_larger_memory_is_no_other_network(tmp_path, capsys):
    """The weights of a DNC fit any number of slots; settings that differ are reported."""
    sizes = ["train", "copy", "--word_size=3", "--num_read_heads=1", "--hidden_size=4"]
    sizes += ["--batch_size=2", "--max_length=2", "--num_training_iterations=1"]
    small, large = tmp_path / "small", tmp_path / "large"
    assert main([*sizes, "--memory_size=3", f"--run_dir={small}"]) == 0
    capsys.readouterr()
    more = ["--memory_size=5", "--learning_rate=0", f"--initial_model={small}"]
    assert main([*sizes, *more, f"--run_dir={large}"]) == 0
    assert "memory_size: 3 there, 5 here" in capsys.readouterr().out
    assert_equal(weights(large), weights(small))


# What is refused, before anything is written


def refused(tmp_path, capsys, *flags):
    assert train(tmp_path / "run", 4, *flags) == 2
    assert not (tmp_path / "run").exists()
    return capsys.readouterr().err


def test_other_sizes_are_listed(trained, tmp_path, capsys):
    error = refused(tmp_path, capsys, f"--initial_model={trained}", "--hidden_size=5")
    assert "output_linear.kernel: (4, 8) there, (5, 8) here" in error
    assert "controller.layers.0.gates.bias: (16,) there, (20,) here" in error


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()))
def test_models_of_other_tasks_do_not_fit(name, tmp_path, capsys):
    error = refused(tmp_path, capsys, f"--initial_model={name}")
    assert "access.interface_linear.kernel: " in error
    assert "absent here" in error


def changed_model(trained, folder, content):
    path = folder / "changed.safetensors"
    path.write_bytes(content(weights(trained)))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda arrays: b"nothing", "cannot read"),
        (lambda arrays: b"", "cannot read"),
        (
            lambda arrays: safetensors.numpy.save({k: v * np.nan for k, v in arrays.items()}),
            "is not finite",
        ),
        (
            lambda arrays: safetensors.numpy.save(
                {k: v.astype(np.float64) for k, v in arrays.items()}
            ),
            "must be float32",
        ),
    ],
)
def test_invalid_weights(content, message, trained, tmp_path, capsys):
    path = changed_model(trained, tmp_path, content)
    assert message in refused(tmp_path, capsys, f"--initial_model={path}")


@pytest.mark.parametrize("place", ["nowhere", ".", "x" * 300, "nowhere/at/all.safetensors"])
def test_no_trained_model(place, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path, capsys, f"--initial_model={tmp_path / 'folder' / place}")


def test_a_population_is_no_single_model(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "population" / "seed-0")
    error = refused(tmp_path, capsys, f"--initial_model={tmp_path / 'population'}")
    assert "seed-0" in error


def test_a_run_cannot_have_begun_from_something_else(trained, continued, tmp_path, capsys):
    """A run that resumes keeps what it began with."""
    run_dir = shutil.copytree(continued, tmp_path / "run")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    other = changed_model(
        trained,
        tmp_path,
        lambda arrays: safetensors.numpy.save({k: v + 1 for k, v in arrays.items()}),
    )
    assert train(run_dir, 6, f"--initial_model={other}") == 2
    assert f"initial_model: the run began from {trained}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
