"""The baseline: a DNC in eager PyTorch, with the original's equations.

It is the example examples/in_pytorch.py, which is written in the usual style of such code: a Python
loop over time, batched tensors, autograd. Both cells have the same weights, so that a benchmark can
check that they compute the same.
"""

# pyright: reportMissingImports=false

import numpy as np
import torch
from flax import nnx

from benchmarks.models import Size
from dncx.dnc import DNC
from dncx.runs.directory import flat
from examples import in_pytorch


def pytorch_dnc(size: Size, cell: DNC) -> in_pytorch.DNC:
    """The cell of `make_cell(size)`, with its weights, in PyTorch."""
    options = in_pytorch.Options(
        memory_size=size.slots,
        word_size=size.word,
        num_read_heads=size.reads,
        hidden_size=size.hidden,
    )
    model = in_pytorch.DNC(size.inputs, size.outputs, options)
    arrays = flat(nnx.to_pure_dict(nnx.state(cell)))
    weights = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    model.load_state_dict(in_pytorch.from_dncx(weights))
    return model
