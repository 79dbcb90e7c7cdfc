"""Inference: see a graph, then name the ends of relations whose meaning is never shown.

One episode with E triples, Q queries and P planning steps takes E + Q (P + 2) steps:

    phase     description    Q times: query            planning   answer
    inputs    the triples    (node, relation, -)       nothing    nothing
    targets   nothing        nothing                   nothing    (node, relation, node)

A relation is a sequence of edge labels (see relations.py); its end is reached by following these
edges one after the other. An answer is always one triple, so no END follows it. Not every node has
every relation: first the length of a query is drawn from the lesson's lengths that occur in the
graph (or shorter ones if none occurs), then a node and a relation of this length. The queries are
independent.
"""

import dataclasses
from typing import ClassVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dncx.tasks.base import Episode
from dncx.tasks.graphs.encoding import BLANK, answer, planning, question, sequence
from dncx.tasks.graphs.lessons import INFERENCE, Lesson
from dncx.tasks.graphs.random_graphs import choose_pair
from dncx.tasks.graphs.relations import (
    FIRST_NUMBER,
    LENGTHS,
    STAY,
    family_pairs,
    follow,
    relations,
)
from dncx.tasks.graphs.settings import InferenceGraph, InferenceSettings
from dncx.tasks.graphs.task import MOST_STEPS, GraphTask, answers, first_of

MOST_QUERIES = 2**10  # each one makes the compiled program longer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inference(InferenceSettings, GraphTask):
    """The paper's task; the arguments are `InferenceSettings`.

    On the family tree, queries use only named relations, of 2 to 4 edges.

    Raises:
      ValueError: if there is no such lesson or graph, if the graph is from a file, if there is no
        query, if a number of steps is negative, or if no relation has the given length.

    Source: Nature 2016, Methods, "Graph tasks", and Extended Data Table 4.
    """

    table: ClassVar = INFERENCE
    graphs: ClassVar = get_args(InferenceGraph)
    digit_edges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.graph_file is not None:
            raise ValueError("graph_file: inference needs random graphs or the family tree")
        lengths = LENGTHS if self.graph == "random" else LENGTHS[:-1]
        if self.path_length not in (0, *lengths):
            raise ValueError(
                f"path_length={self.path_length}: relations on graph={self.graph} have "
                f"{lengths[0]} to {lengths[-1]} edges; 0 means the lesson's"
            )
        if not 1 <= self.queries <= MOST_QUERIES:
            raise ValueError(f"queries={self.queries}: must be from 1 to {MOST_QUERIES}")
        if not 0 <= self.planning_steps <= MOST_STEPS:
            raise ValueError(
                f"planning_steps={self.planning_steps}: must be from 0 to {MOST_STEPS}"
            )

    def _draw(self, key: Array, bounds: Lesson) -> Episode:
        graph_key, order_key, query_key = jax.random.split(key, 3)
        graph = self._graph(graph_key, bounds)
        ends, lengths = follow(graph)
        if self.named is not None:
            lengths = jnp.where(family_pairs(self.named), lengths, 0)

        def ask(key: Array) -> Array:
            start, row = choose_pair(key, lengths, bounds, LENGTHS[-1])
            source, destination = graph.node_labels[jnp.stack([start, ends[start, row]])]
            return jnp.stack([source, FIRST_NUMBER + row, destination])[None]

        phases = []
        for triple in jax.vmap(ask)(jax.random.split(query_key, self.queries)):
            query = question(triple.at[0, 2].set(BLANK), 1)
            phases += [query, planning(self.planning_steps), answer(triple, 1)]
        return sequence(order_key, *self._triples(graph), phases, extra=graph)

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The queries with the edges of their relations, the targets and the answers."""
        graph = first_of(episode.extra)
        lines = [f"{graph.num_nodes} nodes, {graph.degrees.sum()} edges"]
        for target, guess in answers(outputs, episode):
            edges = relations().sequences[target[1] - FIRST_NUMBER]
            means = "-".join(str(edge) for edge in edges if edge != STAY)
            line = self._comparison(graph, target, guess)
            lines.append(f"relation {target[1]}, edges {means}: {line}")
        return "\n".join(lines)

    @property
    def _relation_names(self) -> dict[int, str]:
        if self.named is None:
            return {}
        return {FIRST_NUMBER + row: name for row, name in relations().names.items()}
