"""A trained dncx model in PyTorch: this file needs only torch and safetensors.

python examples/in_pytorch.py associative-recall memory-reuse

Copy the file into your project, and load the folder of a run, which has a config.json and a
model.safetensors:

    model = load("runs/repeat-copy")
    outputs, state = model(inputs)  # [batch, time, features]
    outputs, state = model(more_inputs, state)  # continues the sequence

`DNC` is a plain PyTorch module, so it trains and moves between devices like any other. It computes
the equations of google-deepmind/dnc and of the paper, whichever the run has, with one write head.
`load` refuses runs with other options. `save` writes weights that dncx reads.

The command compares the outputs of PyTorch and dncx on random episodes of the run's task. It takes
runs, and names of models that ship with dncx; for this comparison only, dncx must be installed.
"""

# pyright: reportMissingImports=false

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

FORMAT = "dncx-run-2"
SHORTEST_VECTOR = 1e-6  # without a cosine_epsilon, shorter vectors are similar to nothing


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes and equations, under the names and with the defaults of `dncx.DNCConfig`."""

    memory_size: int = 16
    word_size: int = 16
    num_read_heads: int = 4
    hidden_size: int = 64
    num_layers: int = 1
    clip_value: float | None = 20.0
    controller: str = "lstm"
    forget_bias: float = 1.0
    controller_gradient_clip: float | None = None
    strength_activation: str = "softplus"
    interface_bias: bool = True
    output_bias: bool = True
    read_mode_order: str = "backward, forward, content"
    cosine_epsilon: float = 1e-6
    allocation_epsilon: float = 1e-6
    usage_write_gradient: bool = False


# The other options must have these values, which turn them off.
OFF = {
    "num_write_heads": 1,
    "controller_dtype": None,
    "controller_norm": False,
    "interface_norm": False,
    "linkage": "temporal",
    "content_mask": False,
    "least_mask": 0.0,
    "wipe_freed": False,
    "sharpen_links": False,
}
NETWORK_OFF = {"kind": "dnc", "embedding_size": 0, "bidirectional": False}


class State(NamedTuple):
    """The state of a DNC, for B sequences, N slots of W numbers and R read heads."""

    read_words: Tensor  # [B, R, W]
    memory: Tensor  # [B, N, W]
    read_weights: Tensor  # [B, R, N]
    write_weights: Tensor  # [B, N]
    link: Tensor  # [B, N, N]
    precedence_weights: Tensor  # [B, N]
    usage: Tensor  # [B, N]
    controller: tuple[tuple[Tensor, Tensor], ...]  # hidden and cell [B, H] of each LSTM layer


class LSTMLayer(nn.Module):
    """One layer of the controller: all gates are one product with [inputs; hidden]."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.gates = nn.Linear(input_size + hidden_size, 4 * hidden_size)


