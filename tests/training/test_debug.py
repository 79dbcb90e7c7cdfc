"""`dncx debug`: the operation that went wrong first, with its line, its time step and sequences."""

import dataclasses
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
from dncx.runs import checkpoints
from dncx.runs.integrity import SEAL, seal
from dncx.runs.state import initial_state
from dncx.tasks.registry import TASKS
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training import update as step

SIZES = ["--hidden_size=8", "--memory_size=6", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=4", "--max_skipped_updates=2", "--min_length=2", "--max_length=2"]


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
    return find_origin(lambda cell: loss(unroll(cell, inputs)[0]), graph, params, **how)


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
    if name == "while" and gradient:
        pytest.skip("has no gradient")
    origin = origin_of(function, *NUMBERS, gradient=gradient)
    assert (origin.operation, origin.kind, origin.step) == (operation, "NaN", 3)
    assert __file__ in origin.place
    assert code in origin.place


BACKWARD = {
    "the root of 0": (lambda w, x: jnp.sqrt(w * jnp.maximum(x, 0.0)), "jnp.sqrt(w *"),
    "a where around the result": (
        lambda w, x: jnp.where(x > 0, jnp.log(w * x * (x > 0)), 0.0),
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
    assert (origin.kind, origin.step) == ("infinity", 1)
    origin = origin_of(
        lambda w, x: w * x, 50.0, 50.0, loss=lambda y: jnp.exp(y).sum(), infinite=True
    )
    assert (origin.operation, origin.kind, origin.step) == ("exp", "infinity", None)
    root = origin_of(
        lambda w, x: w * x,
        1.0,
        -1.0,
        loss=lambda y: jnp.sqrt(y).sum(),
        gradient=True,
        infinite=True,
    )
    assert (root.kind, root.step) == ("infinity", None)
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
        if self.fault != self.INPUTS:
            return episode
        return episode._replace(inputs=episode.inputs.at[2, 5].set(jnp.inf))

    def loss(self, outputs, episode):
        if self.fault == self.FORWARD:
            return jnp.log(outputs - 30).mean()
        if self.fault == self.BACKWARD:
            where = jnp.zeros_like(outputs).at[1, 4].set(1)
            return jnp.sqrt((1 - where) * outputs**2).mean()
        if self.fault == self.LARGE:
            return (outputs * 1e32).sum()
        return super().loss(outputs, episode)


def train(run_dir, *more):
    arguments = ["train", *TRAIN, f"--run_dir={run_dir}", *more]
    return task_main(Spoiled, [*arguments, "--num_training_iterations=4"])


@pytest.fixture
def fail(tmp_path, capsys):
    """A function (flags) -> what `debug` says of the run that they make stop; of an LSTM, as it is
    compiled sooner."""

    def stop(*flags):
        assert train(tmp_path / "run", "--model=lstm", *flags) == 1
        capsys.readouterr()
        assert task_main(Spoiled, ["debug", str(tmp_path / "run")]) == 0
        return capsys.readouterr().out

    return stop


def test_a_run_that_stopped_in_its_loss(fail, tmp_path):
    said = fail(f"--fault={Spoiled.FORWARD}")
    assert f"{tmp_path / 'run' / 'failure' / '0'}: the update of iteration 1 (seed 0)" in said
    assert "  loss nan, the same numbers as when the run stopped" in said
    assert "forward pass\n  log, at " in said
    assert "test_debug.py" in said
    assert "return jnp.log(outputs - 30).mean()" in said
    assert "in all 4 sequences, in all 9 time steps" in said
    assert said.rpartition("\n\n")[2].startswith("Try: to keep what this line takes")


def test_a_run_that_stopped_in_its_gradient(fail):
    said = fail(f"--fault={Spoiled.BACKWARD}")
    assert "  norms of gradients: " in said
    assert "backward pass, in a factor of it" in said
    assert "return jnp.sqrt((1 - where) * outputs**2).mean()" in said
    assert "in sequence 1 of 0 to 3, in time step 4 of 0 to 8" in said
    assert "NaN is made of that" in said


def test_a_batch_that_is_not_finite(fail):
    said = fail(f"--fault={Spoiled.INPUTS}")
    assert "NOT finite: inputs (6 infinite of 216, else 0 to 1)" in said
    assert "batch.inputs is not finite before any, in sequence 2 of 0 to 3, in time step 5" in said


def test_gradients_whose_norm_is_too_large(fail):
    said = fail(f"--fault={Spoiled.LARGE}")
    assert "The gradients are finite, but their squares, of which a norm is made, are not" in said
    assert "output_linear.bias [5]" in said


def test_an_update_of_the_optimiser(fail):
    said = fail("--learning_rate=1e30", "--max_grad_norm=1e30")
    assert "The parameters after the update are finite, but their squares" in said
    assert "  output_linear.bias [5]\n    updated: -" in said
    assert "mean square: 0.9" in said
    assert "a smaller --learning_rate than 1e+30" in said


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "stopped"
    assert train(run_dir, "--model=lstm", "--learning_rate=1e30", "--max_grad_norm=1e30") == 1
    return run_dir


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"truncation": None}, "is broken: its training.truncation is not of the kind that it"),
        ({"batch_size": "16"}, "is broken: its training.batch_size is not of the kind that it"),
        ({"batch_size": 0}, "dncx: error: batch_size=0: must lie in 1..2147483647"),
    ],
)
def test_a_failure_with_other_settings(changed, message, stopped, tmp_path, capsys):
    run_dir = shutil.copytree(stopped, tmp_path / "run")
    found, _ = checkpoints.newest_whole(run_dir.resolve() / "failure")
    (found.path / SEAL).unlink()
    found.config["training"].update(changed)
    seal(found)
    assert task_main(Spoiled, ["debug", str(run_dir)]) == 2
    assert message in capsys.readouterr().err


