"""The `nature` preset against the paper's equations, written out in NumPy loops."""

import jax
import numpy as np
import pytest
from conftest import assert_relative
from flax import nnx

from dncx import DNC, DNCConfig, unroll

N, W, R, H, LAYERS, INPUTS, OUTPUTS = 5, 3, 2, 4, 2, 3, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def oneplus(x):
    return 1 + np.log(1 + np.exp(x))


def cosine(u, v):
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    return u @ v / lengths if lengths > 0 else 0.0


def content(memory, key, strength):
    return softmax(np.array([strength * cosine(key, row) for row in memory]))


def allocation(usage):
    weights = np.zeros(N)
    order = sorted(range(N), key=lambda slot: usage[slot])
    for rank, slot in enumerate(order):
        weights[slot] = (1 - usage[slot]) * np.prod([usage[s] for s in order[:rank]])
    return weights


def run_paper(gates, w_xi, w_out, inputs, links=True):
    """Methods, in the paper's order, step by step and slot by slot; also without links."""
    hidden, cell = np.zeros((LAYERS, H)), np.zeros((LAYERS, H))
    memory, link, usage = np.zeros((N, W)), np.zeros((N, N)), np.zeros(N)
    precedence, written, read = np.zeros(N), np.zeros(N), np.zeros((R, N))
    words, outputs = np.zeros((R, W)), []
    for x in inputs:
        chi, below = np.concatenate([x, words.ravel()]), np.zeros(0)
        for layer, (kernel, bias) in enumerate(gates):
            i, s, f, o = np.split(np.concatenate([chi, below, hidden[layer]]) @ kernel + bias, 4)
            cell[layer] = sigmoid(f) * cell[layer] + sigmoid(i) * np.tanh(s)
            hidden[layer] = below = sigmoid(o) * np.tanh(cell[layer])
        xi = list(hidden.ravel() @ w_xi)

        def take(count, xi=xi):
            taken = np.array(xi[:count])
            del xi[:count]
            return taken

        read_keys, read_strengths = take(R * W).reshape(R, W), oneplus(take(R))
        write_key, write_strength = take(W), oneplus(take(1))[0]
        erase, vector, free = sigmoid(take(W)), take(W), sigmoid(take(R))
        allocation_gate, write_gate = sigmoid(take(1))[0], sigmoid(take(1))[0]
        modes = [softmax(take(3 if links else 1)) for _ in range(R)]
        assert not xi

        retained = np.prod([1 - free[i] * read[i] for i in range(R)], axis=0)
        usage = (usage + written - usage * written) * retained
        lookup = content(memory, write_key, write_strength)
        written = write_gate * (
            allocation_gate * allocation(usage) + (1 - allocation_gate) * lookup
        )
        memory = memory * (1 - np.outer(written, erase)) + np.outer(written, vector)
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
            lookup = content(memory, read_keys[i], read_strengths[i])
            if not links:
                read[i] = lookup
                continue
            read[i] = modes[i][0] * backward + modes[i][1] * lookup + modes[i][2] * forward
        words = read @ memory
        outputs.append(np.concatenate([hidden.ravel(), words.ravel()]) @ w_out)
    return np.array(outputs)


@pytest.mark.parametrize("linkage", ["temporal", "none"])
def test_nature_preset(linkage, x64):
    config = DNCConfig.nature(
        memory_size=N, word_size=W, num_read_heads=R, hidden_size=H, num_layers=LAYERS,
        linkage=linkage,
    )  # fmt: skip
    cell = DNC(INPUTS, OUTPUTS, config, rngs=nnx.Rngs(3), param_dtype=np.float64)
    graph, params = nnx.split(cell)
    cell = nnx.merge(graph, jax.tree.map(lambda x: 2 * x, params))
    inputs = np.random.default_rng(0).normal(size=(12, INPUTS))
    expected = run_paper(
        [(np.array(g.gates.kernel), np.array(g.gates.bias)) for g in cell.controller.layers],
        np.array(cell.access.interface_linear.kernel),
        np.array(cell.output_linear.kernel),
        inputs,
        links=linkage == "temporal",
    )
    outputs, _ = jax.jit(unroll)(cell, inputs)
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