class DNC(nn.Module):
    """A Differentiable Neural Computer (Graves et al. 2016)."""

    def __init__(self, input_size: int, output_size: int, options: Options | None = None):
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        self.options = options = options or Options()
        words, hidden = options.num_read_heads * options.word_size, options.hidden_size
        features = input_size + words
        recurrent, layers = options.controller != "feedforward", range(options.num_layers)
        if recurrent:  # each layer sees the inputs, and the layer below
            made = [LSTMLayer(features + (hidden if layer else 0), hidden) for layer in layers]
        else:
            made = [nn.Linear(hidden if layer else features, hidden) for layer in layers]
        self.controller = nn.ModuleDict({"layers": nn.ModuleList(made)})
        self.controller_size = hidden * (options.num_layers if recurrent else 1)
        self.interface_sizes = interface_sizes(options.num_read_heads, options.word_size)
        self.interface_linear = nn.Linear(
            self.controller_size, sum(self.interface_sizes), bias=options.interface_bias
        )
        self.output_linear = nn.Linear(
            self.controller_size + words, output_size, bias=options.output_bias
        )

    def initial_state(self, batch: int) -> State:
        """The state before the first step: all zeros."""
        o, like = self.options, self.output_linear.weight

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, dtype=like.dtype, device=like.device)

        layers = o.num_layers if o.controller != "feedforward" else 0
        return State(
            read_words=zeros(o.num_read_heads, o.word_size),
            memory=zeros(o.memory_size, o.word_size),
            read_weights=zeros(o.num_read_heads, o.memory_size),
            write_weights=zeros(o.memory_size),
            link=zeros(o.memory_size, o.memory_size),
            precedence_weights=zeros(o.memory_size),
            usage=zeros(o.memory_size),
            controller=tuple((zeros(o.hidden_size), zeros(o.hidden_size)) for _ in range(layers)),
        )

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Inputs [batch, time, features] -> outputs with the same axes, and the last state."""
        state = self.initial_state(len(inputs)) if state is None else state
        outputs = []
        for x in inputs.unbind(1):
            y, state = self.step(x, state)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    def step(self, x: Tensor, old: State) -> tuple[Tensor, State]:
        """One step: inputs [batch, features] -> outputs [batch, features], and the new state."""
        o = self.options
        hidden, controller = self.control(torch.cat([x, old.read_words.flatten(1)], 1), old)
        (
            read_keys, read_strengths, write_key, write_strength, erase, write_vector,
            free_gate, allocation_gate, write_gate, read_mode,
        ) = self.interface_linear(hidden).split(self.interface_sizes, 1)  # fmt: skip

        # Write: to free slots, or to slots that are similar to the key.
        written = old.write_weights if o.usage_write_gradient else old.write_weights.detach()
        usage = old.usage + (1 - old.usage) * written
        freed = torch.sigmoid(free_gate)[:, :, None] * old.read_weights
        usage = usage * torch.prod(1 - freed, 1)
        allocation = allocation_weights(usage, o.allocation_epsilon)
        content = self.content_weights(old.memory, write_key, write_strength)[:, 0]
        gate = torch.sigmoid(allocation_gate)
        write = torch.sigmoid(write_gate) * (gate * allocation + (1 - gate) * content)
        memory = old.memory * (1 - write[:, :, None] * torch.sigmoid(erase)[:, None, :])
        memory = memory + write[:, :, None] * write_vector[:, None, :]

        # Link: which slot was written after which.
        link = (1 - write[:, :, None] - write[:, None, :]) * old.link
        link = link + write[:, :, None] * old.precedence_weights[:, None, :]
        link = link * (1 - torch.eye(o.memory_size, dtype=link.dtype, device=link.device))
        precedence = (1 - write.sum(1, keepdim=True)) * old.precedence_weights + write

        # Read: by content, or along the links in either direction.
        by_content = self.content_weights(memory, read_keys, read_strengths)
        order = o.read_mode_order.split(", ")
        modes = torch.softmax(read_mode.unflatten(1, (-1, 3)), 2)[..., None].unbind(2)
        read = modes[order.index("backward")] * (old.read_weights @ link)
        read = read + modes[order.index("forward")] * (old.read_weights @ link.mT)
        read = read + modes[order.index("content")] * by_content
        words = read @ memory

        y = self.clip(self.output_linear(torch.cat([hidden, words.flatten(1)], 1)))
        return y, State(words, memory, read, write, link, precedence, usage, controller)

    def control(self, x: Tensor, old: State) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """The controller's output [batch, features], and its new state."""
        o, layers = self.options, self.controller["layers"]
        if o.controller == "feedforward":
            for layer in layers:
                x = self.clip_gradient(torch.tanh(layer(x)))
            return self.clip(x), ()
        hidden, outputs, states = x[:, :0], [], []
        for layer, (before, cell) in zip(layers, old.controller, strict=True):
            gates = layer.gates(torch.cat([x, hidden, before], 1))
            i, j, f, out = gates.chunk(4, 1)
            cell = torch.sigmoid(f + o.forget_bias) * cell + torch.sigmoid(i) * torch.tanh(j)
            hidden = self.clip_gradient(torch.sigmoid(out) * torch.tanh(cell))
            outputs.append(self.clip(hidden))
            states.append((outputs[-1], self.clip(cell)))
        return torch.cat(outputs, 1), tuple(states)

    def content_weights(self, memory: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
        """Softmax of strength times cosine similarity, [batch, heads, slots]."""
        epsilon, keys = self.options.cosine_epsilon, keys.unflatten(1, (-1, memory.shape[2]))
        if epsilon:
            norms = (
                torch.sqrt((keys * keys).sum(2) + epsilon)[:, :, None]
                * torch.sqrt((memory * memory).sum(2) + epsilon)[:, None, :]
            )
            similarity = keys @ memory.mT / (norms + epsilon)
        else:
            similarity = direction(keys) @ direction(memory).mT
        strengths = functional.softplus(strengths, threshold=40)  # exact also in float64
        if self.options.strength_activation == "oneplus":
            strengths = 1 + strengths
        return torch.softmax(strengths[:, :, None] * similarity, 2)

    def clip(self, x: Tensor) -> Tensor:
        """Clips to ±clip_value."""
        limit = self.options.clip_value
        return x.clamp(-limit, limit) if limit else x

    def clip_gradient(self, x: Tensor) -> Tensor:
        """Clips the gradient that reaches x to ±controller_gradient_clip."""
        limit = self.options.controller_gradient_clip
        if limit is not None and x.requires_grad:
            x.register_hook(lambda gradient: gradient.clamp(-limit, limit))
        return x


def interface_sizes(heads: int, word: int) -> list[int]:
    """The parts of the interface vector, in the order of `DNC.step`."""
    return [heads * word, heads, word, 1, word, word, heads, 1, 1, 3 * heads]


def direction(vectors: Tensor) -> Tensor:
    """Vectors divided by their lengths; zero if they are too short to have a direction."""
    squares = (vectors * vectors).sum(-1, keepdim=True)
    long = squares >= SHORTEST_VECTOR**2
    return torch.where(long, vectors / torch.where(long, squares, 1).sqrt(), 0)


def allocation_weights(usage: Tensor, epsilon: float) -> Tensor:
    """The freest slots first: a[φⱼ] = (1 - u[φⱼ]) Π_{i<j} u[φᵢ], [batch, slots]."""
    free = 1 - (epsilon + (1 - epsilon) * usage)
    free, order = torch.sort(free, dim=1, descending=True, stable=True)
    used = 1 - free
    before = torch.cumprod(torch.cat([torch.ones_like(used[:, :1]), used[:, :-1]], 1), 1)
    return torch.zeros_like(usage).scatter(1, order, free * before)


def load(run: Path | str) -> DNC:
    """The trained model in the folder of a run.

    Raises:
      OSError: if a file cannot be read.
      ValueError: if the run has options that `DNC` does not support, or is not a run.
    """
    config, file = Path(run) / "config.json", Path(run) / "model.safetensors"
    network = read_network(config)
    try:
        options, weights = supported_options(network), from_dncx(load_file(file))
        # A saved model can have fewer outputs than its training had.
        model = DNC(network["input_size"], len(weights["output_linear.weight"]), options)
        model.load_state_dict(weights)
    except (ValueError, LookupError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{file}: {error}") from error
    return model


def read_network(config: Path) -> dict[str, Any]:
    """The description of the network in a config.json."""
    try:
        plain = json.loads(config.read_text())
        if plain["format"] == FORMAT:
            return plain["network"]
    except (ValueError, LookupError, TypeError):
        pass
    raise ValueError(f"{config}: must be the configuration of a run, in the format {FORMAT}")


def supported_options(network: Mapping[str, Any]) -> Options:
    """The options in the description of a network.

    Raises:
      ValueError: if an unsupported option is on.
    """
    known = {field.name for field in fields(Options)}
    settings = {name: value for name, value in network.items() if name in NETWORK_OFF}
    settings |= {name: value for name, value in network["cell"].items() if name not in known}
    off = NETWORK_OFF | OFF
    on = [
        f"{name}={value!r}"
        for name, value in settings.items()
        if name not in off or value != off[name]
    ]
    if on:
        raise ValueError(f"not supported in PyTorch: {', '.join(on)}")
    return Options(**{name: value for name, value in network["cell"].items() if name in known})


def save(model: DNC, file: Path | str) -> None:
    """Writes the weights as dncx reads them: `dncx train TASK --initial_model=FILE`."""
    save_file({name: array.float() for name, array in to_dncx(model).items()}, file)


def from_dncx(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of dncx by their names in PyTorch, whose matrices are [outputs, inputs]."""
    weights = {}
    for name, array in arrays.items():
        name = name.removeprefix("access.").replace("controller.gates", "controller.layers.0.gates")
        is_matrix = name.endswith("kernel")
        weights[name.replace("kernel", "weight")] = array.T if is_matrix else array
    return weights


def to_dncx(model: DNC) -> dict[str, Tensor]:
    """The inverse of `from_dncx`."""
    arrays = {}
    for name, weight in model.state_dict().items():
        if name.startswith("interface_linear"):
            name = f"access.{name}"
        if model.options.controller == "lstm":
            name = name.replace("controller.layers.0.gates", "controller.gates")
        is_matrix = name.endswith("weight")
        array = weight.T if is_matrix else weight
        arrays[name.replace("weight", "kernel")] = array.contiguous()
    return arrays


class Comparison(NamedTuple):
    """The largest difference between two computations of the same outputs, by precision."""

    episodes: int
    steps: int
    float64: float  # PyTorch and dncx
    float32: float  # PyTorch and dncx
    rounding: float  # dncx in float32 and dncx in float64


def compare(run: Path | str, episodes: int = 16) -> Comparison:
    """Compares PyTorch with dncx on random episodes of the run's task."""
    import jax
    import numpy as np
    from flax import nnx

    import dncx
    from dncx import load_run
    from dncx.runs.paths import find_run

    model, trained = load(find_run(Path(run))), load_run(run)
    graph, params = nnx.split(trained.network)
    inputs = np.array(trained.task.sample(jax.random.key(0), episodes).inputs)

    def outputs(dtype: type) -> tuple[Any, Any]:
        with jax.enable_x64(dtype == np.float64):
            cell = nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype), params))
            theirs, _ = jax.jit(dncx.unroll)(cell, inputs.astype(dtype))
        x = torch.from_numpy(inputs.astype(dtype))
        with torch.no_grad():
            ours, _ = model.to(x.dtype)(x)
        return ours.numpy(), np.asarray(theirs)

    def largest(difference: Any) -> float:
        return float(np.abs(difference).max())

    (ours64, theirs64), (ours32, theirs32) = outputs(np.float64), outputs(np.float32)
    return Comparison(
        *inputs.shape[:2],
        float64=largest(ours64 - theirs64),
        float32=largest(ours32 - theirs32),
        rounding=largest(theirs32 - theirs64),
    )


def main() -> None:
    """Prints the differences for each run; the exit code is 1 if one is above 1e-5 in float64."""
    parser = argparse.ArgumentParser(description="Compare a model in PyTorch with dncx.")
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a run directory, or a model that ships with dncx"
    )
    same = True
    for run in parser.parse_args().runs:
        try:
            found = compare(run)
        except (OSError, ValueError) as error:
            sys.exit(f"{run}: {error}")
        print(
            f"{run}, {found.episodes} episodes of {found.steps} steps: the outputs of PyTorch and "
            f"dncx differ by at most {found.float64:.0e} in float64, {found.float32:.0e} in "
            f"float32; dncx's own rounding in float32 is {found.rounding:.0e}"
        )
        same &= found.float64 <= 1e-5
    sys.exit(not same)


if __name__ == "__main__":
    main()
