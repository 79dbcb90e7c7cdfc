"""One step of a walk to a goal: the network's input, the available edges, and the chosen edge.

Every function here handles ONE walk; `ShortestPath` lifts them over the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dncx.tasks.graphs.encoding import BLANK, digit_log_probs, encode
from dncx.tasks.graphs.random_graphs import Graph, choose, edges_exist, triples_from

NO_EDGE = -1e9  # the score of a slot without an edge: no chance in the softmax, but finite


class Query(NamedTuple):
    """A graph and two of its nodes.

    Attributes:
      graph: the graph of the episode.
      start: a row of the graph.
      goal: another row of the graph.
      distances: from each row to the goal.
      opening: the number of steps before the answer begins.
    """

    graph: Graph
    start: Int[Array, "*B"]
    goal: Int[Array, "*B"]
    distances: Int[Array, "*B N"]
    opening: Int[Array, "*B"]


class Edges(NamedTuple):
    """The edges that leave a node, slot by slot.

    Attributes:
      triples: their labels.
      log_probs: log-probabilities of the network's choice.
      right: whether a shortest path begins with the edge.
    """

    triples: Int[Array, "K 3"]
    log_probs: Float[Array, " K"]
    right: Bool[Array, " K"]


class Move(NamedTuple):
    """A step of the walk.

    Attributes:
      taken: the triple of the edge taken.
      onward: the row to which it leads.
      aim: the slot of a right edge.
      target: the triple of that right edge.
      counts: whether there is a right edge.
    """

    taken: Int[Array, "*B 3"]
    onward: Int[Array, "*B"]
    aim: Int[Array, "*B"]
    target: Int[Array, "*B 3"]
    counts: Bool[Array, "*B"]


def answer_inputs(
    last: Int[Array, "3"], going: Bool[Array, ""], index: Int[Array, ""]
) -> Float[Array, " F"]:
    """The triple taken last and the marks of an answer; zeros once the walk has ended."""
    marks = jnp.stack([going & (index == 0), going]).astype(jnp.float32)
    return jnp.concatenate([encode(jnp.where(going, last, BLANK)), marks])


def edges_from(query: Query, node: Int[Array, ""], output: Float[Array, " O"]) -> Edges:
    """The edges that leave a node, with probabilities from a softmax over sums of nine log p."""
    triples = triples_from(query.graph, node)
    exist = edges_exist(query.graph)[node]
    scores = (encode(triples).astype(output.dtype) * digit_log_probs(output)[None]).sum(axis=-1)
    nearer = query.distances[query.graph.destinations[node]] < query.distances[node]
    return Edges(
        triples=triples,
        log_probs=jax.nn.log_softmax(jnp.where(exist, scores, NO_EDGE)),
        right=exist & nearer,
    )


def move(
    key: Array,
    query: Query,
    node: Int[Array, ""],
    output: Float[Array, " O"],
    optimal_share: float | Array,
) -> Move:
    """Takes a right edge with probability `optimal_share`, else the network's most likely edge."""
    aim_key, guide_key = jax.random.split(key)
    edges = edges_from(query, node, output)
    counts = edges.right.any()
    aim = choose(aim_key, edges.right)
    guided = jax.random.bernoulli(guide_key, optimal_share) & counts
    slot = jnp.where(guided, aim, edges.log_probs.argmax())
    return Move(
        taken=edges.triples[slot],
        onward=query.graph.destinations[node, slot],
        aim=aim,
        target=edges.triples[aim],
        counts=counts,
    )
