"""`dncx debug`: the operation that went wrong first, with its line, its time step and sequences."""

import dataclasses
import hashlib
import json
import re
import shutil
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from dncx import unroll
from dncx.cli.main import main, task_main
from dncx.debugging import command as debugging
from dncx.debugging.replay import find_origin
from dncx.tasks.babi.buckets import Stories
from dncx.tasks.babi.scoring import BabiScoring
from dncx.tasks.babi.task import Bucket
from dncx.tasks.registry import TASKS
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training import update as step

MEMORY = ["--memory_size=6", "--word_size=4", "--num_read_heads=2"]
TRAIN = ["--hidden_size=8", "--batch_size=4", "--max_skipped_updates=2", "--min_length=2"]


# The replay


class Sum(nnx.Module):
    """A cell that adds up what a function of its weight and its input gives."""

    def __init__(self, function):
        self.weight, self.function = nnx.Param(jnp.float32(1)), function

    def initialize_carry(self, shape, rngs):
        return jnp.zeros(shape[:-1])

    def __call__(self, state, x):
        state = state + self.function(self.weight[...], x[..., 0])
        return state, state[..., None]


def origin_of(function, *numbers, loss=lambda outputs: outputs.mean(), **how):
    """What `find_origin` finds in a sequence of numbers."""
    graph, params = nnx.split(Sum(function))
    inputs = jnp.array(numbers)[None, :, None]
    params = nnx.to_pure_dict(params)
    return find_origin(lambda network: loss(unroll(network, inputs)[0]), graph, params, **how)


@jax.custom_vjp
def identity(x):
    return x * 1


def backwards(x, g):
    return (g / x,)  # backwards


identity.defvjp(lambda x: (x * 1, x), backwards)


@jax.jit
def doubled_log(x):
    return 2 * jnp.log(x)  # jit


def in_while(x):
    return jax.lax.while_loop(
        lambda c: c[1] < 6,
        lambda c: (jnp.sqrt(c[0]) + x, c[1] + 1),  # while
        (x, 0),
    )[0]


def in_cond(x):
    return jax.lax.cond(x[0] < 0, lambda x: jnp.sqrt(x), lambda x: x, x)  # cond


def norm(x):
    """JAX traces its own functions once and keeps the line of the first caller."""
    first = jnp.linalg.norm(x[None] + 9)
    return first * jnp.linalg.norm(x[None])[None]  # second


FORWARD = {
    "log": (lambda w, x: jnp.log(w * x), "log", "jnp.log(w * x)"),
    "sqrt": (lambda w, x: jnp.sqrt(w * x), "sqrt", "jnp.sqrt(w * x)"),
    "jit": (lambda w, x: doubled_log(w * x), "log", "# jit"),
    "cond": (lambda w, x: in_cond(w * x), "sqrt", "# cond"),
    "while": (lambda w, x: in_while(w * x), "sqrt", "# while"),
    "remat": (lambda w, x: jax.checkpoint(lambda y: jnp.log(y))(w * x), "log", "jax.checkpoint"),
}
NUMBERS = (1.0, 2.0, 0.5, -3.0, 1.0, -1.0)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", FORWARD)
def test_the_forward_pass(name, gradient):
    """The first step with a negative number is 3."""
    function, operation, code = FORWARD[name]
    gradient = gradient and name != "while"  # which has none
    origin = origin_of(function, *NUMBERS, gradient=gradient)
    assert (origin.operation, origin.kind, origin.step) == (operation, "nan", 3)
    assert __file__ in origin.place
    assert code in origin.place


