"""The 400 relations of the inference task: sequences of edge labels, the same for all networks.

There are 100 distinct sequences for each length from 2 to 5, numbered 10 to 409. (Single edges are
0 to 9; the paper says 10 to 410, which is one too many for 400.) The paper does not give its
sequences. These include all named relations of the family tree; the others are drawn with a fixed
seed. The order within a length is random, so that a number reveals nothing about its sequence.
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
STAY = EDGE_DIGITS  # an edge that leads nowhere else: it pads sequences to the longest length


class Relations(NamedTuple):
    """Row r is relation FIRST_NUMBER + r.

    Attributes:
      sequences: the edges, then STAY.
      lengths: the number of edges.
      names: the names in the family tree, by row.
    """

    sequences: np.ndarray
    lengths: np.ndarray
    names: dict[int, str]


@functools.cache
def relations() -> Relations:
    """All 400 relations."""
    # RandomState, since its numbers are the same in every version of NumPy
    generator = np.random.RandomState(0)
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
    """The relations of 2 to 4 edges in the tree that have a readable name, with that name.

    They lead up, down, or up to a mother and down to another of her children, a brother or sister:
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
    """[people, 400]: whether a person has such a relative.

    A walk that returns to an earlier person does not count: nobody is their own brother.
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
    """All paths of 2 to 4 edges that begin with these people and edges and visit nobody twice."""
    found = [edges] if len(edges) >= LENGTHS[0] else []
    here = people[-1]
    for slot in range(family.degrees[here] if len(edges) < 4 else 0):
        onward = int(family.destinations[here, slot])
        if onward not in people:
            edge = int(family.edge_names[here, slot])
            found += _paths(family, (*people, onward), (*edges, edge))
    return found


def follow(graph: Graph) -> tuple[Int[Array, "N 400"], Int[Array, "N 400"]]:
    """The end of each relation from each node, and its length; 0 if it does not exist there."""
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
