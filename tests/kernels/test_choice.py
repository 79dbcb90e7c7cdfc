"""Which form computes a cell, and the reason that people are told."""

import logging
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dncx
from dncx import (
    DNC,
    LSTM,
    ContentAddressing,
    DeepLSTM,
    DNCConfig,
    Freeness,
    MaskedContentAddressing,
    MemoryAccess,
    NoLinkage,
    TemporalLinkage,
    unroll,
)
from dncx.controllers import LSTMNorms
from dncx.kernels import choice, library
from dncx.kernels.choice import select, select_for_access
from dncx.networks.build import Embedded
from dncx.normalization import LayerNorm

SIZES = {"memory_size": 3, "word_size": 2, "num_read_heads": 1, "hidden_size": 4}
CONFIG = DNCConfig(**SIZES)


def rngs():
    return nnx.Rngs(0)


def make(config=CONFIG, **options):
    return DNC(3, 2, config, rngs=rngs(), **options)


def with_parts(**parts):
    return make(access=CONFIG.make_access(**parts, rngs=rngs()))


def replaced(cell, **fields):
    """A cell whose layer of gates has other fields."""
    for name, value in fields.items():
        setattr(cell.controller.gates, name, value)
    return cell


class SameLinkage(TemporalLinkage):
    """Changes no equation."""

    def __init__(self, memory_size, note):
        super().__init__(memory_size)
        self.note = note

    def describe(self):
        return self.note


class SameLSTM(LSTM):
    pass


class SameAccess(MemoryAccess):
    pass


class SameDNC(DNC):
    pass


class OtherLinkage(TemporalLinkage):
    def __call__(self, state, write_weights, read_weights):
        state, forward, backward = super().__call__(state, write_weights, read_weights)
        return state, 0.5 * forward, backward


class OtherContent(ContentAddressing):
    def __call__(self, memory, keys, strengths, masks=None):
        return super().__call__(memory, keys, 0.5 * strengths, masks)


class OtherMasks(MaskedContentAddressing):
    def __call__(self, memory, keys, strengths, masks):
        return super().__call__(memory, keys, strengths, 1 - masks)


class FlatContent:
    mask_size = 0

    def __call__(self, memory, keys, strengths, masks):
        return jnp.ones((len(keys), len(memory))) / len(memory)


class OtherNoLinkage(NoLinkage):
    def initial_state(self, dtype):
        return super().initial_state(dtype)


class OtherNorm(LayerNorm):
    def __call__(self, x, *, mask=None):
        return 0.5 * super().__call__(x)


class OtherNorms(LSTMNorms):
    def of_gates(self, *gates):
        return [0.5 * gate for gate in super().of_gates(*gates)]


class OtherFreeness(Freeness):
    def write_allocation_weights(self, usage, write_gates):
        return 0.5 * super().write_allocation_weights(usage, write_gates)


class Mixin:
    def initial_state(self, dtype):
        return super().initial_state(dtype)


class MixedFreeness(Mixin, Freeness):
    pass


class OtherLSTM(LSTM):
    def __call__(self, carry, inputs):
        carry, outputs = super().__call__(carry, inputs)
        return carry, 0.5 * outputs


class OtherAccess(MemoryAccess):
    def interface(self, controller_output):
        return super().interface(0.5 * controller_output)


class OtherDNC(DNC):
    def clip(self, x):
        return 0.5 * super().clip(x)


