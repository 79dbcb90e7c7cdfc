"""Random graphs as arrays of fixed size, and walks, distances and choices on a graph.

Every function here handles ONE graph and runs inside jit; bounds can be traced. Source: Nature
2016, Methods.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from dncx.tasks.graphs.encoding import LABELS
from dncx.tasks.graphs.lessons import Lesson

FAR = 10_000  # the distance of an unreachable node; the sum of two fits into int32
EDGE_DIGITS = 10  # in inference edges are labelled 0 to 9


class Graph(NamedTuple):
    """Nodes are rows; the edges that leave a node are the first `degrees` slots of its row.

    Attributes:
      num_nodes: the number of rows that are nodes; they come first.
      node_labels: the label of each node.
      degrees: the number of edges that leave each node; 0 in rows that are not nodes.
      destinations: the row to which each edge leads.
      edge_labels: the label of each edge.
    """

    num_nodes: Int[Array, ""]
    node_labels: Int[Array, " N"]
    degrees: Int[Array, " N"]
    destinations: Int[Array, "N K"]
    edge_labels: Int[Array, "N K"]


def whole(
    key: Array, shape: tuple[int, ...], low: int | Array, high: int | Array
) -> Int[Array, "*shape"]:
    """Integers, drawn uniformly from low to high, both included."""
    return jax.random.randint(key, shape, low, high + 1, jnp.int32)


def unique_labels(key: Array, count: int) -> Int[Array, " count"]:
    """Distinct labels below 1000, in random order."""
    return jax.lax.top_k(jax.random.uniform(key, (LABELS,), jnp.float32), count)[1]


def random_graph(
    key: Array, bounds: Lesson, max_nodes: int, max_degree: int, digit_edges: bool = False
) -> Graph:
    """N points in the unit square, each with edges to its K nearest points; each node draws its K.

    Nodes have distinct labels. Edges that leave the same node have distinct labels, too: they are
    drawn without replacement from N labels, or with `digit_edges` from 0 to 9.
    """
    keys = jax.random.split(key, 6)
    num_nodes = whole(keys[0], (), bounds.min_nodes, bounds.max_nodes)
    is_node = jnp.arange(max_nodes) < num_nodes
    most = jnp.minimum(bounds.max_degree, num_nodes - 1)
    degrees = whole(keys[1], (max_nodes,), bounds.min_degree, most)
    if digit_edges:
        pool, in_pool = jnp.arange(EDGE_DIGITS, dtype=jnp.int32), jnp.ones(EDGE_DIGITS, bool)
    else:
        pool, in_pool = unique_labels(keys[2], max_nodes), is_node
    lottery = jax.random.uniform(keys[3], (max_nodes, len(pool)), jnp.float32)
    drawn = jax.lax.top_k(jnp.where(in_pool[None], lottery, -1), max_degree)[1]
    points = jax.random.uniform(keys[5], (max_nodes, 2), jnp.float32)
    return Graph(
        num_nodes=num_nodes,
        node_labels=unique_labels(keys[4], max_nodes),
        degrees=jnp.where(is_node, degrees, 0),
        destinations=nearest(points, is_node, max_degree),
        edge_labels=pool[drawn],
    )


def nearest(points: Array, is_node: Bool[Array, " N"], count: int) -> Int[Array, "N {count}"]:
    """The `count` nearest other nodes of each node, nearest first."""
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    other = is_node[None] & ~jnp.eye(len(points), dtype=bool)
    return jax.lax.top_k(jnp.where(other, -squares, -jnp.inf), count)[1]


def edges_exist(graph: Graph) -> Bool[Array, "N K"]:
    """Whether each slot contains an edge."""
    return jnp.arange(graph.destinations.shape[1])[None] < graph.degrees[:, None]


def triples_from(graph: Graph, node: Int[Array, ""]) -> Int[Array, "K 3"]:
    """The labels of the edges that leave a node, in the order of its slots."""
    ends = graph.node_labels[graph.destinations[node]]
    starts = jnp.broadcast_to(graph.node_labels[node], ends.shape)
    return jnp.stack([starts, graph.edge_labels[node], ends], axis=-1)


def all_triples(graph: Graph) -> tuple[Int[Array, "E 3"], Bool[Array, " E"]]:
    """The labels of every slot, and whether the slot contains an edge."""
    triples = jax.vmap(triples_from, (None, 0))(graph, jnp.arange(len(graph.degrees)))
    return triples.reshape(-1, 3), edges_exist(graph).reshape(-1)


def random_walk(key: Array, graph: Graph, steps: int) -> Int[Array, "{steps} 3"]:
    """The triples along a walk from a random node; each edge is drawn among those that leave."""
    start_key, walk_key = jax.random.split(key)

    def step(node: Array, key: Array) -> tuple[Array, Array]:
        slot = whole(key, (), 0, graph.degrees[node] - 1)
        return graph.destinations[node, slot], triples_from(graph, node)[slot]

    start = whole(start_key, (), 0, graph.num_nodes - 1)
    return jax.lax.scan(step, start, jax.random.split(walk_key, steps))[1]


def distances(graph: Graph) -> Int[Array, "N N"]:
    """Smallest number of edges from each node (row) to each node (column); FAR without a path.

    This is the Floyd-Warshall algorithm, which allows one more intermediate node at a time.
    """
    size = len(graph.degrees)
    rows = jnp.arange(size, dtype=jnp.int32)
    edges = jnp.where(edges_exist(graph), 1, FAR).astype(jnp.int32)
    first = jnp.full((size, size), FAR, jnp.int32).at[rows[:, None], graph.destinations].min(edges)

    def through(node: Array, found: Array) -> Array:
        return jnp.minimum(found, found[:, node][:, None] + found[node][None])

    return jax.lax.fori_loop(0, size, through, first.at[rows, rows].set(0))


def choose(key: Array, weights: Int[Array, " n"] | Bool[Array, " n"]) -> Int[Array, ""]:
    """An index, drawn in proportion to integer weights; 0 if all weights are 0."""
    sums = jnp.cumsum(weights, dtype=jnp.int32)
    return (sums > whole(key, (), 0, sums[-1] - 1)).argmax().astype(jnp.int32)


def choose_pair(
    key: Array, lengths: Int[Array, "n m"], bounds: Lesson, most: int
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """A row and a column of a table of lengths, with a length within the bounds.

    First a length is drawn uniformly from the lengths in the table that are within the bounds (or
    shorter ones if there are none), then a pair of this length. A pair with 0 in the table is never
    drawn. No bound may exceed `most`.
    """
    length_key, row_key, column_key = jax.random.split(key, 3)
    sizes = jnp.arange(1, most + 1, dtype=jnp.int32)
    occurs = (lengths[..., None] == sizes[None, None]).any(axis=(0, 1)) & (
        sizes <= bounds.max_length
    )
    wanted = occurs & (sizes >= bounds.min_length)
    length = 1 + choose(length_key, jnp.where(wanted.any(), wanted, occurs))
    fits = lengths == length
    row = choose(row_key, fits.sum(axis=1))
    return row, choose(column_key, fits[row])