BACKWARD = {
    "the root of 0": (lambda w, x: jnp.sqrt(w * jnp.maximum(x, 0.0)), "jnp.sqrt(w *"),
    "a where around the result": (
        lambda w, x: jnp.where(x > 0, jnp.log(w * jnp.maximum(x, 0.0)), 0.0),
        "log",
    ),
    "a custom_vjp": (lambda w, x: identity(w * jnp.maximum(x, 0.0)), "# backwards"),
    "a function of jax": (lambda w, x: norm(w * jnp.maximum(x, 0.0)), "# second"),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_the_backward_pass_alone(name):
    """The last step with a 0 or a negative number is 4: the backward pass begins at the end."""
    function, code = BACKWARD[name]
    numbers = (1.0, 0.0, 2.0, 3.0, -1.0, 4.0)
    assert origin_of(function, *numbers) is None
    origin = origin_of(function, *numbers, gradient=True)
    assert origin.step == 4
    assert code in origin.place


def test_infinity():
    """Of a step, of the loss, and of a gradient, where no NaN comes of it."""
    grows = lambda w, x: jnp.exp(w * x)  # noqa: E731
    assert origin_of(grows, 1.0, 100.0, 1.0) is None
    origin = origin_of(grows, 1.0, 100.0, 1.0, infinite=True)
    assert (origin.kind, origin.step) == ("inf", 1)
    origin = origin_of(
        lambda w, x: w * x, 50.0, 50.0, loss=lambda y: jnp.exp(y).sum(), infinite=True
    )
    assert (origin.operation, origin.kind, origin.step) == ("exp", "inf", None)
    root = origin_of(
        lambda w, x: w * x,
        1.0,
        -1.0,
        loss=lambda y: jnp.sqrt(y).sum(),
        gradient=True,
        infinite=True,
    )
    assert (root.kind, root.step) == ("inf", None)
    assert "jnp.sqrt(y)" in root.place


def test_a_softmax_is_no_infinity():
    assert origin_of(lambda w, x: jax.nn.softmax(w * x), *NUMBERS, infinite=True) is None


# Real runs


@dataclasses.dataclass(frozen=True)
class Spoiled(RepeatCopy):
    """Repeat copy in which something is wrong."""

    name: ClassVar[str] = "spoiled"
    fault: int = 5

    FORWARD: ClassVar[int] = 1
    BACKWARD: ClassVar[int] = 2
    INPUTS: ClassVar[int] = 3
    LARGE: ClassVar[int] = 4
    NONE: ClassVar[int] = 5

    def sample(self, key, batch_size):
        episode = super().sample(key, batch_size)
        if self.fault == self.INPUTS:
            return episode._replace(inputs=episode.inputs.at[2, 5].set(jnp.inf))
        if self.fault in (self.FORWARD, self.BACKWARD):  # marks a sequence and a step
            return episode._replace(targets=episode.targets.at[1, 4].set(9))
        return episode

    def loss(self, outputs, episode):
        mark = episode.targets == 9
        if self.fault == self.FORWARD:
            return jnp.log(jnp.where(mark, -1.0, 1.0) + 0 * outputs).mean()
        if self.fault == self.BACKWARD:
            return jnp.sqrt(jnp.where(mark, 0.0, 1.0) * outputs**2).mean()
        if self.fault == self.LARGE:
            return (outputs * 1e32).sum()
        return super().loss(outputs, episode)


def train(run_dir, *more):
    memory = [] if "--model=lstm" in more else MEMORY
    arguments = ["train", *TRAIN, "--max_length=2", *memory, f"--run_dir={run_dir}", *more]
    return task_main(Spoiled, [*arguments, "--num_training_iterations=4"])


def debug(run_dir, capsys):
    """What `debug` prints about a run."""
    capsys.readouterr()
    assert task_main(Spoiled, ["debug", str(run_dir)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def fail(tmp_path, capsys):
    """A function (flags) -> what `debug` prints about the run that they stop. It trains an LSTM,
    which compiles quickly."""

    def stop(*flags):
        assert train(tmp_path / "run", "--model=lstm", *flags) == 1
        return debug(tmp_path / "run", capsys)

    return stop


PLACE = "sequence 1 of 0 to 3, time step 4 of 0 to 8"


@pytest.mark.second_step
def test_a_run_that_stopped_in_its_loss(fail, tmp_path):
    printed = fail(f"--fault={Spoiled.FORWARD}")
    assert f"{tmp_path / 'run' / 'failure' / '0'}: the update of iteration 1" in printed
    assert "loss nan, as when the run stopped" in printed
    assert f"  forward pass, {PLACE}\n  log gives nan, at {__file__}" in printed
    assert "return jnp.log(jnp.where(mark, -1.0, 1.0) + 0 * outputs).mean()" in printed


@pytest.mark.second_step
def test_a_run_that_stopped_in_its_gradient(fail):
    printed = fail(f"--fault={Spoiled.BACKWARD}")
    assert "gradients: NOT finite: " in printed
    assert f"  backward pass, {PLACE}\n" in printed
    assert "return jnp.sqrt(jnp.where(mark, 0.0, 1.0) * outputs**2).mean()" in printed


@pytest.mark.second_step
def test_a_batch_that_is_not_finite(fail):
    printed = fail(f"--fault={Spoiled.INPUTS}")
    assert "batch: NOT finite: 1 of 3 arrays, such as inputs" in printed
    assert "inputs in sequence 2, time step 5" in printed


@pytest.mark.second_step
def test_gradients_whose_norm_is_too_large(fail):
    assert "gradients have no finite norm: finite, at most" in fail(f"--fault={Spoiled.LARGE}")


@pytest.mark.second_step
def test_an_update_of_the_optimiser(fail):
    printed = fail("--learning_rate=1e30", "--max_grad_norm=1e30")
    assert "parameters after the update have no finite norm" in printed


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "stopped"
    assert train(run_dir, "--model=lstm", "--learning_rate=1e30", "--max_grad_norm=1e30") == 1
    return run_dir


@pytest.mark.second_step
@pytest.mark.parametrize(
    ("field", "value"),
    [("truncation", None), ("batch_size", "16"), ("batch_size", 0), ("seed", "remove")],
)
def test_a_failure_with_invalid_settings(field, value, stopped, tmp_path, capsys):
    run_dir = shutil.copytree(stopped, tmp_path / "run")
    (manifest,) = (run_dir / "failure").glob("*/manifest")
    content = json.loads(manifest.read_bytes().rpartition(b"\n")[0])
    content["config"]["updates"][field] = value
    if value == "remove":
        del content["config"]["updates"][field]
    text = json.dumps(content).encode() + b"\n"
    manifest.write_bytes(text + hashlib.sha256(text).hexdigest().encode())
    assert task_main(Spoiled, ["debug", str(run_dir)]) == 2
    assert field in capsys.readouterr().err


@pytest.mark.second_step
def test_a_population(tmp_path, capsys):
    """Each seed has its own failure, with its own batches."""
    huge = ["--model=lstm", "--learning_rate=1e30", "--max_grad_norm=1e30"]
    assert train(tmp_path / "run", *huge, "--num_seeds=2") == 1
    printed = capsys.readouterr().err
    assert f"your_task.py debug {tmp_path / 'run' / 'seed-0'}`" in printed
    assert "all 2 seeds" in printed
    assert main(["runs", str(tmp_path / "run"), "--json"]) == 0
    assert '"state": "failed"' in capsys.readouterr().out
    printed = debug(tmp_path / "run" / "seed-1", capsys)
    assert f"{tmp_path / 'run' / 'seed-1'}" in printed
    assert ", as when the run stopped" in printed
    assert task_main(Spoiled, ["debug", str(tmp_path / "run")]) == 2
    assert f"such as {tmp_path / 'run' / 'seed-0'}" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class SpoiledStories(BabiScoring):
    """Stories of two lengths; the loss of the longer ones is NaN."""

    name: ClassVar[str] = "spoiled-stories"
    tokens: ClassVar = ("-", ".", "?", "yes", "no")
    shares: ClassVar = (0.5, 0.5)

    @property
    def buckets(self):
        def bucket(width):
            tokens = jnp.full((3, width), 4, jnp.int16)
            answers = jnp.full((3, width), -1, jnp.int16).at[:, -1].set(3 if width == 3 else 10)
            return SpoiledBucket(
                stories=Stories(jnp.ones(3, jnp.int32), tokens, answers), vocabulary=self.tokens
            )

        return bucket(3), bucket(6)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpoiledBucket(Bucket):
    """Some stories."""

    def loss(self, outputs, episode):
        loss = super().loss(outputs, episode)
        return loss if outputs.shape[1] == 3 else jnp.log(-1 - loss)


@pytest.mark.second_step
def test_a_batch_in_parts(tmp_path, capsys):
    """The part that failed is named; here the longer one."""
    flags = ["--model=lstm", "--hidden_size=4", "--batch_size=4", "--gradient_accumulation=2"]
    flags += ["--max_skipped_updates=1", f"--run_dir={tmp_path / 'run'}", "--seed=1"]
    assert task_main(SpoiledStories, ["train", *flags]) == 1
    capsys.readouterr()
    assert task_main(SpoiledStories, ["debug", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "  part 0 of the batch: finite" in printed
    assert "  part 1 of the batch: finite" in printed
    assert ", as when the run stopped" in printed
    place = r"forward pass, part [01] of the batch, sequence 0 of 0 to 1\b.* of 0 to 5"
    assert re.search(rf"{place}\n  log gives nan", printed)  # the longer ones have 6 steps


@pytest.fixture
def debug_changed(monkeypatch, capsys):
    """A function (run, changes) -> what `debug` prints about a case that is not as it was saved."""

    def run(run_dir, **changes):
        load = debugging._load_case

        def changed(*place):
            case = load(*place)
            new = {name: change(getattr(case, name)) for name, change in changes.items()}
            return case._replace(**new)

        monkeypatch.setattr(debugging, "_load_case", changed)
        return debug(run_dir, capsys)

    return run


@pytest.mark.second_step
def test_a_line_of_dncx_and_its_time_step(tmp_path, debug_changed):
    """The keys of this DNC, and the words that it writes, have the size 1e30."""

    def spoil(state):
        linear = state.params["access"]["interface_linear"]
        linear = linear | {"bias": jnp.full_like(linear["bias"], 1e30)}
        access = state.params["access"] | {"interface_linear": linear}
        return state._replace(params=state.params | {"access": access})

    huge = ["--learning_rate=1e30", "--max_grad_norm=1e30"]
    assert train(tmp_path / "run", *huge) == 1
    printed = debug_changed(tmp_path / "run", state=spoil)
    assert "at most 1e+30 (in access.interface_linear.bias)" in printed
    assert "forward pass, sequence 0 of 0 to 3, time step 0 of 0 to 8\n  div gives nan" in printed
    assert "dncx/addressing.py:" in printed
    assert "in _most_similar\n" in printed


def test_parameters_that_were_bad_before(stopped, debug_changed):
    def spoil(state):
        bias = state.params["output_linear"]["bias"].at[0].set(jnp.nan)
        output = state.params["output_linear"] | {"bias": bias}
        return state._replace(params=state.params | {"output_linear": output})

    printed = debug_changed(stopped, state=spoil)
    assert "parameters: NOT finite: 1 of 4 arrays, such as output_linear.bias\n" in printed
    assert "non-finite before this update" in printed


@pytest.mark.second_step
def test_other_numbers_than_those_seen(stopped, debug_changed):
    printed = debug_changed(stopped, seen=lambda seen: dataclasses.replace(seen, loss=3.25))
    assert "NOT as when the run stopped" in printed


@pytest.mark.second_step
def test_an_implementation_at_fault(stopped, monkeypatch, capsys):
    """The network of the run gives NaN; the plain implementation does not."""
    compute = step.loss_and_gradient

    def broken(*arguments):
        loss, gradient = compute(*arguments)
        return loss * jnp.nan, gradient

    monkeypatch.setattr(step, "loss_and_gradient", broken)
    assert "--implementation=plain, and please report it" in debug(stopped, capsys)


def test_all_is_finite_now(stopped, debug_changed):
    def still(gradient, state, params):
        return jax.tree.map(jnp.zeros_like, gradient), state

    def with_still(update):
        init = update.optimizer.init
        return update._replace(optimizer=optax.GradientTransformation(init, still))

    assert "All numbers are finite" in debug_changed(stopped, update=with_still)


# What it cannot do


def test_errors(stopped, tmp_path, monkeypatch, capsys):
    def error(run_dir):
        assert main(["debug", str(run_dir)]) == 2
        return capsys.readouterr().err

    assert f"no run {tmp_path / 'none'}" in error(tmp_path / "none")
    assert f"name one: {stopped}" in error(stopped.parent)
    (tmp_path / "fine").mkdir()
    assert "not a run directory: it has no config.json" in error(tmp_path / "fine")
    shutil.copy(stopped / "config.json", tmp_path / "fine")
    assert f"no {tmp_path / 'fine' / 'failure'}" in error(tmp_path / "fine")
    monkeypatch.delitem(TASKS, "spoiled")
    assert "spoiled" in error(stopped)
    corrupt = shutil.copytree(stopped, tmp_path / "corrupt")
    (corrupt / "failure" / "0" / "manifest").write_bytes(b"{}")
    assert "checksum" in error(corrupt)
