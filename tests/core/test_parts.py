"""Parts of one's own, settings, and models of the original."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from flax import nnx

from dncx import DNC, LSTM, DNCConfig, MemoryAccess, unroll
from dncx.addressing import ContentAddressing, Freeness, MaskedContentAddressing, NoLinkage
from dncx.config import check_size

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = DNCConfig(memory_size=5, word_size=3, num_read_heads=2, hidden_size=6)


@pytest.fixture(scope="module")
def own_parts():
    return runpy.run_path(str(EXAMPLES / "own_parts.py"))


def trains(cell):
    """A gradient step makes the loss smaller, and reaches every parameter."""
    graph, params = nnx.split(cell)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, cell.input_size))

    def loss(params):
        return jnp.mean((unroll(nnx.merge(graph, params), inputs)[0] - 1) ** 2)

    @jax.jit
    def step(params):
        value, gradient = jax.value_and_grad(loss)(params)
        after = loss(jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient))
        return value, after, gradient

    before, after, gradient = step(params)
    assert after < before
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_own_linkage(own_parts):
    rngs = nnx.Rngs(0)
    linkage = own_parts["FadingLinkage"](SMALL.memory_size, rngs=rngs)
    access = SMALL.make_access(linkage=linkage, rngs=rngs)
    cell = DNC(3, 2, SMALL, access=access, rngs=rngs)
    assert cell.access.linkage is linkage
    trains(cell)


def test_own_content_addressing(own_parts):
    """Also one for which the controller emits more numbers than a key and a strength."""
    rngs = nnx.Rngs(0)
    content = own_parts["DotProductContent"]()
    access = SMALL.make_access(content=content, rngs=rngs)
    assert access.interface_linear.kernel.shape[-1] == 2 * (3 + 1 + 1 + 3) + 3 * 3 + 3 + 2 + 1
    trains(DNC(3, 2, SMALL, access=access, rngs=rngs))


def test_own_controller(own_parts):
    rngs = nnx.Rngs(0)
    controller = own_parts["ResidualController"](3 + 2 * 3, 7, rngs=rngs)
    trains(DNC(3, 2, SMALL, controller=controller, rngs=rngs))


@pytest.mark.parametrize("kind", [nnx.LSTMCell, *later(nnx.GRUCell, nnx.SimpleCell)])
def test_flax_cells_are_controllers(kind):
    rngs = nnx.Rngs(0)
    trains(DNC(3, 2, SMALL, controller=kind(3 + 2 * 3, 7, rngs=rngs), rngs=rngs))


def test_own_freeness():
    class NeverFree(nnx.Module):
        """Slots fill up and are never freed."""

        def initial_state(self, dtype):
            return jnp.zeros(5, dtype)

        def __call__(self, usage, write_weights, free_gate, read_weights):
            return jnp.maximum(usage, write_weights.max(axis=0))

        def write_allocation_weights(self, usage, write_gates):
            return jax.nn.softmax(-usage)[None]

    rngs = nnx.Rngs(0)
    access = SMALL.make_access(freeness=NeverFree(), rngs=rngs)
    cell = DNC(3, 2, SMALL, access=access, rngs=rngs)
    outputs, state = unroll(cell, jnp.ones((4, 3)))
    assert np.isfinite(outputs).all()
    assert np.all(state.access_state.usage > 0)


def test_own_access():
    """An access needs no trace of its own, and one that overrides the step is used."""

    class Blackboard(nnx.Module):
        """Remembers the last output of the controller."""

        num_read_heads, word_size = 1, 6

        def initial_state(self, dtype):
            return jnp.zeros(6, dtype)

        def __call__(self, state, controller_output):
            return controller_output, state[None]

    trains(DNC(3, 2, SMALL, access=Blackboard(), rngs=nnx.Rngs(0)))

    class Deaf(MemoryAccess):
        def __call__(self, state, controller_output):
            state, words = super().__call__(state, controller_output)
            return state, 0 * words

    rngs = nnx.Rngs(0)
    access = Deaf(6, memory_size=5, word_size=3, num_read_heads=2, rngs=rngs)
    cell = DNC(3, 2, SMALL, access=access, rngs=rngs)
    assert not np.any(unroll(cell, jnp.ones((4, 3)))[1].access_output)


def test_a_controller_may_count():
    """Clipping leaves whole numbers in the controller's state alone."""

    class Counting(LSTM):
        def initialize_carry(self, input_shape, rngs=None, carry_init=None):
            return super().initialize_carry(input_shape), jnp.zeros(input_shape[:-1], jnp.int32)

        def __call__(self, carry, inputs):
            state, outputs = super().__call__(carry[0], inputs)
            return (state, carry[1] + 1), outputs

    rngs = nnx.Rngs(0)
    cell = DNC(3, 2, SMALL, controller=Counting(3 + 2 * 3, 6, rngs=rngs), rngs=rngs)
    _, state = unroll(cell, jnp.ones((30, 3)))
    assert int(state.controller_state[1]) == 30


def test_a_state_may_be_donated():
    """No two fields of the first state share a buffer."""
    cell = DNC(3, 2, SMALL, rngs=nnx.Rngs(0))
    step = jax.jit(lambda state, x: cell(state, x)[0], donate_argnums=0)
    state = step(cell.initialize_carry((3,)), jnp.ones(3))
    assert np.isfinite(state.access_state.memory).all()


def test_an_access_for_another_controller_is_refused():
    access = MemoryAccess(7, memory_size=5, word_size=3, num_read_heads=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"MemoryAccess.* 6 out"):
        DNC(3, 2, SMALL, access=access, rngs=nnx.Rngs(0))