FEATURES = 3 + 2  # of the controller's inputs
# A cell; its form here, on a CPU with a compiler; and words of the reason.
FORMS = {
    "default": (make, "native sequence", ""),
    "float32": (
        lambda: make(DNCConfig(**SIZES, controller_dtype="float32")), "native sequence", ""),
    "nature": (lambda: make(DNCConfig.nature(**SIZES, num_layers=2)), "native sequence", ""),
    "same linkage": (lambda: with_parts(linkage=SameLinkage(3, "mine")), "native sequence", ""),
    "no links": (lambda: make(DNCConfig(**SIZES, linkage="none")), "native sequence", ""),
    "no links as a part": (lambda: with_parts(linkage=NoLinkage()), "native sequence", ""),
    "no links, two write heads": (
        lambda: make(DNCConfig(**SIZES, num_write_heads=2, linkage="none")), "xla", "write head"),
    "no links, feedforward": (
        lambda: make(DNCConfig(**SIZES, controller="feedforward", linkage="none")), "native step",
        "FeedForward"),
    "other linkage without links": (
        lambda: with_parts(linkage=OtherNoLinkage()), "xla",
        "OtherNoLinkage overrides initial_state"),
    "same controller": (
        lambda: make(controller=SameLSTM(FEATURES, 4, rngs=rngs())), "native sequence", ""),
    "same access": (
        lambda: make(access=SameAccess(4, **ACCESS, rngs=rngs())), "native sequence", ""),
    "same cell": (lambda: SameDNC(3, 2, CONFIG, rngs=rngs()), "native sequence", ""),
    "plain": (lambda: make(implementation="plain"), "plain", "implementation='plain'"),
    "xla": (lambda: make(implementation="xla"), "xla", "implementation='xla'"),
    "two write heads": (lambda: make(DNCConfig(**SIZES, num_write_heads=2)), "xla", "write head"),
    "many read heads": (
        lambda: make(DNCConfig(**SIZES | {"num_read_heads": 17})), "xla", "16 read heads"),
    "bfloat16": (lambda: make(param_dtype=jnp.bfloat16), "xla", "not in bfloat16"),
    "low controller": (
        lambda: make(DNCConfig(**SIZES, controller_dtype="bfloat16")), "native step", "bfloat16"),
    "feedforward": (
        lambda: make(DNCConfig(**SIZES, controller="feedforward")), "native step", "FeedForward"),
    "flax controller": (
        lambda: make(controller=nnx.GRUCell(FEATURES, 4, rngs=rngs())), "native step", "GRUCell"),
    "other linkage": (
        lambda: with_parts(linkage=OtherLinkage(3)), "xla", "OtherLinkage overrides __call__"),
    "other content": (
        lambda: with_parts(content=OtherContent()), "xla", "OtherContent overrides __call__"),
    "flat content": (lambda: with_parts(content=FlatContent()), "xla", "FlatContent"),
    "masked content": (
        lambda: make(DNCConfig(**SIZES, content_mask=True)), "native sequence", ""),
    "other masks": (
        lambda: with_parts(content=OtherMasks(SIZES["word_size"])), "xla",
        "OtherMasks overrides __call__"),
    "wiping": (lambda: make(DNCConfig(**SIZES, wipe_freed=True)), "native sequence", ""),
    "sharpened links": (
        lambda: make(DNCConfig(**SIZES, sharpen_links=True)), "native sequence", ""),
    "norm of the interface": (
        lambda: make(DNCConfig(**SIZES, interface_norm=True)), "native sequence", ""),
    "other norm of the interface": (lambda: with_norm(OtherNorm), "native step", "OtherNorm"),
    "flax norm of the interface": (lambda: with_norm(nnx.LayerNorm), "native step", "LayerNorm"),
    "norm in the controller": (
        lambda: make(DNCConfig(**SIZES, controller_norm=True)), "native sequence", ""),
    "other norm in the controller": (
        lambda: with_norm_of_cell(OtherNorm(4, rngs=rngs(), param_dtype=jnp.float32)),
        "native step", "OtherNorm"),
    "other norms of a layer": (
        lambda: with_norms(OtherNorms(4, rngs=rngs(), param_dtype=jnp.float32)),
        "native step", "OtherNorms overrides of_gates"),
    "a bias before the norms": (
        lambda: with_norms(None, use_bias=True), "native step", "has a bias before it"),
    "norms with two epsilons": (
        lambda: with_norm_of_cell(norm_with_epsilon(1e-3)), "native step", "differ in epsilon"),
    "other freeness": (
        lambda: with_parts(freeness=OtherFreeness(3)), "xla",
        "OtherFreeness overrides write_allocation_weights"),
    "mixed freeness": (
        lambda: with_parts(freeness=MixedFreeness(3)), "xla", "MixedFreeness overrides initial"),
    "other controller": (
        lambda: make(controller=OtherLSTM(FEATURES, 4, rngs=rngs())), "native step",
        "OtherLSTM overrides __call__"),
    "other access": (
        lambda: make(access=OtherAccess(4, **ACCESS, rngs=rngs())), "native step",
        "OtherAccess overrides interface"),
    "other cell": (
        lambda: OtherDNC(3, 2, CONFIG, rngs=rngs()), "native step", "OtherDNC overrides clip"),
    "low-rank layer": (lambda: replaced_gates(make()), "native step", "LoRALinear"),
    "other product": (
        lambda: replaced(make(), dot_general=lambda *a, **k: jax.lax.dot_general(*a, **k)),
        "native step", "controller"),
    "rounded layer": (lambda: replaced(make(), dtype=jnp.bfloat16), "native step", "bfloat16"),
    "layers that differ": (lambda: with_other_bias(), "native step", "differ"),
}  # fmt: skip
ACCESS = {name: SIZES[name] for name in ("memory_size", "word_size", "num_read_heads")}


def replaced_gates(cell):
    gates = cell.controller.gates
    cell.controller.gates = nnx.LoRALinear(
        gates.in_features, gates.out_features, lora_rank=2, rngs=rngs()
    )
    return cell


