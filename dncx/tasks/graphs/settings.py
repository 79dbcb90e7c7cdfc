"""The settings of the graph tasks, in their own module so that `--help` need not load JAX."""

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
    """Last of the paper's 14 lessons to train, and to evaluate."""
    graph: AnyGraph = "random"
    """Random graphs, or one named graph with new labels each time."""
    graph_file: Path | None = None
    """Your graph: a table with the columns source, edge, destination."""
    num_nodes: int = 0
    """Nodes of a random graph; 0: as in the lesson."""
    path_length: int = 0
    """Edges of the path; 0: as in the lesson; the paper tests 7."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """Find where a relation leads, whose sequence of edges is never shown."""

    name: ClassVar[str] = "inference"

    last_lesson: int = 17
    """Last of the paper's 17 lessons to train, and to evaluate."""
    graph: InferenceGraph = "random"
    """Random graphs, or the family tree with new labels each time."""
    num_nodes: int = 0
    """Nodes of a random graph; 0: as in the lesson."""
    path_length: int = 0
    """Edges of a relation, 2 to 5; 0: as in the lesson; the paper tests 4."""
    queries: int = 3
    """Questions per graph."""
    planning_steps: int = 10
    """Steps without input between a question and its answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShortestPathSettings:
    """Walk from one node to another in as few steps as possible."""

    name: ClassVar[str] = "shortest-path"
    training_only: ClassVar[tuple[str, ...]] = ("optimal_share",)

    last_lesson: int = 15
    """Last of the paper's 15 lessons to train, and to evaluate."""
    graph: AnyGraph = "random"
    """Random graphs, or one named graph with new labels each time."""
    graph_file: Path | None = None
    """Your graph: a table with the columns source, edge, destination."""
    num_nodes: int = 0
    """Nodes of a random graph; 0: as in the lesson."""
    path_length: int = 0
    """Edges of the shortest path; 0: as in the lesson; the paper tests 4."""
    planning_steps: int = 10
    """Steps without input between the question and the answer."""
    optimal_share: float = 0.8
    """Share of training steps on a shortest path (DAgger's beta)."""
    spare_steps: int = 1
    """Extra steps that an answer may take beyond the shortest path."""
