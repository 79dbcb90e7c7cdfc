"""Rounds the weights of the models that ship with dncx, so that the wheel compresses to under 3 MB.

python docs/results/round_weights.py dncx/models/*/model.safetensors

A weight keeps 16 of the 24 bits of its significand: it changes by at most 1/65,536 of its size.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save

from dncx.runs.files import write_whole


def rounded(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers whose significands end in eight zero bits; ties go to the even one."""
    bits = weights.view(np.uint32)
    last = (bits >> np.uint32(8)) & np.uint32(1)
    return ((bits + np.uint32(0x7F) + last) & np.uint32(0xFFFFFF00)).view(np.float32)


def round_file(path: Path) -> None:
    """Replaces a model by its rounded one; a second time changes nothing."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    weights = {name: rounded(array) for name, array in load_file(path).items()}
    write_whole(path, save(weights, metadata))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        round_file(Path(name))