def norm_with_epsilon(epsilon):
    norm = LayerNorm(4, rngs=rngs(), param_dtype=jnp.float32)
    norm.epsilon = epsilon
    return norm


def with_norms(norms, use_bias=False):
    cell = make(DNCConfig(**SIZES, controller_norm=True))
    layer = cell.controller
    layer.norms = norms or layer.norms
    if use_bias:
        gates = layer.gates
        layer.gates = nnx.Linear(gates.in_features, gates.out_features, rngs=rngs())
    return cell


def with_norm_of_cell(norm):
    cell = make(DNCConfig(**SIZES, controller_norm=True))
    cell.controller.norms.cell = norm
    return cell


def with_norm(kind):
    cell = make(DNCConfig(**SIZES, interface_norm=True))
    features = cell.access.interface_linear.out_features
    cell.access.interface_norm = kind(features, rngs=rngs(), param_dtype=jnp.float32)
    return cell


def with_other_bias():
    controller = DeepLSTM(FEATURES, 4, 2, rngs=rngs())
    controller.layers[1].forget_bias = 0.5
    return make(controller=controller)


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    """And what the form computes is what the equations say."""
    cell, form, words = FORMS[name]
    cell = cell()
    found = dncx.explain(cell)
    assert found.name == form
    assert words in found.reason
    assert bool(found.reason) == (form != "native sequence")
    assert found.reason in str(found)


@pytest.mark.parametrize(
    "name",
    [
        "same linkage",
        "same controller",
        "other linkage",
        "other content",
        "other linkage without links",
        "other cell",
        "low-rank layer",
    ],
)
def test_a_form_computes_the_cell_that_it_was_chosen_for(name):
    cell, inputs = FORMS[name][0](), jax.random.normal(jax.random.key(0), (2, 3, 3))
    found, _ = jax.jit(unroll)(cell, inputs)
    cell.access.implementation = "plain"
    expected, _ = jax.jit(unroll)(cell, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_cells_and_networks():
    assert select(nnx.LSTMCell(3, 2, rngs=rngs())).name == "plain"
    assert dncx.explain(Embedded(7, 3, make(), rngs())) == dncx.explain(make())

    class Blackboard(nnx.Module):
        num_read_heads, word_size = 1, 2

        def initial_state(self, dtype):
            return jnp.zeros(2, dtype)

        def __call__(self, state, controller_output):
            return controller_output[:2], state[None]

    form = dncx.explain(make(access=Blackboard()))
    assert form.name == "xla"
    assert "Blackboard" in form.reason


def test_an_access_alone():
    access = MemoryAccess(4, **ACCESS, rngs=rngs())
    assert select_for_access(access, jnp.float32) == ("native step", "")
    assert select_for_access(access, jnp.bfloat16).name == "xla"


def test_no_native_kernel_here(monkeypatch):
    monkeypatch.setattr(library, "load", lambda dtype, heads: "there is no compiler")
    assert select(make()) == ("xla", "there is no compiler")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "not on gpu" in select(make()).reason


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two write heads", "1 write head, not 2"),
        ("other linkage", "overrides"),
        ("other masks", "OtherMasks overrides"),
    ],
)
def test_native_where_it_cannot_be(name, words):
    cell = FORMS[name][0]()
    cell.access.implementation = "native"
    with pytest.raises(ValueError, match=words):
        unroll(cell, jnp.ones((3, 3)))


@pytest.mark.parametrize("implementation", ["fast", "", 1, ["xla"]])
def test_unknown_implementations(implementation):
    access = types.SimpleNamespace(implementation=implementation)
    monkey = type("Access", (MemoryAccess,), {"__init__": lambda self: None})()
    monkey.implementation = access.implementation
    with pytest.raises(ValueError, match="must be None or one of"):
        select_for_access(monkey, jnp.float32)


def test_whoever_overrides_an_equation_is_told_once(caplog):
    choice._tell_once.cache_clear()
    with caplog.at_level(logging.WARNING, "dncx"):
        for _ in range(2):
            cell = with_parts(linkage=OtherLinkage(3))
            jax.eval_shape(unroll, cell, jnp.ones((3, 3)))
        make()
        with_parts(linkage=SameLinkage(3, "mine"))
        make(controller=nnx.GRUCell(FEATURES, 4, rngs=rngs()))
    assert len(caplog.records) == 1
    assert "OtherLinkage overrides __call__" in caplog.text


def test_the_kernel_is_compiled_when_a_cell_is_made(monkeypatch):
    """Not when JAX first traces it, and not for a cell that is only looked at."""
    loads = []
    monkeypatch.setattr(library, "load", lambda *which: loads.append(which))
    nnx.eval_shape(make)
    assert loads == []
    make()
    assert set(loads) == {("float32", 1)}
