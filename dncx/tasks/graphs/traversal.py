"""Traversal: see a graph and the edges of a path, then name each triple along it.

One episode with E triples and a path of L edges takes E + 2 L + 1 steps:

    phase     description    query                           answer
    inputs    the triples    (node, edge 1, -), (-, edge 2, -), ...   nothing
    targets   nothing        nothing                         the path's triples, then END

There is one query for each graph; the paper mentions several only for inference.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dncx.tasks.base import Episode
from dncx.tasks.graphs.encoding import BLANK, END, answer, question, sequence
from dncx.tasks.graphs.lessons import TRAVERSAL, Lesson
from dncx.tasks.graphs.random_graphs import random_walk, whole
from dncx.tasks.graphs.settings import TraversalSettings
from dncx.tasks.graphs.task import GraphTask, answers, first_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traversal(TraversalSettings, GraphTask):
    """The paper's task; the arguments are `TraversalSettings`.

    Raises:
      ValueError: if there is no such lesson or graph, or the length is negative.

    Source: Nature 2016, Methods, "Graph tasks", and Extended Data Table 3.
    """

    table: ClassVar = TRAVERSAL

    def _draw(self, key: Array, bounds: Lesson) -> Episode:
        graph_key, length_key, walk_key, order_key = jax.random.split(key, 4)
        graph = self._graph(graph_key, bounds)
        length = whole(length_key, (), bounds.min_length, bounds.max_length)
        path = random_walk(walk_key, graph, self.most.max_length)
        query = path.at[:, 2].set(BLANK).at[1:, 0].set(BLANK)
        end = jnp.array([END], jnp.int32)
        targets = jnp.concatenate([path, end]).at[length].set(end[0])
        phases = [question(query, length), answer(targets, length + 1)]
        return sequence(order_key, *self._triples(graph), phases, extra=graph)

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The query, and the triples of the path with those of the answer."""
        graph = first_of(episode.extra)
        lines = [
            f"{graph.num_nodes} nodes, {graph.degrees.sum()} edges; "
            f"a path of {episode.mask[0].sum() - 1:.0f} from its start and its edges"
        ]
        lines += [self._comparison(graph, *pair) for pair in answers(outputs, episode)]
        return "\n".join(lines)
