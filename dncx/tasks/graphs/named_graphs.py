"""Named graphs, to test models that were trained on random graphs: Underground, family tree."""

import csv
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dncx.tasks.graphs.encoding import LABELS
from dncx.tasks.graphs.random_graphs import Graph, unique_labels
from dncx.tasks.text import clean, decode, quoted

DATA = Path(__file__).parent / "data"
HEADING = ("source", "edge", "destination")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LARGEST = 2**22  # bytes; enough for 10^5 triples with names of 10 letters


class NamedGraph(NamedTuple):
    """A named graph. The arrays are as in `Graph`, with indices of names instead of labels."""

    nodes: tuple[str, ...]
    edges: tuple[str, ...]
    degrees: np.ndarray
    destinations: np.ndarray
    edge_names: np.ndarray


class _Row(NamedTuple):
    """The cells of a row, and the line of the file on which it begins."""

    line: int
    cells: list[str]


class _Triple(NamedTuple):
    line: int
    source: str
    edge: str
    destination: str


@functools.cache
def named_graph(name: str) -> NamedGraph:
    """`underground` or `family-tree`: see data/README.md."""
    return read_graph(DATA / f"{name.replace('-', '_')}.csv")


def own_graph(path: Path | str) -> NamedGraph:
    """`read_graph`, cached for each file, so that editing a file does not change a running task.

    Raises:
      ValueError: if the file cannot be read, or `read_graph` refuses it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ValueError(f"graph_file={path}: this is a folder, not a table of triples")
        if not path.is_file():
            raise ValueError(f"graph_file={path}: there is no such file")
        return _read_once(path.resolve())
    except OSError as error:
        raise ValueError(f"graph_file={path}: {error.strerror}") from error


def read_graph(path: Path) -> NamedGraph:
    """A graph from a table of triples, one edge per row, with the heading source,edge,destination.

    Commas, semicolons or tabs separate the cells; the columns can have any order. Names are
    compared after `clean`. Nodes and edges are numbered in the order of their first row.

    Raises:
      ValueError: if the file is not text in UTF-8 or not such a table, if two edges of a node have
        the same name, if an edge leads from a node to itself, if no edge leaves a node, or if there
        are more names than labels; the message names the file and the line.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: the file has more than {LARGEST} bytes")
    triples = list(_triples(decode(path.read_bytes(), str(path)), path))
    ways: dict[str, dict[str, str]] = {}
    for line, source, edge, destination in triples:
        place = f"{path}, line {line}"
        if source == destination:
            raise ValueError(f"{place}: an edge leads from {quoted(source)} to itself")
        if edge in ways.setdefault(source, {}):
            raise ValueError(f"{place}: edge {quoted(edge)} leaves {quoted(source)} twice")
        ways[source][edge] = destination
    for triple in triples:
        if triple.destination not in ways:
            raise ValueError(
                f"{path}, line {triple.line}: no edge leaves {quoted(triple.destination)}"
            )
    return _as_arrays(path, ways)


_read_once = functools.cache(read_graph)


def _triples(text: str, path: Path) -> Iterator[_Triple]:
    """The rows below the heading, with their cells in the order of `HEADING`.

    Raises:
      ValueError: if there is no heading or no row, or a row does not have three names.
    """
    separator, rows = _table(text, path)
    heading = next(rows, None)
    if heading is None:
        raise ValueError(f"{path}: the file is empty; its first line must be {_example(',')}")
    columns = [cell.casefold() for cell in heading.cells]
    if sorted(columns) != sorted(HEADING):
        raise ValueError(f"{path}, line {heading.line}: {_wrong_heading(columns)}")
    order = [columns.index(name) for name in HEADING]
    row = None
    for row in rows:
        if len(row.cells) != len(HEADING) or not all(row.cells):
            found = separator.join(row.cells)
            raise ValueError(
                f"{path}, line {row.line}: a row must have three names, separated by "
                f"{SEPARATORS[separator]} as in the heading; found {quoted(found)}"
            )
        yield _Triple(row.line, *(row.cells[column] for column in order))
    if row is None:
        raise ValueError(f"{path}: there are no rows below the heading")