def test_a_controller_for_other_inputs_is_refused():
    with pytest.raises(ValueError, match=r"LSTM.* 9 features"):
        DNC(3, 2, SMALL, controller=LSTM(3, 6, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory_size": 0}, r"memory_size=0: must be a whole number of at least 1"),
        ({"word_size": -3}, r"word_size=-3"),
        ({"num_layers": 2}, r"num_layers=2: controller='lstm' has one layer"),
        ({"clip_value": -1.0}, r"clip_value=-1.0: must be a finite number of at least 0"),
        ({"clip_value": float("nan")}, r"clip_value=nan"),
        ({"forget_bias": float("inf")}, r"forget_bias=inf"),
        ({"controller": "feedforward", "controller_norm": True}, r"has no LSTM layer"),
        ({"least_mask": 0.1}, r"least_mask=0.1: needs content_mask"),
        ({"sharpen_links": True, "linkage": "none"}, r"sharpen_links=True: .*no links"),
        ({"least_mask": 1.0, "content_mask": True}, r"least_mask=1.0: must be less than 1"),
    ],
)
def test_config_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        DNCConfig(**settings)


@pytest.mark.parametrize("epsilon", [-1, float("nan"), float("inf")])
def test_epsilons_of_parts_are_checked(epsilon):
    for make in (Freeness, MaskedContentAddressing):
        with pytest.raises(ValueError, match=f"epsilon={epsilon}"):
            make(4, epsilon=epsilon)
    with pytest.raises(ValueError, match=f"epsilon={epsilon}"):
        ContentAddressing(epsilon=epsilon)


def test_links_that_are_missing_cannot_be_sharpened():
    config = DNCConfig(sharpen_links=True)
    with pytest.raises(ValueError, match=r"sharpen_links=True"):
        config.make_access(linkage=NoLinkage(), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("sizes", [(0, 2), (3, -1)])
def test_dnc_refuses_sizes(sizes):
    with pytest.raises(ValueError, match=r"must be a whole number of at least 1"):
        DNC(*sizes, SMALL, rngs=nnx.Rngs(0))


def test_presets_differ_in_every_named_point():
    """Sizes agree; every option that names a difference has another value in the paper's preset.

    The options of later publications are off in both.
    """
    deepmind, nature = vars(DNCConfig.deepmind()), vars(DNCConfig.nature())
    sizes = {
        "memory_size", "word_size", "num_read_heads", "num_write_heads",
        "hidden_size", "num_layers", "controller_dtype",
    }  # fmt: skip
    later = {
        "interface_norm", "controller_norm", "content_mask", "least_mask", "wipe_freed",
        "sharpen_links",
    }  # fmt: skip
    same = {name for name in deepmind if deepmind[name] == nature[name]}
    assert same == sizes | later | {"linkage"}
    assert nature["linkage"] == "temporal"
    assert not any(nature[name] for name in later)


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (DNCConfig.dnc_md, {"content_mask": True, "wipe_freed": True}),
        (DNCConfig.dnc_mds, {"content_mask": True, "wipe_freed": True, "sharpen_links": True}),
        (DNCConfig.adnc, {"linkage": "none", "interface_norm": True, "controller_norm": True}),
    ],
)
def test_published_variants(variant, options):
    """They are the original with some options, which may still be changed."""
    assert variant(memory_size=5) == DNCConfig(memory_size=5, **options)
    first = next(iter(options))
    default = getattr(DNCConfig(), first)
    assert getattr(variant(**{first: default}), first) == default


def test_read_mode_order_moves_columns_only():
    """The paper's order is the original's with the columns of ξ moved."""
    cell = DNC(3, 2, SMALL, rngs=nnx.Rngs(0))
    moved_config = DNCConfig(**{**vars(SMALL), "read_mode_order": "backward, content, forward"})
    moved = DNC(3, 2, moved_config, rngs=nnx.Rngs(0))
    graph, params = nnx.split(moved)
    params = nnx.to_pure_dict(params)
    columns = np.arange(cell.access.interface_linear.kernel.shape[-1])
    columns[-6:] = columns[-6:].reshape(2, 3)[:, [0, 2, 1]].ravel()
    linear = params["access"]["interface_linear"]
    linear["kernel"] = linear["kernel"][:, columns]
    inputs = jnp.ones((4, 3))
    np.testing.assert_allclose(
        unroll(cell, inputs)[0], unroll(nnx.merge(graph, params), inputs)[0], atol=1e-6
    )


def test_deep_lstm_shows_the_input_to_every_layer_and_gives_out_all_layers():
    cell = DNC(3, 2, DNCConfig.nature(num_layers=3, hidden_size=6), rngs=nnx.Rngs(0))
    chi = 3 + 4 * 16
    rows = [layer.gates.kernel.shape[0] for layer in cell.controller.layers]
    assert rows == [chi + 6, chi + 6 + 6, chi + 6 + 6]
    assert cell.output_linear.kernel.shape[0] == 3 * 6 + 4 * 16


def test_parameter_counts_of_the_paper():
    """Those derived from the paper's sizes for its bAbI networks DNC1 and DNC2."""

    def count(**sizes):
        make = lambda: DNC(159, 159, DNCConfig.nature(hidden_size=256, **sizes), rngs=nnx.Rngs(0))  # noqa: E731
        state = nnx.state(nnx.eval_shape(make))
        return sum(leaf.size for leaf in jax.tree.leaves(state))

    assert count(memory_size=256, word_size=64, num_read_heads=4) == 890_112
    assert count(memory_size=256, word_size=32, num_read_heads=8) == 870_656


def test_sizes_may_be_numpy_integers():
    check_size("memory_size", np.int64(4))
