"""The `nature` preset, and the published variants of it, against equations in NumPy loops."""

import jax
import numpy as np
import pytest
from conftest import assert_relative, later
from flax import nnx

from dncx import DNC, DNCConfig, unroll

N, W, R, H, LAYERS, INPUTS, OUTPUTS = 5, 3, 4, 4, 2, 3, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def oneplus(x):
    return 1 + np.log(1 + np.exp(x))


def cosine(u, v):
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    return u @ v / lengths if lengths > 0 else 0.0


def content(memory, key, strength, mask):
    return softmax(np.array([strength * cosine(key * mask, row * mask) for row in memory]))


def layer_norm(x, weights):
    return weights["scale"] * (x - x.mean()) / np.sqrt(x.var() + 1e-6) + weights["bias"]


def sharpen(weights, sharpness):
    powers = np.array([(weight + 1e-6) ** sharpness for weight in weights])
    return powers / powers.sum()


def allocation(usage):
    weights = np.zeros(N)
    order = sorted(range(N), key=lambda slot: usage[slot])
    for rank, slot in enumerate(order):
        weights[slot] = (1 - usage[slot]) * np.prod([usage[s] for s in order[:rank]])
    return weights


def run_layer(layer, inputs, cell, normalized):
    """[h; c] of an LSTM layer, with layer norm as in the ADNC if it is normalized."""
    gates = inputs @ layer["gates"]["kernel"]
    if normalized:
        norms = layer["norms"]
        parts = np.split(gates, 4)
        i, s, f, o = [layer_norm(part, norms["gates"][n]) for n, part in enumerate(parts)]
    else:
        i, s, f, o = np.split(gates + layer["gates"]["bias"], 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(s)
    shown = layer_norm(cell, layer["norms"]["cell"]) if normalized else cell
    return sigmoid(o) * np.tanh(shown), cell


def run_paper(params, inputs, config):
    """Methods, in the paper's order, step by step and slot by slot, with the variants' equations.

    The variants: Csordás and Schmidhuber 2019 (masks, wiping, sharpness), Franke et al. 2018 (layer
    norms, no links).
    """
    access, least = params["access"], config.least_mask
    hidden, cell = np.zeros((LAYERS, H)), np.zeros((LAYERS, H))
    memory, link, usage = np.zeros((N, W)), np.zeros((N, N)), np.zeros(N)
    precedence, written, read = np.zeros(N), np.zeros(N), np.zeros((R, N))
    words, outputs = np.zeros((R, W)), []
    for x in inputs:
        chi, below = np.concatenate([x, words.ravel()]), np.zeros(0)
        for number, layer in params["controller"]["layers"].items():
            entered = np.concatenate([chi, below, hidden[number]])
            hidden[number], cell[number] = run_layer(
                layer, entered, cell[number], config.controller_norm
            )
            below = hidden[number]
        xi = hidden.ravel() @ access["interface_linear"]["kernel"]
        if config.interface_norm:
            xi = layer_norm(xi, access["interface_norm"])
        xi = list(xi)

        def take(count, xi=xi):
            taken = np.array(xi[:count])
            del xi[:count]
            return taken

        read_keys, read_strengths = take(R * W).reshape(R, W), oneplus(take(R))
        write_key, write_strength = take(W), oneplus(take(1))[0]
        erase, vector, free = sigmoid(take(W)), take(W), sigmoid(take(R))
        allocation_gate, write_gate = sigmoid(take(1))[0], sigmoid(take(1))[0]
        modes = [softmax(take(1 if config.linkage == "none" else 3)) for _ in range(R)]
        read_masks, write_mask = np.ones((R, W)), np.ones(W)
        if config.content_mask:
            read_masks = least + (1 - least) * sigmoid(take(R * W)).reshape(R, W)
            write_mask = least + (1 - least) * sigmoid(take(W))
        if config.sharpen_links:
            forward_sharpness, backward_sharpness = oneplus(take(R)), oneplus(take(R))
        assert not xi

        retained = np.prod([1 - free[i] * read[i] for i in range(R)], axis=0)
        usage = (usage + written - usage * written) * retained
        lookup = content(memory, write_key, write_strength, write_mask)
        written = write_gate * (
            allocation_gate * allocation(usage) + (1 - allocation_gate) * lookup
        )
        kept = np.outer(retained, np.ones(W)) * memory if config.wipe_freed else memory
        memory = kept * (1 - np.outer(written, erase)) + np.outer(written, vector)
        new_link = np.zeros((N, N))
        for i in range(N):
            for j in range(N):
                if i != j:
                    new_link[i, j] = (1 - written[i] - written[j]) * link[i, j] + written[
                        i
                    ] * precedence[j]
        link, precedence = new_link, (1 - written.sum()) * precedence + written
        for i in range(R):
            backward, forward = link.T @ read[i], link @ read[i]
            if config.sharpen_links:
                forward = sharpen(forward, forward_sharpness[i])
                backward = sharpen(backward, backward_sharpness[i])
            lookup = content(memory, read_keys[i], read_strengths[i], read_masks[i])
            if config.linkage == "none":
                read[i] = lookup
                continue
            read[i] = modes[i][0] * backward + modes[i][1] * lookup + modes[i][2] * forward
        words = read @ memory
        features = np.concatenate([hidden.ravel(), words.ravel()])
        outputs.append(features @ params["output_linear"]["kernel"])
    return np.array(outputs)


ALL = {
    "content_mask": True, "least_mask": 0.1, "wipe_freed": True, "sharpen_links": True,
    "interface_norm": True, "controller_norm": True,
}  # fmt: skip
VARIANTS = {name: {name: True} for name, value in ALL.items() if value is True}
VARIANTS |= {"the paper": {}, "all": ALL, "no links": {"linkage": "none"}}
FIRST = ("the paper", "all", "no links")


@pytest.mark.parametrize("name", [*FIRST, *later(*(n for n in VARIANTS if n in ALL))])
@pytest.mark.parametrize("form", ["plain", *later("xla")])
def test_equations(name, form, x64):
    config = DNCConfig.nature(
        memory_size=N, word_size=W, num_read_heads=R, hidden_size=H, num_layers=LAYERS,
        **VARIANTS[name],
    )  # fmt: skip
    options = dict(implementation=form, rngs=nnx.Rngs(3), param_dtype=np.float64)
    graph, params = nnx.split(DNC(INPUTS, OUTPUTS, config, **options))
    random = np.random.default_rng(0)
    # Also the biases of layer norms, which begin at 0.
    params = jax.tree.map(lambda x: 2 * x + 0.1 * random.normal(size=x.shape), params)
    inputs = random.normal(size=(12, INPUTS))
    expected = run_paper(jax.tree.map(np.array, nnx.to_pure_dict(params)), inputs, config)
    outputs, _ = jax.jit(unroll)(nnx.merge(graph, params), inputs)
    assert np.abs(expected).max() > 0.1
    assert_relative(outputs, expected, 1e-12)


@pytest.mark.second_step
def test_the_gradient_of_the_controller_is_clipped_as_in_the_paper(x64):
    """With a huge loss, no gradient beyond ±10 leaves a layer's activations."""
    config = DNCConfig.nature(memory_size=N, word_size=W, num_read_heads=R, hidden_size=H)
    inputs = np.random.default_rng(0).normal(size=(1, INPUTS))

    def bias_gradient(scale, **changes):
        settings = DNCConfig(**{**vars(config), **changes})
        cell = DNC(INPUTS, OUTPUTS, settings, rngs=nnx.Rngs(3), param_dtype=np.float64)
        graph, params = nnx.split(cell)
        gradient = jax.grad(lambda p: scale * unroll(nnx.merge(graph, p), inputs)[0].sum())(params)
        return np.abs(np.array(gradient["controller"]["layers"][0]["gates"]["bias"])).max()

    assert bias_gradient(1e6) < 10
    assert bias_gradient(1e6, controller_gradient_clip=None) > 1e3
    assert_relative(bias_gradient(1e-3), bias_gradient(1e-3, controller_gradient_clip=None), 1e-12)
