"""One run in parts: of the batch, of time, of devices, of seeds; the same but for rounding."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_relative, later
from flax import nnx

from dncx.cli.main import main, train_main
from dncx.config import DNCConfig
from dncx.dnc import DNC
from dncx.errors import UsageError
from dncx.networks.config import NetworkConfig
from dncx.runs import checkpoints
from dncx.runs.config import Changes, RunConfig, TaskConfig, UpdatesConfig
from dncx.runs.directory import load_model, load_run
from dncx.runs.manifest import Score, score_of
from dncx.runs.metrics import read_metrics
from dncx.runs.state import initial_state
from dncx.sequence import unroll
from dncx.settings.training import OptimizerSettings
from dncx.tasks.base import Episode
from dncx.tasks.copy import Copy
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training import loop
from dncx.training import setup as beginning
from dncx.training.batches import keys_for
from dncx.training.gradient import GradientOptions, loss_and_gradient, unroll_truncated
from dncx.training.optimizer import learning_rates, make_optimizer
from dncx.training.update import UpdateConfig, batch_gradient, make_diagnosis, make_train, update

pytestmark = pytest.mark.usefixtures("shared_programs")
SIZES = ["--hidden_size=8", "--memory_size=8", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=8", "--report_interval=10", "--learning_rate=1e-3"]
ITERATIONS = "--num_training_iterations=30"


def train(run_dir, *more):
    return train_main([*TRAIN, ITERATIONS, f"--run_dir={run_dir}", *more])


def losses(run_dir):
    return [line["loss"] for line in read_metrics(run_dir / "metrics.jsonl")]


def assert_same_run(run_dir, other):
    """Equal within rounding, which training makes larger."""
    np.testing.assert_allclose(losses(run_dir), losses(other), rtol=1e-5)
    model, expected = (load_model(run / "model.safetensors") for run in (run_dir, other))
    assert model.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(model[name], value, atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(runs):
    assert train(runs / "whole") == 0
    return runs / "whole"


# Parts of a batch, and of time


@pytest.fixture
def small(x64):
    """A function (task) -> graph, params and a batch of 8, in float64."""

    def make(task):
        config = DNCConfig(memory_size=6, word_size=4, num_read_heads=1, hidden_size=8)
        cell = DNC(
            task.input_size,
            task.output_size,
            config,
            rngs=nnx.Rngs(0),
            param_dtype=jnp.float64,
        )
        graph, params = nnx.split(cell)
        episode = jax.tree.map(
            lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x,
            task.sample(jax.random.key(1), 8),
        )
        return graph, nnx.to_pure_dict(params), episode

    return make


@pytest.mark.parametrize(
    "task", [RepeatCopy(max_length=3, max_repeats=2), *later(Copy(max_length=4))]
)
def test_accumulated_gradients_are_those_of_the_batch(task, small):
    graph, params, episode = small(task)
    keys = keys_for(episode, jax.random.key(2))

    @partial(jax.jit, static_argnums=0)
    def gradient(parts, params):
        plan = GradientOptions(accumulation=parts)
        return loss_and_gradient(graph, params, task, episode, keys, plan)

    expected = gradient(1, params)
    for parts in (2, 8):
        jax.tree.map(partial(assert_relative, tolerance=1e-12), gradient(parts, params), expected)


def test_truncated_gradients(small):
    """Those of sequences cut by hand; the outputs are the same, whatever the window."""
    task = RepeatCopy(max_length=3, max_repeats=2)
    graph, params, episode = small(task)
    time = episode.inputs.shape[1]
    lengths = jnp.asarray([time, 3, 4, 1, time - 1, 5, 8, 2], jnp.int32)

    def by_hand(cell, window):
        state, outputs = cell.initialize_carry(episode.inputs[:, 0].shape), []
        for start in range(0, time, window):
            part = episode.inputs[:, start : start + window]
            left = jnp.clip(lengths - start, 0, part.shape[1])
            state = jax.lax.stop_gradient(state)
            out, state = unroll(cell, part, initial_state=state, lengths=left)
            outputs.append(out)
        return jnp.concatenate(outputs, axis=1), state

    def at_once(cell, window):
        state = cell.initialize_carry(episode.inputs[:, 0].shape)
        return unroll_truncated(cell, episode.inputs, window, state, lengths)

    @partial(jax.jit, static_argnums=(0, 1))
    def measured(way, window, params):
        def loss(params):
            outputs, state = way(nnx.merge(graph, params), window)
            return task.loss(outputs, episode), (outputs, state)

        return jax.grad(loss, has_aux=True)(params)

    found = {window: measured(at_once, window, params) for window in (4, time, time + 3)}
    for window, result in found.items():
        cut = min(window, time)
        jax.tree.map(
            partial(assert_relative, tolerance=1e-12), result, measured(by_hand, cut, params)
        )
    kernels = [found[w][0]["access"]["interface_linear"]["kernel"] for w in (4, time)]
    assert float(jnp.abs(kernels[0] - kernels[1]).max()) > 1e-3


class Dialogue(RepeatCopy):
    """After the sequence three steps whose inputs are drawn, for each sequence by its key."""

    def opening_lengths(self, episode):
        return episode.mask.sum(axis=1).astype(jnp.int32)

    def converse(self, step, state, episode, keys, training):
        drawn = jax.vmap(lambda key: jax.random.normal(key, (3, self.input_size)))(keys)
        _, outputs = jax.lax.scan(step, state, jnp.swapaxes(drawn, 0, 1))
        outputs = jnp.swapaxes(outputs, 0, 1)
        mask = jnp.ones(outputs.shape[:2])
        return outputs, Episode(drawn, jnp.ones_like(outputs), mask)


@pytest.mark.second_step
def test_a_dialogue_is_truncated_and_accumulated_too():
    """Its opening is cut; the choices on the way are those of each sequence, in whichever part."""
    task = Dialogue(max_length=2)
    config = DNCConfig(hidden_size=8, memory_size=4, word_size=4, num_read_heads=1)
    graph, params = nnx.split(DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(0)))
    episode = task.sample(jax.random.key(1), 4)
    keys = keys_for(episode, jax.random.key(2))

    @partial(jax.jit, static_argnums=0)
    def gradient(plan, params):
        return loss_and_gradient(graph, params, task, episode, keys, plan)

    plans = (
        GradientOptions(),
        GradientOptions(accumulation=2, truncation=10**6),
        GradientOptions(truncation=2),
    )
    params = nnx.to_pure_dict(params)
    (loss, expected), same, short = (gradient(plan, params) for plan in plans)
    assert_relative(same[0], loss, 1e-5)
    jax.tree.map(partial(assert_relative, tolerance=1e-4), same[1], expected)
    assert_relative(short[0], loss, 1e-5)
    assert not np.allclose(
        short[1]["controller"]["gates"]["kernel"], expected["controller"]["gates"]["kernel"]
    )


@pytest.mark.second_step
def test_a_window_longer_than_the_sequence_costs_nothing():
    task, config = RepeatCopy(max_length=2), DNCConfig(memory_size=4, word_size=4, num_read_heads=1)
    graph, params = nnx.split(DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(0)))
    episode = task.sample(jax.random.key(1), 4)
    arguments = nnx.to_pure_dict(params), task, episode, keys_for(episode, jax.random.key(2))

    def temporary(plan):
        gradient = jax.jit(partial(loss_and_gradient, graph, options=plan), static_argnums=1)
        return gradient.lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    assert temporary(GradientOptions(truncation=1000)) == temporary(GradientOptions())


@pytest.mark.second_step
def test_the_diagnosis_is_of_the_gradient_that_was_taken():
    task, config = RepeatCopy(max_length=2), DNCConfig(memory_size=4, word_size=4, num_read_heads=1)
    graph, params = nnx.split(DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(0)))
    params, optimizer, key = nnx.to_pure_dict(params), optax.sgd(1e-3), jax.random.key(1)
    recipe = UpdateConfig(
        graph, optimizer, batch_size=4, gradient=GradientOptions(accumulation=2, truncation=2)
    )
    norms = make_diagnosis(recipe, task)(initial_state(params, optimizer), key, ())
    state = make_train(recipe, task)(initial_state(params, optimizer), key, jnp.int32(1), ())
    assert_relative(optax.tree.norm(norms["gradient"]), state.grad_norm_max, 1e-5)
    assert_relative(norms["loss"], state.loss_sum, 1e-5)


@pytest.mark.second_step
def test_truncation_at_the_command_line(whole, tmp_path):
    assert train(tmp_path / "long", "--truncation=1000") == 0
    assert_same_run(tmp_path / "long", whole)
    assert train(tmp_path / "short", "--truncation=2") == 0
    assert losses(tmp_path / "short") != losses(whole)


# Seeds


@pytest.fixture(scope="module")
def population(runs):
    assert train(runs / "population", "--num_seeds=3", "--checkpoint_interval=10") == 0
    return runs / "population"


def test_a_seed_of_a_population_is_the_run_of_this_seed(population, whole, tmp_path):
    assert_same_run(population / "seed-0", whole)
    assert train(tmp_path / "alone", "--seed=2") == 0
    assert_same_run(population / "seed-2", tmp_path / "alone")
    config = json.loads((population / "seed-2" / "config.json").read_text())
    assert config["updates"]["seed"] == 2
    assert config["updates"]["num_seeds"] == 1


def test_what_a_population_says(population, capsys):
    lines = read_metrics(population / "metrics.jsonl")
    each = [read_metrics(population / f"seed-{seed}" / "metrics.jsonl") for seed in range(3)]
    assert [line["losses"] for line in lines] == [
        [line["loss"] for line in together] for together in zip(*each, strict=True)
    ]
    assert [line["loss"] for line in lines] == [float(np.median(x["losses"])) for x in lines]
    assert main(["runs", str(population)]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["eval", str(population / "seed-1"), "--num_episodes=10"]) == 0
    assert main(["eval", str(population)]) == 2
    assert "seed-0" in capsys.readouterr().err


def test_a_seed_of_a_population_that_has_not_ended(population, tmp_path):
    run = shutil.copytree(population, tmp_path / "run")
    ended = load_run(run / "seed-1").network
    (run / "seed-1" / "model.safetensors").unlink()
    found = load_run(run / "seed-1")
    assert found.config.updates.seed == 1
    jax.tree.map(np.testing.assert_array_equal, nnx.state(found.network), nnx.state(ended))


@pytest.mark.second_step
def test_a_population_goes_on(population, tmp_path):
    run = shutil.copytree(population, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "30")
    for seed in range(3):
        (run / f"seed-{seed}" / "model.safetensors").unlink()
    assert train(run, "--num_seeds=3", "--checkpoint_interval=10") == 0
    for seed in range(3):
        one, other = run / f"seed-{seed}", population / f"seed-{seed}"
        assert losses(one) == losses(other)
        models = [(x / "model.safetensors").read_bytes() for x in (one, other)]
        assert models[0] == models[1]


@pytest.mark.parametrize(
    ("changed", "message"), [("num_seeds=2", "num_seeds: 3 in"), ("seed=4", "seed: 0 in")]
)
def test_other_seeds_are_another_run(changed, message, population, tmp_path, capsys):
    run = shutil.copytree(population, tmp_path / "run")
    assert train(run, "--num_seeds=3", f"--{changed}") == 2
    said = capsys.readouterr().err
    assert f"{message} the checkpoint, {changed.partition('=')[2]} asked for" in said


def test_the_settings_of_a_task_are_its_own():
    """Whatever they are called."""
    configs = [
        RunConfig(
            id="",
            task=TaskConfig(name="mine", settings={"seed": n, "momentum": n, "memory_size": n}),
            network=NetworkConfig(input_size=1, output_size=1),
            updates=UpdatesConfig(batch_size=1, num_training_iterations=1, seed=0, num_seeds=2),
            loss_unit="",
        )
        for n in (0, 1)
    ]
    changes = Changes(*configs)
    assert (len(changes.fixed), len(changes.free)) == (0, 3)


TWO = ["--num_processes=2", "--process_id=2"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "traversal", "--num_seeds=2"], "num_seeds: each seed would end the lessons"),
        (["train", "repeat-copy", "--gradient_accumulation=3"], "must divide batch_size"),
        (["train", "repeat-copy", "--num_devices=7"], "num_devices=7"),
        (["train", "repeat-copy", "--memory_devices=2"], "there is 1 device"),
        (["train", "repeat-copy", "--process_id=1"], "give all three, or none"),
        (["train", "repeat-copy", "--coordinator_address=here", *TWO], "must be HOST:PORT"),
        (["train", "repeat-copy", "--coordinator_address=a:1", *TWO], "process_id=2: must lie"),
        (["train", "repeat-copy", "--weight_average=1"], "weight_average=1"),
        (["train", "repeat-copy", "--skip_spikes=0.5"], "skip_spikes=0.5"),
    ],
)
def test_what_does_not_go_together(command, message, tmp_path, capsys):
    assert main([*command, f"--run_dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


# Devices


def on_devices(number, run_dir, *more):
    """Trains in a process that has so many."""
    command = [sys.executable, "train.py", *TRAIN, ITERATIONS, f"--run_dir={run_dir}", *more]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(number), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.second_step
def test_eight_devices_train_the_same_network(whole, tmp_path):
    assert "for 8 devices (cpu)" in on_devices(8, tmp_path / "run")
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.second_step
def test_devices_share_slots_batch_and_parts(whole, tmp_path):
    more = ["--memory_devices=2", "--gradient_accumulation=2"]
    assert "for 8 devices (cpu)" in on_devices(8, tmp_path / "run", *more)
    assert_same_run(tmp_path / "run", whole)


SHARED = """
import jax
from flax import nnx
import dncx
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.devices import find_devices
from dncx.training.batches import keys_for
from dncx.training.gradient import GradientOptions, loss_and_gradient
from dncx.training.scoring import make_answer, make_measure
from dncx.settings.training import ScaleSettings