def test_a_failure_that_lacks_a_setting(stopped, tmp_path, capsys):
    run_dir = shutil.copytree(stopped, tmp_path / "run")
    found, _ = checkpoints.newest_whole(run_dir.resolve() / "failure")
    (found.path / SEAL).unlink()
    del found.config["training"]["truncation"]
    seal(found)
    assert task_main(Spoiled, ["debug", str(run_dir)]) == 2
    message = f"dncx: error: with the settings in {found.path}: KeyError: 'truncation'\n"
    assert capsys.readouterr().err == message


def test_a_population(tmp_path, capsys):
    """Each seed has its own failure, with the batches of its own."""
    huge = ["--model=lstm", "--learning_rate=1e30", "--max_grad_norm=1e30"]
    assert train(tmp_path / "run", *huge, "--num_seeds=2") == 1
    said = capsys.readouterr().err
    assert f"your_task.py debug {tmp_path / 'run' / 'seed-0'}` looks for" in said
    assert "so it is with all 2 seeds" in said
    assert main(["runs", str(tmp_path / "run"), "--json"]) == 0
    assert '"state": "failed"' in capsys.readouterr().out
    assert task_main(Spoiled, ["debug", str(tmp_path / "run" / "seed-1")]) == 0
    said = capsys.readouterr().out
    assert "(seed 1), made again" in said
    assert "the same numbers as when the run stopped" in said
    assert task_main(Spoiled, ["debug", str(tmp_path / "run")]) == 2
    assert f"name one, such as {tmp_path / 'run' / 'seed-0'}" in capsys.readouterr().err


def loaded(run_dir, monkeypatch, **changes):
    """`debug` for a case that is not quite the one that was saved."""
    load = debugging.load_case
    monkeypatch.setattr(debugging, "load_case", lambda path: change(load(path)))

    def change(case):
        return case._replace(**{name: new(getattr(case, name)) for name, new in changes.items()})

    assert task_main(Spoiled, ["debug", str(run_dir)]) == 0


