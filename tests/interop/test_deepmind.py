"""The variables of google-deepmind/dnc, as TensorFlow lists them: what is read, what is named."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.interop.deepmind import from_variables, to_variables

SMALL = DNCConfig(memory_size=5, word_size=3, num_read_heads=2, hidden_size=6)
SIZES = {
    "memory_size": 5,
    "word_size": 3,
    "num_read_heads": 2,
    "num_write_heads": 1,
    "clip_value": 20,
}
GATES, KEY = "dnc/lstm/w_gates", "dnc/memory_access/read_keys/w"


@pytest.fixture(scope="module")
def cell():
    return DNC(3, 2, SMALL, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def variables(cell):
    return to_variables(cell)


def renamed(variables, rename):
    return {rename(name): array for name, array in variables.items()}


def slots(variables, *suffixes, prefix=""):
    """What an optimiser keeps for every weight: arrays of the same shape, of other values."""
    return {
        f"{prefix}{name}/{suffix}": array + 7
        for name, array in variables.items()
        for suffix in suffixes
    }


COUNTERS = {"global_step": np.int64(100_000), "beta1_power": np.float32(0.9)}
AS_LISTED = {
    "bare": lambda v: v,
    "with :0": lambda v: renamed(v, "{}:0".format),
    "RMSProp": lambda v: v | slots(v, "RMSProp", "RMSProp_1") | {"global_step": np.int64(3)},
    "Momentum": lambda v: v | slots(v, "Momentum"),
    "Adam": lambda v: (
        v
        | slots(v, "Adam", "Adam_1")
        | {"beta1_power": np.float32(0.9), "beta2_power": np.float32(0.99), "beta1_power_1": 0.9}
    ),
    "averages": lambda v: v | slots(v, "ExponentialMovingAverage"),
    "an optimiser of another name": lambda v: v | slots(v, "train_op", "train_op_1"),
    "slots in a scope": lambda v: (
        v
        | slots(v, "RMSProp", prefix="train/")
        | {"train/global_step": np.int64(3), "train/learning_rate": np.float32(1e-4)}
    ),
    "a scope": lambda v: renamed(v, "agent/{}".format),
    "scopes": lambda v: renamed(v, "agent/core/{}:0".format),
    "another module": lambda v: renamed(v, lambda name: name.replace("dnc/", "memory_1/")),
    "no scope": lambda v: renamed(v, lambda name: name.removeprefix("dnc/")),
    "TensorFlow 2": lambda v: (
        renamed(v, "{}/.ATTRIBUTES/VARIABLE_VALUE".format)
        | {
            "_CHECKPOINTABLE_OBJECT_GRAPH": np.array(b"graph"),
            "save_counter/.ATTRIBUTES/VARIABLE_VALUE": np.int64(1),
        }
    ),
    "all of it": lambda v: renamed(
        v | slots(v, "RMSProp", "RMSProp_1") | COUNTERS, "agent/{}:0".format
    ),
}


@pytest.mark.parametrize("listed", AS_LISTED.values(), ids=AS_LISTED)
def test_variables_as_tensorflow_lists_them(cell, variables, listed):
    again = to_variables(from_variables(listed(variables), **SIZES))
    assert again.keys() == variables.keys()
    for name, array in variables.items():
        np.testing.assert_array_equal(again[name], array)


def test_the_cell_computes_the_same(cell, variables):
    inputs = jnp.ones((4, 3))
    again = from_variables(variables, **SIZES)
    np.testing.assert_array_equal(unroll(cell, inputs)[0], unroll(again, inputs)[0])


REFUSED = {
    "missing and unknown": (
        lambda v: {name if name != GATES else "other": array for name, array in v.items()},
        [GATES, "'other'"],
    ),
    "missing in a scope": (
        lambda v: {f"agent/{name}": array for name, array in v.items() if name != GATES},
        [f"'agent/{GATES}'", "unknown none"],
    ),
    "nothing": (lambda v: COUNTERS, [GATES, KEY]),
    "other weights": (
        lambda v: v | {"value_head/w": np.ones(3), "value_head/w/RMSProp": np.ones(3)},
        ["missing none", "'value_head/w'"],
    ),
    "two models": (
        lambda v: renamed(v, "policy/{}".format) | renamed(v, "value/{}".format),
        ["'policy/dnc'", "'value/dnc'"],
    ),
    "twice": (lambda v: v | {f"{KEY}:0": v[KEY]}, [KEY]),
    "another shape": (
        lambda v: v | {KEY: v[KEY][:, :4]},
        ["read_keys/w: (6, 4), must be (6, 6)"],
    ),
    "a transposed matrix": (
        lambda v: v | {KEY: np.ones((6, 7), np.float32).T},
        ["read_keys/w: (7, 6), must be (6, 6)"],
    ),
    "a number": (lambda v: v | {GATES: np.float32(1)}, ["lstm/w_gates has shape ()"]),
    "one of another dtype": (
        lambda v: v | {KEY: v[KEY].astype(np.float16)},
        ["float16: memory_access/read_keys/w", "and 20 more"],
    ),
    "float16": (
        lambda v: {name: array.astype(np.float16) for name, array in v.items()},
        ["float16: "],
    ),
    "integers": (lambda v: {name: array.astype(int) for name, array in v.items()}, ["int64: "]),
    "text": (lambda v: v | {KEY: np.array(["x"])}, ["<U1: memory_access/read_keys/w"]),
}


@pytest.mark.parametrize(("change", "named"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_named(variables, change, named):
    with pytest.raises(ValueError) as raised:
        from_variables(change(variables), **SIZES)
    for text in named:
        assert text in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"word_size": 2}, "read_keys/w: (6, 6), must be (6, 4)"),
        ({"num_write_heads": 2}, "write_keys/w: (6, 3), must be (6, 6)"),
        ({"num_read_heads": 9}, "w_gates has shape (15, 24)"),
    ],
)
def test_sizes_that_do_not_fit_are_named(variables, changes, named):
    with pytest.raises(ValueError) as raised:
        from_variables(variables, **(SIZES | changes))
    assert named in str(raised.value)


def test_float64_variables_need_float64(variables):
    with pytest.raises(ValueError, match="jax_enable_x64"):
        from_variables({k: v.astype(np.float64) for k, v in variables.items()}, **SIZES)


@pytest.mark.parametrize(
    "config",
    [
        DNCConfig(forget_bias=0.0),
        DNCConfig.nature(),
        DNCConfig(interface_norm=True),
        DNCConfig(controller_norm=True),
        DNCConfig(content_mask=True),
        DNCConfig(wipe_freed=True),
        DNCConfig(sharpen_links=True),
    ],
)
def test_a_cell_with_other_equations_has_no_variables_of_the_original(config):
    with pytest.raises(ValueError, match="original's parts"):
        to_variables(DNC(3, 2, config, rngs=nnx.Rngs(0)))


def test_the_page_prints_what_it_says(capsys):
    page = (Path(__file__).parents[2] / "docs" / "moving-models.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(code, {})
    assert capsys.readouterr().out == re.findall(r"# (\(.*\)\n)", code)[0]