task, config = RepeatCopy(), dncx.DNCConfig(memory_size=28, word_size=4, num_read_heads=1)
cell = dncx.DNC(task.input_size, task.output_size, config, implementation="xla", rngs=nnx.Rngs(0))
graph, params = nnx.split(cell)
devices = find_devices(ScaleSettings(memory_devices=2), 8, 28)
episode = task.sample(jax.random.key(0), 8)

@jax.jit
def gradient(params, episode, keys):
    return loss_and_gradient(graph, params, task, episode, keys, GradientOptions(devices=devices))

arguments = devices.place((nnx.to_pure_dict(params), episode, keys_for(episode, jax.random.key(0))))
print(gradient.lower(*arguments).compile().as_text())
arguments = devices.place((nnx.to_pure_dict(params), jax.random.key(1), jax.numpy.int32(0)))
for make in (make_answer, make_measure):
    print(make(graph, task, 1, devices).lower(*arguments, ()).compile().as_text())
"""


@pytest.mark.second_step
def test_no_device_holds_a_whole_link():
    """Two sequences in four rows of two devices: each has half the rows of two links."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARED]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    arrays = set(re.findall(r"f32\[([\d,]+)\]", result.stdout))
    assert {"2,1,14,28", "1,1,14,28"} <= arrays
    assert not {a for a in arrays if a.endswith("28,28") or a.startswith("28,28")}


