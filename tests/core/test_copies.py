"""Public objects survive pickle, copies and other processes, and are what they were."""

import copy
import multiprocessing
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, LSTM, DeepLSTM, DNCConfig, FeedForward, MemoryAccess, unroll_with_trace
from dncx.addressing import Freeness, NoLinkage, TemporalLinkage
from dncx.networks.build import Embedded
from dncx.networks.lstm import LSTMNetwork
from dncx.networks.ntm import neural_turing_machine

SIZES = {"memory_size": 3, "word_size": 2, "num_read_heads": 1, "hidden_size": 4}
CONFIGS = {
    "deepmind": DNCConfig(**SIZES),
    "nature": DNCConfig.nature(**SIZES, num_layers=2),
    "feedforward": DNCConfig(**SIZES, controller="feedforward"),
    "bfloat16": DNCConfig(**SIZES, controller_dtype="bfloat16"),
    "no links": DNCConfig(**SIZES, linkage="none"),
    "bfloat16, nature": DNCConfig.nature(**SIZES, controller_dtype="bfloat16"),
}
NETWORKS = (DNC, LSTMNetwork, neural_turing_machine)
MODULES = {
    f"{make.__name__}, {name}": lambda make=make, config=config: make(
        3, 2, config, rngs=nnx.Rngs(0)
    )
    for make in NETWORKS
    for name, config in CONFIGS.items()
}
MODULES |= {
    "low LSTM": lambda: LSTM(3, 2, dtype="bfloat16", rngs=nnx.Rngs(0)),
    "low DeepLSTM": lambda: DeepLSTM(3, 2, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
    "low FeedForward": lambda: FeedForward(3, 2, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
    "MemoryAccess": lambda: MemoryAccess(3, rngs=nnx.Rngs(0)),
    "Freeness": lambda: Freeness(3),
    "TemporalLinkage": lambda: TemporalLinkage(3),
    "NoLinkage": NoLinkage,
    "Embedded": lambda: Embedded(5, 3, MODULES["DNC, bfloat16"](), nnx.Rngs(0)),
}
WAYS = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODULES)
def test_modules(name, way):
    """The same parts, settings and weights; made alike, they compare equal as well."""
    module = MODULES[name]()
    again = WAYS[way](module)
    graph, params = nnx.split(module)
    found_graph, found = nnx.split(again)
    assert found_graph == graph == nnx.graphdef(MODULES[name]())
    assert hash(found_graph) == hash(graph)
    assert_same(nnx.to_pure_dict(found), nnx.to_pure_dict(params))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name, way):
    assert WAYS[way](CONFIGS[name]) == CONFIGS[name]


@pytest.mark.parametrize("way", WAYS)
def test_states_and_traces(way):
    cell = MODULES["DNC, nature"]()
    found = jax.jit(unroll_with_trace)(cell, jnp.ones((2, 3)))
    assert_same(WAYS[way](found), found)


def step(cell, state, x):
    return cell(state, x)[1]


@pytest.mark.second_step
def test_another_process():
    """It gets a cell and a state, and gives back the same numbers."""
    cell = MODULES["DNC, bfloat16"]()
    state, x = cell.initialize_carry((3,)), jnp.ones(3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(step, (cell, state, x))
    np.testing.assert_allclose(found, step(cell, state, x), atol=1e-6)