@pytest.mark.slow
def test_a_line_of_dncx_and_its_time_step(tmp_path, monkeypatch, capsys):
    """Of a DNC: its keys and words are of 1e30, and with no fault of its own the loss is NaN."""

    def spoil(state):
        linear = state.params["access"]["interface_linear"]
        linear = linear | {"bias": jnp.full_like(linear["bias"], 1e30)}
        access = state.params["access"] | {"interface_linear": linear}
        return state._replace(params=state.params | {"access": access})

    huge = ["--learning_rate=1e30", "--max_grad_norm=1e30"]
    assert train(tmp_path / "run", *huge, "--implementation=plain") == 1
    case = cases.load_case(tmp_path / "run")
    assert case.recipe.graph == case.plain
    loaded(tmp_path / "run", monkeypatch, state=spoil)
    said = capsys.readouterr().out
    assert "forward pass, time step 0 of 0 to 8\n  dot_general, at dncx/addressing.py:" in said
    assert "in content_weights\n      dots = keys @ memory.T\n    takes [4, 2, 4] float32" in said
    assert "in all 4 sequences" in said
    assert "NaN is made of that, time step 0 of 0 to 8\n  div, at dncx/addressing.py:" in said
    assert "Try: a smaller --learning_rate or --max_grad_norm, as the numbers had grown" in said


def test_parameters_that_were_bad_before(stopped, monkeypatch, capsys):
    def spoil(state):
        bias = state.params["output_linear"]["bias"].at[0].set(jnp.nan)
        output = state.params["output_linear"] | {"bias": bias}
        return state._replace(params=state.params | {"output_linear": output})

    loaded(stopped, monkeypatch, state=spoil)
    said = capsys.readouterr().out
    assert "The parameters were not finite before this update: output_linear.bias." in said


def test_other_numbers_than_those_seen(stopped, monkeypatch, capsys):
    loaded(stopped, monkeypatch, seen=lambda seen: seen | {"loss": 3.25})
    assert "NOT as when the run stopped: loss 3.25" in capsys.readouterr().out


def test_a_form_that_is_at_fault(stopped, monkeypatch, capsys):
    """The network of the run gives NaN; the equations do not."""
    compute = step.loss_and_gradient

    def broken(*arguments):
        loss, gradient = compute(*arguments)
        return loss * jnp.nan, gradient

    monkeypatch.setattr(step, "loss_and_gradient", broken)
    assert task_main(Spoiled, ["debug", str(stopped)]) == 0
    assert "the form that trained it rounds otherwise, or is at fault" in capsys.readouterr().out


def test_the_batch_of_a_task_in_buckets():
    """It is drawn as in training."""

    class Buckets(RepeatCopy):
        buckets = (RepeatCopy(max_length=1), RepeatCopy(min_length=2, max_length=2))
        shares = (0.5, 0.5)
        sample = None  # pyright: ignore

    def shape(state, recipe, source, episode, key):
        return jnp.int32(episode.inputs.shape[1])

    drawn = step._on_batch(Buckets(), step.Recipe(None, None, batch_size=2), shape)
    fresh = initial_state({"w": jnp.zeros(1)}, optax.sgd(0.1))
    task, lengths = Buckets(), []
    for iteration in range(8):
        state = fresh._replace(iteration=jnp.int32(iteration))
        key = jax.random.fold_in(jax.random.key(5), iteration)
        lengths.append(cases._source(task, key).sample(key, 2).inputs.shape[1])
        assert lengths[-1] == drawn(state, jax.random.key(5), task.buckets)
    assert len(set(lengths)) == 2


def test_all_is_finite_now(stopped, monkeypatch, capsys):
    def still(gradient, state, params):
        return jax.tree.map(jnp.zeros_like, gradient), state

    def with_still(recipe):
        init = recipe.optimizer.init
        return recipe._replace(optimizer=optax.GradientTransformation(init, still))

    loaded(stopped, monkeypatch, recipe=with_still)
    assert "All is finite now" in capsys.readouterr().out


# What it cannot do


def test_errors(stopped, tmp_path, monkeypatch, capsys):
    def error(run_dir):
        assert main(["debug", str(run_dir)]) == 2
        return capsys.readouterr().err

    assert f"there is no run {tmp_path / 'none'}" in error(tmp_path / "none")
    (tmp_path / "fine").mkdir()
    assert "has no failure/, which training leaves" in error(tmp_path / "fine")
    monkeypatch.delitem(TASKS, "spoiled")
    assert "is of the task spoiled, which dncx does not know" in error(stopped)
    broken = shutil.copytree(stopped, tmp_path / "broken")
    (broken / "failure" / "0" / "seal").write_bytes(b"{}")
    said = error(broken)
    assert f"nothing in {broken / 'failure'} is whole" in said
    assert "  0: its seal is not as it was written (checksum)" in said