@pytest.mark.second_step
def test_devices_share_seeds(population, tmp_path):
    said = on_devices(8, tmp_path / "run", "--num_seeds=3")
    assert "for 3 of 8 devices (cpu)" in said
    for seed in range(3):
        assert_same_run(tmp_path / "run" / f"seed-{seed}", population / f"seed-{seed}")


# Updates: schedules, averages, spikes


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0]),
    ],
)
def test_schedules(schedule, expected):
    settings = OptimizerSettings(
        learning_rate=1.0, learning_rate_schedule=schedule, warmup_iterations=4
    )
    rates = [float(learning_rates(settings, 8)(count)) for count in range(9)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)


class Fitted(RepeatCopy):
    """Its loss is what the episode says."""

    def loss(self, outputs, episode):
        return outputs.mean() + episode.targets.mean()


def updates(recipe_options, values, optimizer=None):
    """The states after updates with these losses."""
    task = RepeatCopy(max_length=1, max_repeats=1)
    cell = DNC(task.input_size, task.output_size, DNCConfig(hidden_size=4), rngs=nnx.Rngs(0))
    graph, params = nnx.split(cell)
    optimizer = optimizer or make_optimizer(OptimizerSettings(learning_rate=1e-3))
    recipe = UpdateConfig(graph, optimizer, batch_size=2, **recipe_options)
    average = recipe.weight_average > 0
    state = initial_state(nnx.to_pure_dict(params), optimizer, averages=average)
    episode, states = task.sample(jax.random.key(0), 2), [state]
    fitted, key = Fitted(max_length=1), jax.random.key(1)

    @jax.jit
    def step(state, episode):
        found = batch_gradient(state.params, recipe, fitted, episode, key)
        return update(state, recipe, *found)

    for value in values:
        targets = jnp.full_like(episode.targets, value)
        states.append(step(states[-1], episode._replace(targets=targets)))
    return states


