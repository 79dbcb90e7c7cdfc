"""Graphs with names, to test what was learned on random ones: the Underground, a family tree."""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dncx.tasks.graphs.encoding import LABELS
from dncx.tasks.graphs.random_graphs import Graph, unique_labels

DATA = Path(__file__).parent / "data"
HEADER = ["source", "edge", "destination"]
LARGEST = 2**22  # bytes; the largest graph with names of 10 letters has some 10^6 triples less


class NamedGraph(NamedTuple):
    """The arrays are as in `Graph`, with indices of names in the place of labels."""

    nodes: tuple[str, ...]
    edges: tuple[str, ...]
    degrees: np.ndarray
    destinations: np.ndarray
    edge_names: np.ndarray


@functools.cache
def named_graph(name: str) -> NamedGraph:
    """`underground` or `family-tree`: see data/README.md."""
    return read_graph(DATA / f"{name.replace('-', '_')}.csv")


@functools.cache
def own_graph(path: Path) -> NamedGraph:
    """`read_graph`, once for each file.

    Raises:
      ValueError: there is no such file, or it is no graph; see `read_graph`.
    """
    try:
        if not path.is_file():
            raise ValueError(f"graph_file={path}: there is no such file")
        return read_graph(path)
    except OSError as error:
        raise ValueError(f"graph_file={path}: {error.strerror}") from error


def read_graph(path: Path) -> NamedGraph:
    """A graph from a table of triples; the names' order is that of their first line.

    Raises:
      ValueError: a line that is not three names, an edge name that leaves a node twice, an edge
        from a node to itself, a node that no edge leaves, or more names than labels; the message
        names the file and the line.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: it has more than {LARGEST} bytes")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets mark UTF-8
            rows = [(line, row) for line, row in enumerate(csv.reader(file), start=1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table of triples; {error}") from error
    if not rows or rows[0][1] != HEADER:
        raise ValueError(f"{path}, line 1: it must be {','.join(HEADER)}")
    ways: dict[str, dict[str, str]] = {}
    for number, row in rows[1:]:
        place = f"{path}, line {number}"
        if len(row) != 3 or not all(cell.strip() for cell in row):
            raise ValueError(f"{place}: three names, separated by commas, not {str(row)[:100]}")
        source, edge, destination = row
        if source == destination:
            raise ValueError(f"{place}: an edge from {source} to itself")
        if edge in ways.setdefault(source, {}):
            raise ValueError(f"{place}: {edge} leaves {source} twice")
        ways[source][edge] = destination
    for number, (_, _, destination) in rows[1:]:
        if destination not in ways:
            raise ValueError(f"{path}, line {number}: no edge leaves {destination}")
    return _as_arrays(path, ways)


def _as_arrays(path: Path, ways: dict[str, dict[str, str]]) -> NamedGraph:
    """Names to indices, in rows of the largest degree."""
    nodes = tuple(ways)
    edges = tuple(dict.fromkeys(edge for found in ways.values() for edge in found))
    if not 0 < max(len(nodes), len(edges)) < LABELS:
        raise ValueError(f"{path}: {len(nodes)} nodes, {len(edges)} edges; at most {LABELS - 1}")
    degrees = np.array([len(found) for found in ways.values()], np.int32)
    destinations = np.zeros((len(nodes), degrees.max()), np.int32)
    edge_names = np.zeros_like(destinations)
    for node, found in enumerate(ways.values()):
        destinations[node, : len(found)] = [nodes.index(end) for end in found.values()]
        edge_names[node, : len(found)] = [edges.index(edge) for edge in found]
    return NamedGraph(nodes, edges, degrees, destinations, edge_names)


def numbered(key: Array, named: NamedGraph, digit_edges: bool = False) -> Graph:
    """Different random labels for the nodes and for the edge names.

    With `digit_edges` the edge names are numbered from 0 in their order, always.
    """
    node_key, edge_key = jax.random.split(key)
    count = len(named.edges)
    numbers = jnp.arange(count, dtype=jnp.int32) if digit_edges else unique_labels(edge_key, count)
    return Graph(
        num_nodes=jnp.asarray(len(named.nodes), jnp.int32),
        node_labels=unique_labels(node_key, len(named.nodes)),
        degrees=jnp.asarray(named.degrees),
        destinations=jnp.asarray(named.destinations),
        edge_labels=numbers[named.edge_names],
    )


def names_of(graph: Graph, named: NamedGraph | None) -> tuple[dict[int, str], dict[int, str]]:
    """What the numbers of one episode stand for: its nodes, and its edges; numbers without names.

    Args:
      graph: one episode's, as NumPy arrays.
      named: whose names these are.
    """
    if named is None:
        return {}, {}
    nodes = dict(zip(graph.node_labels.tolist(), named.nodes, strict=True))
    there = np.arange(named.edge_names.shape[1]) < named.degrees[:, None]
    numbers = np.asarray(graph.edge_labels)[there].tolist()
    return nodes, {
        number: named.edges[edge]
        for number, edge in zip(numbers, named.edge_names[there], strict=True)
    }


def diameter(named: NamedGraph) -> int:
    """Edges of the longest of all shortest paths; a node that is not reached has none."""
    edge = np.zeros((len(named.nodes),) * 2, bool)
    for node, degree in enumerate(named.degrees):
        edge[node, named.destinations[node, :degree]] = True
    steps, reached = 0, np.eye(len(edge), dtype=bool)
    while (further := reached | reached @ edge).sum() > reached.sum():
        steps, reached = steps + 1, further
    return steps
