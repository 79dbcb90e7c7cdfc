"""examples/from_pytorch_dnc.py computes what pytorch-dnc does; the numbers are of dnc 1.1.0."""

import runpy

import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT

from dncx import unroll

SIZES = {"nr_cells": 6, "cell_size": 4}


@pytest.fixture(scope="module")
def from_state_dict():
    return runpy.run_path(str(ROOT / "examples" / "from_pytorch_dnc.py"))["from_state_dict"]


@pytest.fixture(scope="module")
def model(golden):
    """The arrays of a model by its name."""
    return lambda name: golden("pytorch_dnc").under(f"{name}/")


def weights(arrays):
    return {k.removeprefix("weight/"): v for k, v in arrays.items() if k.startswith("weight/")}


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", ["default", "independent"])
def test_the_outputs_are_the_same(name, stepped, model, from_state_dict):
    arrays = model(name)
    cell = from_state_dict(weights(arrays), **SIZES, stepped=stepped)
    outputs, _ = unroll(cell, jnp.asarray(arrays["inputs"]))
    same, other = ("stepped", "whole") if stepped else ("whole", "stepped")
    np.testing.assert_allclose(outputs, arrays[same], atol=2e-6)
    assert np.abs(outputs - arrays[other]).max() > 0.01


REFUSED = {
    "a missing weight": (lambda w: w.pop("output.bias"), SIZES, "output.bias"),
    "another weight": (lambda w: w.update(more=np.ones(2)), SIZES, "more"),
    "two layers": (
        lambda w: w.update({"lstm_layer_1.weight_ih_l0": w["lstm_layer_0.weight_ih_l0"]}),
        SIZES,
        "num_layers=1",
    ),
    "a GRU": (
        lambda w: w.update({n.replace("lstm", "gru"): w.pop(n) for n in [*w] if "lstm" in n}),
        SIZES,
        "gru_layer_0.weight_ih_l0",
    ),
    "nothing": (lambda w: w.clear(), SIZES, "output.weight"),
    "another cell_size": (lambda w: None, SIZES | {"cell_size": 3}, "cell_size=3"),
    "a divisor": (lambda w: None, SIZES | {"cell_size": 2}, "cell_size=2"),
}


@pytest.mark.parametrize(("change", "sizes", "named"), REFUSED.values(), ids=REFUSED)
def test_other_models_are_refused(change, sizes, named, model, from_state_dict):
    arrays = weights(model("default"))
    change(arrays)
    with pytest.raises(ValueError) as raised:
        from_state_dict(arrays, **sizes)
    assert named in str(raised.value)
