"""The 400 relations of the inference task: sequences of edge labels, fixed for all networks.

100 different sequences for each length from 2 to 5, numbered 10 to 409 (a single edge is 0 to 9;
the paper says 10 to 410, which is one too many for 400). Which sequences the paper drew is not
known. Ours hold those that have a name in the family tree; the rest are drawn with a fixed seed.
The order within a length is random, so that a number tells nothing of the sequence.
"""

import functools
import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dncx.tasks.graphs.named_graphs import NamedGraph, named_graph
from dncx.tasks.graphs.random_graphs import EDGE_DIGITS, Graph, edges_exist

FIRST_NUMBER = 10
LENGTHS = range(2, 6)
EACH = 100
STAY = EDGE_DIGITS  # fills sequences up to the longest


class Relations(NamedTuple):
    """Row r is relation FIRST_NUMBER + r.

    Attributes:
      sequences: the edges, then STAY.
      lengths: how many edges.
      names: those of the family tree, by row.
    """

    sequences: np.ndarray
    lengths: np.ndarray
    names: dict[int, str]


@functools.cache
def relations() -> Relations:
    """All 400."""
    generator = np.random.RandomState(0)  # the only generator of NumPy that will never change
    named = kinship(named_graph("family-tree"))
    found: list[tuple[int, ...]] = []
    for length in LENGTHS:
        chosen = dict.fromkeys(kin for kin in named if len(kin) == length)
        while len(chosen) < EACH:
            chosen[tuple(generator.randint(EDGE_DIGITS, size=length).tolist())] = None
        sequences = list(chosen)
        found += [sequences[index] for index in generator.permutation(EACH)]
    rows = [sequence + (STAY,) * (LENGTHS[-1] - len(sequence)) for sequence in found]
    return Relations(
        sequences=np.array(rows, np.int32),
        lengths=np.array([len(sequence) for sequence in found], np.int32),
        names={row: named[kin] for row, kin in enumerate(found) if kin in named},
    )


def kinship(family: NamedGraph) -> dict[tuple[int, ...], str]:
    """Readable relations of 2 to 4 edges that the tree has: the edges, and a name.

    Up, down, or up and then down by a mother's child, who is a brother or a sister:
    (mother, mother, mother, son) is "mother's mother's brother", a great-uncle.
    """
    names: dict[tuple[int, ...], str] = {}
    for start in range(len(family.nodes)):
        for path in _paths(family, (start,), ()):
            words = "'s ".join(family.edges[edge] for edge in path)
            kind = "".join(family.edges[edge][0] for edge in path)
            if re.fullmatch("[fm]{2,}|[sd]{2,}|[fm]*m[sd]+", kind):
                brother = re.sub("mother's son(?=$|')", "brother", words)
                names[path] = re.sub("mother's daughter(?=$|')", "sister", brother)
    return names


def family_pairs(family: NamedGraph) -> np.ndarray:
    """[people, 400]: whether somebody has such a relative.

    A walk back to oneself does not count: nobody is their own brother.
    """
    found = relations()
    sequences = zip(found.sequences.tolist(), found.lengths, strict=True)
    rows = {tuple(edges[:length]): row for row, (edges, length) in enumerate(sequences)}
    pairs = np.zeros((len(family.nodes), len(rows)), bool)
    for start in range(len(family.nodes)):
        named = [rows[path] for path in _paths(family, (start,), ()) if path in rows]
        pairs[start, [row for row in named if row in found.names]] = True
    return pairs


def _paths(
    family: NamedGraph, people: tuple[int, ...], edges: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """The edges of the ways from the last of these people on, of 2 to 4 edges, nobody met twice."""
    found = [edges] if len(edges) >= LENGTHS[0] else []
    here = people[-1]
    for slot in range(family.degrees[here] if len(edges) < 4 else 0):
        onward = int(family.destinations[here, slot])
        if onward not in people:
            edge = int(family.edge_names[here, slot])
            found += _paths(family, (*people, onward), (*edges, edge))
    return found


def follow(graph: Graph) -> tuple[Int[Array, "N 400"], Int[Array, "N 400"]]:
    """Where each relation leads from each node, and its length; 0 where it does not exist."""
    size = len(graph.degrees)
    nowhere = size  # a last row, which nothing leaves
    rows = jnp.arange(size + 1, dtype=jnp.int32)
    steps = jnp.full((size + 1, EDGE_DIGITS + 1), nowhere, jnp.int32).at[:, STAY].set(rows)
    labels = jnp.where(edges_exist(graph), graph.edge_labels, STAY + 1)  # out of range: dropped
    steps = steps.at[rows[:size, None], labels].set(graph.destinations, mode="drop")
    sequences = jnp.asarray(relations().sequences)
    ends = jnp.broadcast_to(rows[:size, None], (size, len(sequences)))
    for edge in sequences.T:
        ends = steps[ends, jnp.broadcast_to(edge[None], ends.shape)]
    lengths = jnp.asarray(relations().lengths)[None]
    return ends, jnp.where(ends < nowhere, lengths, jnp.zeros_like(lengths))