def changed(before, after):
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


def test_spikes_are_skipped_until_they_are_usual():
    values = [10, 10, 100, 10] + 150 * [100.0]
    states = updates({"skip_spikes": 3.0}, values)
    made = [changed(a.params, b.params) for a, b in itertools.pairwise(states)]
    assert made[:5] == [True, True, False, True, False]
    assert made[-1]
    assert int(states[-1].spikes) == made.count(False)
    assert int(states[-1].skipped) == 0
    assert float(states[3].loss_sum) < 3 * float(states[1].loss_sum)  # the spike is not in it


def test_the_running_average_of_the_weights():
    states = updates({"weight_average": 0.9}, [1.0] * 30)
    expected = states[0].params
    for count, state in enumerate(states[1:], start=1):
        decay = min(0.9, (1 + count) / (10 + count))
        expected = jax.tree.map(
            lambda a, p, decay=decay: decay * a + (1 - decay) * p, expected, state.params
        )
    jax.tree.map(partial(assert_relative, tolerance=1e-5), states[-1].average, expected)
    assert states[-1].model is states[-1].average


@pytest.mark.second_step
def test_the_average_is_the_model(whole, tmp_path):
    """What is saved; training itself is as without it, and goes on from a checkpoint."""
    more = ["--weight_average=0.9", "--checkpoint_interval=10"]
    assert train(tmp_path / "run", *more) == 0
    assert losses(tmp_path / "run") == losses(whole)
    model, last = (load_model(x / "model.safetensors") for x in (tmp_path / "run", whole))
    assert any((model[name] != last[name]).any() for name in last)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "30")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    (tmp_path / "run" / "model.safetensors").unlink()
    assert train(tmp_path / "run", *more) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.second_step
