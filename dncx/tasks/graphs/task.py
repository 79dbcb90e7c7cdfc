"""The common part of the graph tasks: lessons, graphs, and the scores of two of them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dncx.tasks.base import Episode, Words
from dncx.tasks.curriculum import Gate, draw_lessons
from dncx.tasks.graphs.encoding import (
    BLANK,
    END,
    INPUT_SIZE,
    LABELS,
    TRIPLE_SIZE,
    decode,
    digit_cross_entropy,
    triple_scores,
)
from dncx.tasks.graphs.lessons import Lesson
from dncx.tasks.graphs.named_graphs import (
    NamedGraph,
    named_graph,
    names_of,
    numbered,
    own_graph,
)
from dncx.tasks.graphs.random_graphs import Graph, all_triples, random_graph
from dncx.tasks.graphs.settings import AnyGraph

# The largest number of steps of a phase. With more, no memory holds the arrays of a sequence.
MOST_STEPS = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphTask:
    """A course of the paper's lessons. A task adds `_draw`, which draws one episode."""

    table: ClassVar[tuple[Lesson, ...]]
    graphs: ClassVar[tuple[str, ...]] = get_args(AnyGraph)
    digit_edges: ClassVar[bool] = False

    last_lesson: int
    graph: str = "random"
    graph_file: Path | None = None
    num_nodes: int = 0
    path_length: int = 0
    lesson: int = 0
    """The current lesson; 0: the last one."""
    earlier_share: float = 0.0
    """The share of episodes from earlier lessons."""

    def __post_init__(self) -> None:
        if not 1 <= self.last_lesson <= len(self.table):
            raise ValueError(
                f"last_lesson={self.last_lesson}: there are lessons 1 to {len(self.table)}"
            )
        if not 0 <= self.lesson <= self.last_lesson:
            raise ValueError(f"lesson {self.lesson}: there are lessons 1 to {self.last_lesson}")
        if self.graph not in self.graphs:
            raise ValueError(f"graph={self.graph}: must be one of {', '.join(self.graphs)}")
        if self.graph_file is not None and self.graph != "random":
            raise ValueError(
                f"graph_file={self.graph_file} and graph={self.graph} exclude each other"
            )
        fewest = max(row.min_degree for row in self.table[: self.last_lesson]) + 1
        random = self.named is None
        if self.num_nodes and not (random and fewest <= self.num_nodes < LABELS):
            raise ValueError(
                f"num_nodes={self.num_nodes}: must be {fewest} to {LABELS - 1}, for random graphs "
                "only; 0 means the lesson's number"
            )
        if not 0 <= self.path_length <= MOST_STEPS:
            raise ValueError(
                f"path_length={self.path_length}: must be the number of edges, at most "
                f"{MOST_STEPS}; 0 means the lesson's number"
            )
        if not 0 <= self.earlier_share <= 1:
            raise ValueError(f"earlier_share={self.earlier_share}: must be in [0, 1]")

    @property
    def input_size(self) -> int:
        return INPUT_SIZE

    @property
    def output_size(self) -> int:
        return TRIPLE_SIZE

    @property
    def loss_unit(self) -> str:
        return "nats per sequence"

    @property
    def num_lessons(self) -> int:
        return self.last_lesson

    @property
    def gate(self) -> Gate:
        """Nine in ten of 50 episodes are solved; the paper gives the 50 for shortest path."""
        return Gate("sequence_error", at_most=0.1, every=100, episodes=50)

    def at_lesson(self, number: int, earlier_share: float = 0.0) -> "GraphTask":
        """See `Course.at_lesson`."""
        if not 1 <= number <= self.last_lesson:
            raise ValueError(f"lesson {number}: there are lessons 1 to {self.last_lesson}")
        return dataclasses.replace(self, lesson=number, earlier_share=earlier_share)

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """The table up to the current lesson, with `num_nodes` and `path_length` if given."""
        given: dict[str, int] = {}
        if self.num_nodes:
            given |= {"min_nodes": self.num_nodes, "max_nodes": self.num_nodes}
        if self.path_length:
            given |= {"min_length": self.path_length, "max_length": self.path_length}
        return tuple(row._replace(**given) for row in self.table[: self.lesson or self.last_lesson])

    @property
    def most(self) -> Lesson:
        """The largest possible value of each bound, which determines the shapes."""
        lessons = self.lessons if self.earlier_share else self.lessons[-1:]
        most = Lesson(*map(max, zip(*lessons, strict=True)))
        return most._replace(max_degree=min(most.max_degree, most.max_nodes - 1))

    @property
    def named(self) -> NamedGraph | None:
        """The named graph; None if random graphs are drawn."""
        if self.graph_file is not None:
            return own_graph(self.graph_file)
        return None if self.graph == "random" else named_graph(self.graph)

    @property
    def slots_needed(self) -> int:
        """The triples of the largest graph."""
        if self.named is not None:
            return int(self.named.degrees.sum())
        return self.most.max_nodes * self.most.max_degree

    def sample(self, key: Array, batch_size: int) -> Episode:
        """See `Task.sample`."""
        lesson_key, key = jax.random.split(key)
        bounds = draw_lessons(
            lesson_key, self.lessons, len(self.lessons), self.earlier_share, batch_size
        )
        return jax.vmap(self._draw)(jax.random.split(key, batch_size), bounds)

    def _draw(self, key: Array, bounds: Lesson) -> Episode:
        """One episode, without a batch axis; `Episode.extra` is its graph."""
        raise NotImplementedError

    def _graph(self, key: Array, bounds: Lesson) -> Graph:
        """A random graph within the bounds, or the named one with new labels."""
        if self.named is not None:
            return numbered(key, self.named, self.digit_edges)
        return random_graph(
            key, bounds, self.most.max_nodes, self.most.max_degree, self.digit_edges
        )

    def _triples(self, graph: Graph) -> tuple[Int[Array, "E 3"], Bool[Array, " E"]]:
        """The labels of all edges, and which of them exist."""
        triples, exist = all_triples(graph)
        if self.named is None:
            return triples, exist
        there = np.arange(graph.destinations.shape[1]) < self.named.degrees[:, None]
        return triples[there.reshape(-1)], jnp.ones(there.sum(), bool)

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """Nats per sequence: -log p of the nine digits of each target, summed over the answer."""
        return digit_cross_entropy(outputs, episode.targets, episode.mask)

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Shares of sequences with a wrong triple, and of wrong triples among the targets."""
        return triple_scores(outputs, episode.targets, episode.mask)

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """See `Describable.words`: the triples shown, and the answers at their steps."""
        graph = first_of(self._graph_of(episode))
        shown, due = episode.inputs[0, :, :TRIPLE_SIZE].any(axis=-1), episode.mask[0] > 0

        def spell(rows: Array, where: Array) -> tuple[str, ...]:
            triples = rows[0, :, :TRIPLE_SIZE]
            blank = ~triples.reshape(-1, 3, 30).any(axis=-1)
            labels = np.asarray(jnp.where(blank, BLANK, decode(triples)))
            pairs = zip(labels, np.asarray(where), strict=True)
            return tuple(self._spell(graph, triple) if here else "" for triple, here in pairs)

        return Words(spell(episode.inputs, shown), spell(episode.targets, due), spell(outputs, due))

    def _graph_of(self, episode: Episode) -> Graph:
        """The graphs of a batch."""
        return episode.extra

    @property
    def _relation_names(self) -> dict[int, str]:
        """Names of labels that represent a relation instead of an edge."""
        return {}

    def _spell(self, graph: Graph, labels: Any) -> str:
        """A triple as text: '(Moorgate, Northern-S, Bank)', or its labels if there are no names."""
        source, edge, destination = (int(label) for label in labels)
        if (source, edge, destination) == END:
            return "end"
        nodes, edges = names_of(graph, self.named)
        nodes = {BLANK: "?", **nodes}
        edges = {BLANK: "?", **edges, **self._relation_names}
        names = (
            nodes.get(source, source),
            edges.get(edge, edge),
            nodes.get(destination, destination),
        )
        return "({}, {}, {})".format(*names)

    def _comparison(self, graph: Graph, target: Any, guess: Any) -> str:
        """A target and the network's answer."""
        wrong = "" if (target == guess).all() else "   wrong"
        target, guess = (self._spell(graph, labels) for labels in (target, guess))
        return f"target {target}   answer {guess}{wrong}"


def answers(
    outputs: Float[Array, "B T O"], episode: Episode
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The targets and the answers of a batch's first episode, triple by triple, as labels."""
    due = np.asarray(episode.mask[0]) > 0
    expected, given = (np.asarray(decode(rows[0]))[due] for rows in (episode.targets, outputs))
    return zip(expected, given, strict=True)


def first_of(tree: Any) -> Any:
    """The first episode of a batch, as NumPy arrays."""
    return jax.tree.map(lambda array: np.asarray(array[0]), tree)
