"""`dncx debug`: the operation that went wrong first, with its line, its time step and sequences."""

import dataclasses
import hashlib
import json
import linecache
import shutil
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dncx.cli.main import main, task_main
from dncx.debugging import cases
from dncx.debugging import command as debugging
from dncx.debugging.origins import INFINITE, NAN, earliest
from dncx.debugging.replay import replay
from dncx.runs.state import initial_state
from dncx.tasks.registry import TASKS
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training import update as step

SIZES = ["--hidden_size=8", "--memory_size=6", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=4", "--max_skipped_updates=2", "--min_length=2", "--max_length=2"]


def line_of(origin):
    """The code at an operation's place, which is in this file."""
    assert origin.place.file == __file__
    return linecache.getline(__file__, origin.place.line).strip()


def blamed(function, *arguments):
    """The origin of the result, or of the earliest of several."""
    named = {f"argument {n}": argument for n, argument in enumerate(arguments)}
    values = jax.tree.leaves(replay(function, named), is_leaf=lambda v: hasattr(v, "origin"))
    return earliest([value.origin for value in values if value.origin])


# The replay


def over_time(step):
    """A function (w, xs) -> the sum of what (w, x) gives, carried on by a scan."""

    def run(w, xs):
        return jax.lax.scan(lambda total, x: (total + step(w, x), total), w, xs)[0]

    return run


@jax.custom_vjp
def reciprocal(x):
    return jnp.exp(x)


def backwards(x, g):
    return (g / x,)


reciprocal.defvjp(lambda x: (jnp.exp(x), x), backwards)


@jax.jit
def doubled_log(x):
    return 2 * jnp.log(x)  # jit


def while_grows(x):
    return jax.lax.while_loop(
        lambda c: c[1] < 6,
        lambda c: (c[0] * 1e10, c[1] + 1),  # while
        (x, 0),
    )[0]


def in_cond(x):
    return jax.lax.cond(
        x < 0,
        lambda x: jnp.sqrt(x),  # cond
        lambda x: x,
        x,
    )


FORWARD = {
    "log": (lambda w, x: jnp.log(w * x), "log", "jnp.log(w * x)"),
    "exp": (lambda w, x: jnp.exp(-100 * w * x), "exp", "jnp.exp(-100"),
    "jit": (lambda w, x: doubled_log(w * x), "log", "# jit"),
    "cond": (lambda w, x: in_cond(w * x), "sqrt", "# cond"),
    "remat": (lambda w, x: jax.checkpoint(lambda y: jnp.log(y))(w * x), "log", "jax.checkpoint"),
}
XS = jnp.array([1.0, 2.0, 0.5, -3.0, 1.0, -1.0])


@pytest.mark.parametrize("name", FORWARD)
def test_the_forward_pass(name):
    """The first step with a negative number is 3."""
    step, operation, code = FORWARD[name]
    loss, gradient = replay(jax.value_and_grad(over_time(step)), {"w": jnp.float32(1), "xs": XS})
    origin = loss.origin
    assert (origin.operation, origin.steps[0].number, origin.steps[0].length) == (operation, 3, 6)
    assert code in line_of(origin)
    assert np.isfinite(np.asarray(origin.inputs[0])).all()
    assert loss.kind in (NAN, INFINITE)
    if gradient.origin:
        assert gradient.origin.root.steps[0].number == 3


def test_while_and_its_round():
    origin = blamed(lambda x: while_grows(x) - 1, jnp.float32(1))
    assert (origin.operation, origin.steps[0].number, origin.steps[0].length) == ("mul", 3, None)
    assert "# while" in line_of(origin)


def test_the_backward_pass_alone():
    """The slope of the root of 0; in the forward pass all is well."""
    function = over_time(lambda w, x: jnp.sqrt(w * jnp.maximum(x, 0.0)))
    loss, gradient = replay(jax.value_and_grad(function), {"w": jnp.float32(1), "xs": XS})
    assert loss.origin is None
    root = gradient.origin.root
    assert root.operation == "div"
    assert "jnp.sqrt(w" in line_of(root)
    assert root.steps[0].number == 3  # the slope is computed with the forward pass, in its order
    assert gradient.kind == NAN


def test_a_gradient_of_ones_own():
    """The function of a custom_vjp in the backward scan, at its time step."""
    function = over_time(lambda w, x: reciprocal(w * x))
    xs = jnp.array([1.0, 0.0, 2.0, 3.0])
    loss, gradient = replay(jax.value_and_grad(function), {"w": jnp.float32(1), "xs": xs})
    assert loss.origin is None
    root = gradient.origin.root
    assert (root.operation, root.steps[0].number, root.steps[0].reverse) == ("div", 1, True)
    assert "reciprocal(w * x)" in line_of(root)  # JAX knows no line of a backward pass itself
    # not differentiated, it is one operation with a program inside
    origin = blamed(lambda x: reciprocal(x) + 1, jnp.float32(1000))
    assert origin.operation == "exp"


def test_what_becomes_finite_again_is_not_blamed():
    """Infinities behind a `where`, of a maximum's start, of masked scores; then a real one."""

    def step(w, x):
        masked = jnp.where(x > 0, jnp.log(jnp.maximum(x, 0.0)), 0.0)  # -inf, not taken
        scores = jnp.where(jnp.arange(3) < 2, w * x, -jnp.inf)
        softmax = jax.nn.softmax(scores)[0]
        return jax.lax.stop_gradient(masked) + softmax + jnp.log(5 - w * x * x)  # the real one

    function = jax.value_and_grad(over_time(step))
    assert blamed(function, jnp.float32(1), jnp.array([1.0, 0.0, -2.0])) is None
    origin = blamed(function, jnp.float32(1), jnp.array([1.0, 0.0, -2.0, 3.0, 0.0]))
    assert (origin.operation, origin.steps[0].number) == ("log", 3)
    assert "the real one" in line_of(origin)


def test_a_masked_infinity_beside_a_real_one():
    """Only what alone makes the result so is blamed, not what came first."""

    def function(x):
        harmless = jnp.log(x - x)
        bad = jnp.log(x - 2)  # bad
        return jnp.where(x > 0, bad, harmless)

    assert "# bad" in line_of(blamed(function, jnp.float32(1)))


def test_infinities_that_become_nan():
    """A row of scores that are all masked: both are told, the -inf and what made NaN of it."""

    def function(x):
        scores = jnp.where(x > 0, x, -jnp.inf)  # root
        return scores - scores.max()  # later

    origin = blamed(function, jnp.zeros(4))
    assert "# later" in line_of(origin)
    assert "# root" in line_of(origin.root)


def test_a_line_of_jaxs_own_functions_is_the_callers():
    """JAX traces `jnp.where` once, and keeps the line of the first caller."""

    def function(x):
        first = jnp.linalg.norm(x + 1)
        return first + jnp.linalg.norm(x * 1e30)  # second

    origin = blamed(function, jnp.ones(3))
    assert "# second" in line_of(origin)


def test_an_argument():
    origin = blamed(lambda x: {"a": x["b"] * 2}, {"b": jnp.array([1.0, jnp.nan])})
    assert origin.operation == "argument 0['b']"
    assert origin.place is None


def test_finite_results_are_those_of_the_function():
    function = jax.value_and_grad(over_time(lambda w, x: jnp.sin(w * x) * in_cond(x * x)))
    values = replay(function, {"w": jnp.float32(0.7), "xs": XS})
    for value, expected in zip(values, function(jnp.float32(0.7), XS), strict=True):
        np.testing.assert_allclose(value.array, expected, rtol=1e-5)
        assert value.origin is None


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

    drawn = step._on_batch(Buckets(), step.UpdateConfig(None, None, batch_size=2), shape)
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
    (broken / "failure" / "0" / "manifest").write_bytes(b"{}")
    said = error(broken)
    assert f"nothing in {broken / 'failure'} is whole" in said
    assert "  0: its seal is not as it was written (checksum)" in said