def test_spikes_at_the_command_line(tmp_path):
    assert train(tmp_path / "run", "--skip_spikes=1.05") == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert sum(line["spikes"] for line in lines) > 0


@pytest.mark.second_step
def test_a_schedule_at_the_command_line(whole, tmp_path, monkeypatch):
    made, make = [], beginning.make_optimizer
    monkeypatch.setattr(beginning, "make_optimizer", lambda *x: made.append(x) or make(*x))
    more = ["--learning_rate_schedule=cosine", "--warmup_iterations=5"]
    assert train(tmp_path / "run", *more) == 0
    ((settings, iterations),) = made
    assert (settings.learning_rate_schedule, settings.warmup_iterations) == ("cosine", 5)
    assert iterations == 30
    assert losses(tmp_path / "run") != losses(whole)


# Checkpoints that stay


def test_the_best_checkpoints_stay(tmp_path, monkeypatch):
    """Beside the newest: those of the lowest score, of those of its kind."""
    scores = map(Score, "aabbbb", [5.0, 1.0, 4.0, 2.0, 3.0, 6.0])

    def report(self, state, speed):
        self.score = next(scores)

    monkeypatch.setattr(loop._Loop, "_report", report)
    more = ["--report_interval=5", "--checkpoint_interval=5"]
    assert train(tmp_path / "run", *more, "--keep_checkpoints=1", "--keep_best_checkpoints=2") == 0
    assert checkpoints.saved_iterations(tmp_path / "run" / "checkpoints") == [20, 25, 30]


@pytest.mark.second_step
def test_a_checkpoint_has_the_loss_reported_last(tmp_path):
    """Also where a run goes on, and no report came since."""
    more = ["--checkpoint_interval=15", "--keep_checkpoints=2"]
    assert train(tmp_path / "run", *more) == 0
    expected = [Score("loss", losses(tmp_path / "run")[n]) for n in (0, 2)]
    folder = tmp_path / "run" / "checkpoints"
    assert [score_of(folder / name) for name in ("15", "30")] == expected
    shutil.rmtree(folder / "30")
    (tmp_path / "run" / "model.safetensors").unlink()
    assert train(tmp_path / "run", *more, "--report_interval=1000") == 0
    assert score_of(folder / "30").of == "loss"


def test_loggers_are_told_every_line(tmp_path):
    from dncx.cli.parsing import parse_training
    from dncx.settings.presets import DEFAULTS

    told = []
    arguments = [*TRAIN, ITERATIONS, f"--run_dir={tmp_path / 'run'}"]
    settings = parse_training(DEFAULTS["repeat-copy"], arguments, "train.py")
    loop.train(settings, loggers=[told.append])
    assert told == read_metrics(tmp_path / "run" / "metrics.jsonl")
    with pytest.raises(UsageError):
        settings.scale.__class__(num_seeds=0).check(settings.run)