def _wrong_heading(columns: list[str]) -> str:
    """The error in a heading with these columns, for a message."""
    missing = [name for name in HEADING if name not in columns]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    unknown = [quoted(name) for name in columns if name not in HEADING]
    found = ", ".join(quoted(name) for name in columns)
    if twice:
        problem = f"the heading has {quoted(twice[0])} twice"
    elif missing and len(missing) < len(HEADING):
        problem = f"the heading has no column {' or '.join(missing)}"
    elif unknown and not missing:
        problem = f"the heading has unknown columns: {', '.join(unknown)}"
    else:
        problem = "this is not the heading"
    return f"{problem}; it must be {_example(',')}, not {found}"


def _example(separator: str) -> str:
    return separator.join(HEADING)


def _table(text: str, path: Path) -> tuple[str, Iterator[_Row]]:
    """The separator of a table's cells, and its rows.

    Excel writes semicolons if the comma is the decimal separator, and tabs as "Unicode text"; it
    reads the separator from a line "sep=;" before the heading.
    """
    lines = text.splitlines()
    stated = bool(lines) and lines[0].strip('" ').casefold().startswith("sep=")
    first = next((line for line in lines[stated:] if line.strip()), "")
    counts = {separator: first.count(separator) for separator in SEPARATORS}
    separator = max(counts, key=lambda sign: counts[sign])
    return separator, _rows(text, path, separator, skip=int(stated))


def _rows(text: str, path: Path, separator: str, skip: int) -> Iterator[_Row]:
    """The rows that are not blank, with clean cells and without empty ones at the end."""
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
    begins = 1
    try:
        for cells in reader:
            row = _Row(begins, [clean(cell) for cell in cells])
            begins = reader.line_num + 1  # a quoted cell may have several lines
            while row.cells and not row.cells[-1]:
                row.cells.pop()  # spreadsheets pad short rows
            if row.cells and row.line > skip:
                yield row
    except csv.Error as error:
        raise ValueError(f"{path}, line {begins}: not a row of a table: {error}") from error


def _as_arrays(path: Path, ways: dict[str, dict[str, str]]) -> NamedGraph:
    """Converts names to indices, in rows of the largest degree."""
    nodes = tuple(ways)
    edges = tuple(dict.fromkeys(edge for found in ways.values() for edge in found))
    if max(len(nodes), len(edges)) >= LABELS:
        raise ValueError(
            f"{path}: {len(nodes)} nodes, {len(edges)} edge names; at most {LABELS - 1} of each"
        )
    node_index = {name: index for index, name in enumerate(nodes)}
    edge_index = {name: index for index, name in enumerate(edges)}
    degrees = np.array([len(found) for found in ways.values()], np.int32)
    destinations = np.zeros((len(nodes), degrees.max()), np.int32)
    edge_names = np.zeros_like(destinations)
    for node, found in enumerate(ways.values()):
        destinations[node, : len(found)] = [node_index[end] for end in found.values()]
        edge_names[node, : len(found)] = [edge_index[edge] for edge in found]
    return NamedGraph(nodes, edges, degrees, destinations, edge_names)


def numbered(key: Array, named: NamedGraph, digit_edges: bool = False) -> Graph:
    """A graph with random labels for the nodes and the edge names.

    With `digit_edges`, the edge names are always numbered from 0 in their order.
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
    """The names of an episode's node labels and of its edge labels; empty for a random graph.

    Args:
      graph: the graph of one episode, as NumPy arrays.
      named: the named graph.
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
    """The length of the longest shortest path between two connected nodes."""
    edge = np.zeros((len(named.nodes),) * 2, bool)
    for node, degree in enumerate(named.degrees):
        edge[node, named.destinations[node, :degree]] = True
    steps, reached = 0, np.eye(len(edge), dtype=bool)
    while (further := reached | reached @ edge).sum() > reached.sum():
        steps, reached = steps + 1, further
    return steps
