"""The settings of the graph tasks, apart from the tasks so that `--help` need not load JAX."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

AnyGraph = Literal["random", "underground", "family-tree"]
InferenceGraph = Literal["random", "family-tree"]  # relations need edges labelled 0 to 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class TraversalSettings:
    """Follow a list of edges through a graph and name each triple on the way."""

    name: ClassVar[str] = "traversal"

    last_lesson: int = 14
    """Training ends with this one of the paper's 14 lessons; evaluation measures it."""
    graph: AnyGraph = "random"
    """Random graphs of the lesson's sizes, or always one named graph, numbered anew each time."""
    graph_file: Path | None = None
    """A named graph of your own: a table of triples, with the heading source,edge,destination."""
    num_nodes: int = 0
    """Nodes of a random graph; 0: the lesson's."""
    path_length: int = 0
    """Edges of the path; 0: the lesson's. The paper's test on the Underground has 7."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """Find where a relation, a sequence of edges that is never shown, leads."""

    name: ClassVar[str] = "inference"

    last_lesson: int = 17
    """Training ends with this one of the paper's 17 lessons; evaluation measures it."""
    graph: InferenceGraph = "random"
    """Random graphs of the lesson's sizes, or always the family tree, numbered anew each time."""
    num_nodes: int = 0
    """Nodes of a random graph; 0: the lesson's."""
    path_length: int = 0
    """Edges of a relation, 2 to 5; 0: the lesson's. The paper's test on a family tree has 4."""
    queries: int = 3
    """Questions about each graph."""
    planning_steps: int = 10
    """Steps without input between a question and its answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShortestPathSettings:
    """Walk from one node to another in as few steps as possible."""

    name: ClassVar[str] = "shortest-path"
    training_only: ClassVar[tuple[str, ...]] = ("optimal_share",)

    last_lesson: int = 15
    """Training ends with this one of the paper's 15 lessons; evaluation measures it."""
    graph: AnyGraph = "random"
    """Random graphs of the lesson's sizes, or always one named graph, numbered anew each time."""
    graph_file: Path | None = None
    """A named graph of your own: a table of triples, with the heading source,edge,destination."""
    num_nodes: int = 0
    """Nodes of a random graph; 0: the lesson's."""
    path_length: int = 0
    """Edges of the shortest path; 0: the lesson's. The paper's test on the Underground has 4."""
    planning_steps: int = 10
    """Steps without input between the question and the answer."""
    optimal_share: float = 0.8
    """Share of training steps on a shortest path (the paper's DAgger beta), not on its own."""
    spare_steps: int = 1
    """Steps beyond the shortest path's before the answer is cut off."""
