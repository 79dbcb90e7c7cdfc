"""The baseline: a plain DNC in eager PyTorch, with the original's equations.

It is written in the usual style of such code: a Python loop over time, batched tensors, autograd.
It takes the weights of a `dncx.DNC`, so that a benchmark can check that both compute the same.
"""

# pyright: reportMissingImports=false

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dncx.dnc import DNC
from dncx.interface import interface_shapes

EPSILON = 1e-6


class State(NamedTuple):
    """The recurrent state; the first axis of every tensor is the batch."""

    reads: Tensor
    memory: Tensor
    read_weights: Tensor
    write_weights: Tensor
    link: Tensor
    precedence: Tensor
    usage: Tensor
    hidden: Tensor
    cell: Tensor


class PyTorchDNC(torch.nn.Module):
    """A DNC with one write head and one LSTM layer, as `DNCConfig.deepmind` is by default."""

    def __init__(self, cell: DNC):
        super().__init__()
        access = cell.access
        self.slots, self.word, self.heads = (
            access.memory_size,
            access.word_size,
            access.num_read_heads,
        )
        self.limit = cell.clip_value
        self.hidden = cell.controller.hidden_size
        self.shapes = interface_shapes(self.word, self.heads, 1)
        self.gates = _linear(cell.controller.gates)
        self.interface = _linear(access.interface_linear)
        self.outputs = _linear(cell.output_linear)

    def start(self, batch: int) -> State:
        """The initial state: all zeros."""
        slots, word, heads = self.slots, self.word, self.heads
        shapes = (
            (heads, word), (slots, word), (heads, slots), (slots,), (slots, slots), (slots,),
            (slots,), (self.hidden,), (self.hidden,),
        )  # fmt: skip
        device = self.outputs.weight.device
        return State(*(torch.zeros(batch, *shape, device=device) for shape in shapes))

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Inputs [batch, time, features] -> outputs with the same axes, and the last state."""
        state = state or self.start(inputs.shape[0])
        outputs = []
        for x in inputs.unbind(1):
            y, state = self.step(x, state)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    def step(self, x: Tensor, s: State) -> tuple[Tensor, State]:
        """One step: inputs [batch, features] -> outputs [batch, features], and the state."""
        i, j, f, o = self.gates(torch.cat([x, s.reads.flatten(1), s.hidden], 1)).chunk(4, 1)
        cell = torch.sigmoid(f + 1) * s.cell + torch.sigmoid(i) * torch.tanh(j)
        hidden = self.clip(torch.sigmoid(o) * torch.tanh(cell))
        cell = self.clip(cell)

        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        parts = self.interface(hidden).split(sizes, 1)
        xi = {
            name: part.view(-1, *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        free = torch.sigmoid(xi["free_gate"])
        usage = s.usage + (1 - s.usage) * s.write_weights.detach()
        usage = usage * torch.prod(1 - free[:, :, None] * s.read_weights, 1)

        allocation_gate = torch.sigmoid(xi["allocation_gate"])
        write_gate = torch.sigmoid(xi["write_gate"])
        content = content_weights(s.memory, xi["write_keys"], xi["write_strengths"])[:, 0]
        write = write_gate * (allocation_gate * allocate(usage) + (1 - allocation_gate) * content)
        erase = torch.sigmoid(xi["erase_vectors"])
        memory = (
            s.memory * (1 - write[:, :, None] * erase) + write[:, :, None] * xi["write_vectors"]
        )

        link = (1 - write[:, :, None] - write[:, None, :]) * s.link
        link = link + write[:, :, None] * s.precedence[:, None, :]
        link = link * (1 - torch.eye(self.slots, device=link.device))
        precedence = (1 - write.sum(1, keepdim=True)) * s.precedence + write

        forward = s.read_weights @ link.transpose(1, 2)
        backward = s.read_weights @ link
        content = content_weights(memory, xi["read_keys"], xi["read_strengths"])
        mode = torch.softmax(xi["read_mode"], 2)
        read = mode[:, :, 0:1] * backward + mode[:, :, 1:2] * forward + mode[:, :, 2:3] * content
        reads = read @ memory

        y = self.clip(self.outputs(torch.cat([hidden, reads.flatten(1)], 1)))
        return y, State(reads, memory, read, write, link, precedence, usage, hidden, cell)

    def clip(self, x: Tensor) -> Tensor:
        """Clips to ±clip_value."""
        return x.clamp(-self.limit, self.limit) if self.limit else x


def content_weights(memory: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
    """Softmax of strength times cosine similarity, [batch, keys, slots]."""
    norms = (
        torch.sqrt((keys * keys).sum(2) + EPSILON)[:, :, None]
        * torch.sqrt((memory * memory).sum(2) + EPSILON)[:, None, :]
    )
    similarity = keys @ memory.transpose(1, 2) / (norms + EPSILON)
    return torch.softmax(similarity * functional.softplus(strengths)[:, :, None], 2)


def allocate(usage: Tensor) -> Tensor:
    """The allocation weighting, [batch, slots]."""
    free, order = torch.sort(
        1 - (EPSILON + (1 - EPSILON) * usage), dim=1, descending=True, stable=True
    )
    used = 1 - free
    before = torch.cumprod(torch.cat([torch.ones_like(used[:, :1]), used[:, :-1]], 1), 1)
    return torch.zeros_like(usage).scatter(1, order, free * before)


def _linear(layer: object) -> torch.nn.Linear:
    kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])  # type: ignore[attr-defined]
    linear = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(kernel.T.copy()))
        linear.bias.copy_(torch.from_numpy(bias.copy()))
    return linear
