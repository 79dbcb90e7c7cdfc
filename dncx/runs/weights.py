"""The identity of trained weights."""

import hashlib
from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike


def weights_digest(arrays: Mapping[str, ArrayLike]) -> str:
    """The SHA-256 of weights by name: of their names, shapes and numbers, in the names' order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
