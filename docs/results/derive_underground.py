"""Derives underground.csv from the files of nicola/tubemaps: see dncx/tasks/graphs/data/README.md.

python docs/results/derive_underground.py FOLDER > underground.csv

The folder contains london.stations.csv, london.lines.csv and london.connections.csv.
"""

import csv
import sys
from collections import defaultdict
from itertools import groupby
from pathlib import Path

Edges = set[tuple[str, str, str]]  # (station, line, station), in both directions
MISSPELT = {"Picadilly Circus": "Piccadilly Circus"}
LEFT_OUT = {"East London Line", "Docklands Light Railway"}  # not lines of the Underground


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; the first line names the columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contracted(edges: Edges, kept: set[str]) -> Edges:
    """The edges between kept stations: each follows its line through stations that are left out."""
    neighbours = defaultdict(set)
    for here, line, there in edges:
        neighbours[here, line].add(there)
    found = set()
    for here, line in [key for key in neighbours if key[0] in kept]:
        for first in neighbours[here, line]:
            before, now = here, first
            while now not in kept and (onward := neighbours[now, line] - {before}):
                before, now = now, min(onward)
            if now in kept and now != here:
                found.add((here, line, now))
    return found


def junctions(edges: Edges) -> Edges:
    """Interchanges with three or more neighbours, and one line per pair: the first by name."""
    lines, ways = defaultdict(set), defaultdict(set)
    for here, line, _ in edges:
        lines[here].add(line)
    edges = contracted(edges, {station for station in lines if len(lines[station]) > 1})
    for here, _, there in edges:
        ways[here].add(there)
    kept = {station for station in ways if len(ways[station]) > 2}
    first_line = {}
    for here, line, there in sorted(contracted(edges, kept)):
        first_line.setdefault((here, there), line)
    return {(here, line, there) for (here, there), line in first_line.items()}


def with_directions(edges: Edges, place: dict[str, tuple[float, float]]) -> Edges:
    """Adds the direction to the name of each line, so that no name leaves a station twice.

    Central becomes Central-E and Central-W, or Central-N and Central-S.
    """
    found = set()
    for (here, line), group in groupby(sorted(edges), key=lambda edge: edge[:2]):
        ends = [place[edge[2]] for edge in group]
        ends = [*ends, place[here]] if len(ends) == 1 else ends
        assert len(ends) == 2, (here, line)  # no line of the result branches
        # 0.622, the cosine of London's latitude: a degree of longitude is that much shorter.
        north, east = (abs(ends[0][axis] - ends[1][axis]) * (1, 0.622)[axis] for axis in (0, 1))
        axis = 0 if north > east else 1
        names = ("NS", "EW")[axis]
        for edge in [edge for edge in edges if edge[:2] == (here, line)]:
            ahead = place[edge[2]][axis] == max(end[axis] for end in ends)
            found.add((here, f"{line}-{names[not ahead]}", edge[2]))
    return found


def main(folder: Path) -> None:
    """Prints the table of triples."""
    inner = {
        row["id"]: MISSPELT.get(row["name"], row["name"])
        for row in table(folder / "london.stations.csv")
        if float(row["zone"]) < 2
    }
    place = {
        MISSPELT.get(row["name"], row["name"]): (float(row["latitude"]), float(row["longitude"]))
        for row in table(folder / "london.stations.csv")
    }
    lines = {
        row["line"]: row["name"].removesuffix(" Line")
        for row in table(folder / "london.lines.csv")
        if row["name"] not in LEFT_OUT
    }
    edges: Edges = set()
    for row in table(folder / "london.connections.csv"):
        ends = row["station1"], row["station2"]
        if row["line"] in lines and set(ends) <= set(inner):
            a, b = (inner[end] for end in ends)
            edges |= {(a, lines[row["line"]], b), (b, lines[row["line"]], a)}
    result = sorted(with_directions(junctions(edges), place))
    header = ("source", "edge", "destination")
    csv.writer(sys.stdout, lineterminator="\n").writerows([header, *result])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
