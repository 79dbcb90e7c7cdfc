"""What the network sees of Mini-SHRDLU: one-hot parts, each of them zeros where there is nothing.

    features    26        6        4           6        1         9 x 6
    part        letter    block    relation    block    go cue    the block in each cell

The cells are those of the board, column by column, each from the bottom.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8

from dncx.tasks.shrdlu.boards import EMPTY, MOST_BLOCKS, SIZE
from dncx.tasks.shrdlu.constraints import RELATIONS

NUM_LETTERS = 26
NOTHING = -1  # as a letter, a block or a relation
BOARD = SIZE * SIZE * MOST_BLOCKS
OBSERVATION_SIZE = NUM_LETTERS + MOST_BLOCKS + len(RELATIONS) + MOST_BLOCKS + 1 + BOARD


def encode(
    letter: Int[Array, ""],
    statement: Int[Array, " 3"],
    go: Bool[Array, ""],
    grid: Int[Array, "3 3"],
) -> Float[Array, " F"]:
    """An observation; a statement is (block, relation, block)."""
    block, relation, other = statement
    parts = (
        (letter, NUM_LETTERS),
        (block, MOST_BLOCKS),
        (relation, len(RELATIONS)),
        (other, MOST_BLOCKS),
    )
    shown = [jax.nn.one_hot(number, size) for number, size in parts]
    cells = jax.nn.one_hot(grid.reshape(-1), MOST_BLOCKS).reshape(-1)
    return jnp.concatenate([*shown, go.astype(jnp.float32)[None], cells])


def board_of(observation: Float[np.ndarray, " F"]) -> Int8[np.ndarray, "3 3"]:
    """The block in each cell [column, height] of the board that an observation shows, or EMPTY."""
    cells = observation[-BOARD:].reshape(SIZE, SIZE, MOST_BLOCKS)
    return np.where(cells.any(axis=2), cells.argmax(axis=2), EMPTY).astype(np.int8)
