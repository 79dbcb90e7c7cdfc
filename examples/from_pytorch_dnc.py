"""A model of pytorch-dnc (`dnc` on PyPI) as a dncx cell: three custom parts have its equations.

    import dnc

    model = dnc.DNC(input_size=3, hidden_size=8, nr_cells=6, cell_size=4)
    cell = from_state_dict(model.state_dict(), nr_cells=6, cell_size=4)
    outputs, state = dncx.unroll(cell, inputs)  # [batch, time, features]

It converts LSTM models with `num_layers=1` and any number of hidden layers. Their
equations differ from the paper's in several points, which docs/moving-models.md lists.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dncx
from dncx.addressing import vector_norms

EPSILON = 1e-6  # of pytorch-dnc
PARTS = ("read_keys", "read_strengths", "write_key", "write_strength", "erase_vector",
         "write_vector", "free_gates", "allocation_gate", "write_gate", "read_modes")  # fmt: skip


class StackedLSTM(nnx.RNNCellBase):
    """LSTM layers on top of each other; the last one gives the output."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, *, rngs: nnx.Rngs):
        sizes = [input_size, *[hidden_size] * num_layers]
        self.layers = nnx.List(
            dncx.LSTM(size, hidden_size, forget_bias=0.0, rngs=rngs) for size in sizes[:-1]
        )

    @property
    def num_feature_axes(self):
        return 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return tuple(layer.initialize_carry(input_shape) for layer in self.layers)

    def __call__(self, carry, inputs):
        states = []
        for layer, state in zip(self.layers, carry, strict=True):
            state, inputs = layer(state, inputs)
            states.append(state)
        return tuple(states), inputs


class ProductContent(nnx.Module):
    """Cosine similarity in which epsilon is added only to the product of the lengths."""

    mask_size = 0

    def __call__(self, memory, keys, strengths, masks=None):
        norms = jnp.outer(vector_norms(keys, 0), vector_norms(memory, 0)) + EPSILON
        return jax.nn.softmax(strengths[:, None] * (keys @ memory.T) / norms)


class TanhAccess(dncx.MemoryAccess):
    """Keys and write vectors pass through tanh."""

    def interface(self, controller_output):
        xi = super().interface(controller_output)
        bounded = ("read_keys", "write_keys", "write_vectors")
        return xi._replace(**{name: jnp.tanh(getattr(xi, name)) for name in bounded})


def from_state_dict(
    state_dict: Mapping[str, Any], *, nr_cells: int, cell_size: int, stepped: bool = False
) -> dncx.DNC:
    """A cell that computes the same as a model of pytorch-dnc.

    Args:
      state_dict: the model's tensors on the CPU, or arrays, by their names.
      nr_cells, cell_size: as the model was made; slots of the memory and numbers in a slot.
      stepped: whether the model is called with one step at a time. If it is called with sequences,
        its controller does not see the words read in them, so their weights are set to zero.

    Raises:
      ValueError: if the model is of another kind, or cell_size does not fit.
    """
    layers, interface, output = _weights(state_dict)
    input_size, features = output[0].shape  # a model has as many outputs as inputs
    hidden_size = layers[0][1].shape[1]
    heads = (features - hidden_size) // cell_size
    words = heads * cell_size
    rngs = nnx.Rngs(0)
    access = TanhAccess(
        hidden_size,
        memory_size=nr_cells,
        word_size=cell_size,
        num_read_heads=heads,
        content=ProductContent(),
        freeness=dncx.Freeness(nr_cells, write_gradient=True),
        rngs=rngs,
    )
    if features != hidden_size + words or len(interface[1]) != access.interface_linear.out_features:
        raise ValueError(f"cell_size={cell_size}: does not fit the sizes of the weights")
    controller = StackedLSTM(input_size + words, hidden_size, len(layers), rngs=rngs)
    config = dncx.DNCConfig(clip_value=None)
    cell = dncx.DNC(input_size, input_size, config, controller=controller, access=access, rngs=rngs)
    if not stepped:
        layers[0][0][:, input_size:] = 0
    for layer, (from_inputs, from_hidden, *biases) in zip(controller.layers, layers, strict=True):
        _set(layer.gates, _gates(np.hstack([from_inputs, from_hidden])), _gates(sum(biases)))
    _set(access.interface_linear, *interface)
    _set(cell.output_linear, *output)
    return cell


class _Weights(NamedTuple):
    layers: list[list[np.ndarray]]  # of each LSTM: weight_ih, weight_hh, bias_ih, bias_hh
    interface: list[np.ndarray]  # weight, bias
    output: list[np.ndarray]  # weight, bias


def _weights(state_dict: Mapping[str, Any]) -> _Weights:
    """The arrays of a model; refuses models that lack one, or have others."""
    arrays = {name: np.array(value, np.float32) for name, value in state_dict.items()}
    memory = "shared" if any("memory_shared" in name for name in arrays) else "0"
    fused = any("interface_weights" in name for name in arrays)
    parts = ["interface_weights"] if fused else [f"{part}_transform" for part in PARTS]
    lstms = [
        [
            f"lstm_layer_0.{kind}_{side}_l{number}"
            for kind in ("weight", "bias")
            for side in ("ih", "hh")
        ]
        for number in range(max(1, sum(".weight_ih_l" in name for name in arrays)))
    ]
    interface = [
        [f"rnn_layer_memory_{memory}.{part}.{kind}" for part in parts]
        for kind in ("weight", "bias")
    ]
    output = ["output.weight", "output.bias"]
    wanted = {*output, *itertools.chain(*lstms, *interface)}
    if different := sorted(wanted ^ arrays.keys()):
        raise ValueError(
            "not a pytorch-dnc model with an LSTM and num_layers=1; missing or unknown: "
            + ", ".join(different)
        )
    return _Weights(
        layers=[[arrays[name] for name in names] for names in lstms],
        interface=[np.concatenate([arrays[name] for name in names]) for names in interface],
        output=[arrays[name] for name in output],
    )


def _gates(rows: Any) -> np.ndarray:
    """The rows of PyTorch's gates i, f, g, o in the order of dncx: i, g, f, o."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, g, f, o])


def _set(linear: Any, weight: np.ndarray, bias: np.ndarray) -> None:
    linear.kernel[...] = jnp.asarray(weight.T, jnp.float32)
    linear.bias[...] = jnp.asarray(bias, jnp.float32)
