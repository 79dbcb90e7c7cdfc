"""The graph tasks: graphs and episodes against their definitions, answers against plain search."""

import gzip
import math
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest

from dncx.cli.main import main
from dncx.tasks.base import Episode, Interactive
from dncx.tasks.curriculum import Course
from dncx.tasks.graphs import lessons, named_graphs, random_graphs, relations, walking
from dncx.tasks.graphs.encoding import BLANK, END, decode, encode
from dncx.tasks.graphs.inference import Inference
from dncx.tasks.graphs.lessons import Lesson
from dncx.tasks.graphs.random_graphs import FAR, Graph
from dncx.tasks.graphs.shortest_path import ShortestPath
from dncx.tasks.graphs.task import first_of
from dncx.tasks.graphs.traversal import Traversal

TASKS = (Traversal, Inference, ShortestPath)
BATCH = 48
PLANNING = 2


draw = jax.jit(lambda key, task, batch: task.sample(key, batch), static_argnums=(1, 2))


def sampled(task, batch=BATCH, seed=0):
    return draw(jax.random.key(seed), task, batch)


judge = jax.jit(
    lambda task, outputs, episode: (task.score(outputs, episode), task.loss(outputs, episode)),
    static_argnums=0,
)


@pytest.fixture(scope="module")
def traversal():
    task = Traversal().at_lesson(3, earlier_share=0.5)
    return task, sampled(task)


@pytest.fixture(scope="module")
def inference():
    task = Inference(last_lesson=15, planning_steps=PLANNING)
    return task, sampled(task)


@pytest.fixture(scope="module")
def shortest():
    task = ShortestPath(last_lesson=7, planning_steps=PLANNING, spare_steps=2)
    return task, sampled(task)


@pytest.fixture(scope="module")
def underground():
    task = Traversal(graph="underground", path_length=7)
    return task, sampled(task, 3)


@pytest.fixture(scope="module")
def family():
    task = Inference(graph="family-tree", path_length=4)
    return task, sampled(task, 8)


def labels(rows):
    """The triples of one-hot rows; BLANK where there is no label."""
    rows = np.asarray(rows)[:, :90]
    shown = rows.reshape(-1, 3, 30).any(-1)
    return [tuple(row) for row in np.where(shown, np.asarray(decode(jnp.asarray(rows))), BLANK)]


def one(episode, index):
    return jax.tree.map(lambda array: np.asarray(array[index]), episode)


def edges_of(graph):
    """The triples of a graph, from its arrays."""
    return [
        (graph.node_labels[node], label, graph.node_labels[end])
        for node in range(graph.num_nodes)
        for label, end in list(zip(graph.edge_labels[node], graph.destinations[node], strict=True))[
            : graph.degrees[node]
        ]
    ]


def triples_of(named):
    """All edges of a named graph by their names."""
    return [
        (named.nodes[node], named.edges[edge], named.nodes[destination])
        for node, degree in enumerate(named.degrees)
        for edge, destination in zip(
            named.edge_names[node, :degree], named.destinations[node, :degree], strict=True
        )
    ]


def fewest_steps(triples, goal):
    """From each node to the goal, by networkx along the edges backwards."""
    backwards = networkx.DiGraph([(end, start) for start, _, end in triples])
    backwards.add_node(goal)
    return dict(networkx.single_source_shortest_path_length(backwards, goal))


# Random graphs


@pytest.fixture(scope="module")
def graphs():
    """20 graphs for each lesson of the three tables, made by one program."""
    rows = [*lessons.TRAVERSAL, *lessons.INFERENCE, *lessons.SHORTEST_PATH] * 20
    bounds = Lesson(*(jnp.array(column) for column in zip(*rows, strict=True)))
    make = jax.jit(jax.vmap(lambda key, row: random_graphs.random_graph(key, row, 40, 6)))
    made = make(jax.random.split(jax.random.key(0), len(rows)), bounds)
    return [(row, one(made, index)) for index, row in enumerate(rows)]


def test_nodes_and_degrees_stay_within_the_lesson(graphs):
    """A node of a graph of N has at most N - 1 neighbours, whatever the lesson allows."""
    for bounds, graph in graphs:
        assert bounds.min_nodes <= graph.num_nodes <= bounds.max_nodes
        degrees = graph.degrees[: graph.num_nodes]
        most = min(bounds.max_degree, graph.num_nodes - 1)
        assert bounds.min_degree <= degrees.min()
        assert degrees.max() <= most
        assert not graph.degrees[graph.num_nodes :].any()


def test_bounds_are_reached(graphs):
    """Both ends are drawn: 10 and 40 nodes, 2 and 6 edges in the last lessons of traversal."""
    last = [graph for bounds, graph in graphs if bounds in lessons.TRAVERSAL[-2:]]
    assert {2, 3, 4, 5, 6} == {int(d) for graph in last for d in graph.degrees if d}
    assert min(graph.num_nodes for graph in last) < 14
    assert max(graph.num_nodes for graph in last) > 36
    assert {3, 10} <= {int(g.num_nodes) for bounds, g in graphs if bounds.min_nodes == 3}


def test_labels_are_unique_where_they_must_be(graphs):
    """Nodes in the graph, edges at their node; N numbers serve for all edges of the graph."""
    for _, graph in graphs:
        triples = edges_of(graph)
        nodes = graph.node_labels[: graph.num_nodes]
        assert len(set(nodes)) == graph.num_nodes
        assert len({(source, edge) for source, edge, _ in triples}) == len(triples)
        assert len({(source, end) for source, _, end in triples}) == len(triples)
        assert all(source != end for source, _, end in triples)
        assert {end for *_, end in triples} <= set(nodes)
        assert len({edge for _, edge, _ in triples}) <= graph.num_nodes
        assert all(0 <= number < 1000 for triple in triples for number in triple)


def test_edges_lead_to_the_nearest_points():
    points = jax.random.uniform(jax.random.key(1), (9, 2))
    found = np.asarray(random_graphs.nearest(points, jnp.arange(9) < 7, 3))
    for node in range(7):
        others = [other for other in range(7) if other != node]
        others.sort(key=lambda other: math.dist(points[node], points[other]))
        assert found[node].tolist() == others[:3]


def test_edges_of_inference_are_digits(inference):
    for index in range(BATCH):
        triples = edges_of(one(inference[1], index).extra)
        assert {edge for _, edge, _ in triples} <= set(range(10))
        assert len({(source, edge) for source, edge, _ in triples}) == len(triples)


def test_distances_are_those_of_networkx(graphs):
    chosen = [graph for _, graph in graphs][:94:2]
    found = jax.jit(jax.vmap(random_graphs.distances))(
        jax.tree.map(lambda *arrays: jnp.stack(arrays), *chosen)
    )
    far = 0
    for graph, rows in zip(chosen, np.asarray(found), strict=True):
        nodes = graph.node_labels[: graph.num_nodes].tolist()
        for goal, column in zip(nodes, rows[: len(nodes), : len(nodes)].T, strict=True):
            steps = fewest_steps(edges_of(graph), goal)
            assert column.tolist() == [steps.get(node, FAR) for node in nodes]
            far += len(nodes) - len(steps)
    assert far > 0  # some pairs have no way between them


# Choices


def drawn_lengths(table, low, high):
    bounds = Lesson(0, 0, 0, 0, low, high)
    keys = jax.random.split(jax.random.key(3), 3000)
    draw = jax.vmap(lambda key: random_graphs.choose_pair(key, table, bounds, 5))
    rows, columns = draw(keys)
    return Counter(zip(rows.tolist(), columns.tolist(), strict=True))


def test_lengths_are_drawn_first_then_their_pairs():
    """Length 2 is at three pairs, 3 at one: each length gets half; a length of 0 is none."""
    table = jnp.array([[0, 2, 2], [2, 3, 0], [5, 0, 1]])
    found = drawn_lengths(table, 2, 4)
    assert set(found) == {(0, 1), (0, 2), (1, 0), (1, 1)}
    assert abs(found[1, 1] - 1500) < 150
    assert all(abs(found[pair] - 500) < 120 for pair in [(0, 1), (0, 2), (1, 0)])


def test_shorter_pairs_serve_where_there_is_no_other():
    assert set(drawn_lengths(jnp.array([[0, 1], [5, 1]]), 2, 4)) == {(0, 1), (1, 1)}


# Sequences


def check_phases(episode, lengths, answers):
    """The description, then phases of these lengths without a gap; the marks stand where they do.

    `answers` says which of the phases are answers. Returns where each phase starts.
    """
    graph = episode.extra.graph if hasattr(episode.extra, "graph") else episode.extra
    shown, triples = labels(episode.inputs), edges_of(graph)
    start = len(triples)
    assert Counter(shown[:start]) == Counter(triples)
    starts = [start]
    for length in lengths:
        starts.append(starts[-1] + length)
    opens, answering = np.zeros(len(shown)), np.zeros(len(shown))
    for first, length, is_answer in zip(starts, lengths, answers, strict=False):
        opens[first : first + min(length, 1)] = 1
        answering[first : first + length] = is_answer
    np.testing.assert_array_equal(episode.inputs[:, 90], opens)
    np.testing.assert_array_equal(episode.inputs[:, 91], answering)
    np.testing.assert_array_equal(episode.mask, answering)
    assert not episode.targets[answering == 0].any()
    assert not episode.inputs[starts[-1] :].any()
    assert all(shown[step] == (BLANK,) * 3 for step in answering.nonzero()[0])
    return starts


def test_traversal_can_be_solved_from_what_is_shown(traversal):
    """The description and the query determine the targets: the walk, and END after it."""
    lengths = Counter()
    for index in range(BATCH):
        episode = one(traversal[1], index)
        length = int(episode.mask.sum()) - 1
        starts = check_phases(episode, [length, length + 1], [False, True])
        shown, targets = labels(episode.inputs), labels(episode.targets)
        way = {(source, edge): end for source, edge, end in shown[: starts[0]]}
        node, edges = shown[starts[0]][0], shown[starts[0] : starts[1]]
        walk = []
        for source, edge, end in edges:
            assert source == (node if not walk else BLANK)
            assert end == BLANK
            here = walk[-1][2] if walk else node
            walk.append((here, edge, way[here, edge]))
        assert targets[starts[1] : starts[2]] == [*walk, END]
        lengths[length] += 1
    assert set(lengths) == {1, 2, 3}


def test_inference_can_be_solved_from_what_is_shown_and_the_relations(inference):
    """Each relation's edges, followed through the description, lead to the target."""
    known = relations.relations()
    lengths = Counter()
    for index in range(BATCH):
        episode = one(inference[1], index)
        phases = [1, PLANNING, 1] * 3
        starts = check_phases(episode, phases, [False, False, True] * 3)
        shown, targets = labels(episode.inputs), labels(episode.targets)
        way = {(source, edge): end for source, edge, end in shown[: starts[0]]}
        for first in starts[:-1:3]:
            node, relation, end = shown[first]
            assert end == BLANK
            row = relation - relations.FIRST_NUMBER
            for edge in known.sequences[row][: known.lengths[row]]:
                end = way[node if end == BLANK else end, edge]
            assert targets[first + 1 + PLANNING] == (node, relation, end)
            lengths[int(known.lengths[row])] += 1
    assert set(lengths) == {2, 3, 4, 5}


def test_shortest_path_opens_with_the_graph_and_two_nodes(shortest):
    """Their distance, by plain search, is within the lesson's 2 to 4."""
    task, episodes = shortest
    distances = Counter()
    for index in range(BATCH):
        episode = one(episodes, index)
        starts = check_phases(episode, [1, PLANNING], [False, False])
        assert starts[-1] == task.opening_lengths(episodes)[index]
        shown = labels(episode.inputs)
        source, edge, goal = shown[starts[0]]
        assert edge == BLANK
        distances[fewest_steps(shown[: starts[0]], goal)[source]] += 1
    assert set(distances) == {2, 3, 4}


def test_descriptions_are_in_random_order(traversal):
    """The edge shown first is now this one of the graph's, now that one."""
    places = set()
    for index in range(BATCH):
        episode = one(traversal[1], index)
        places.add(edges_of(episode.extra).index(labels(episode.inputs)[0]))
    assert len(places) > 10


def test_the_key_makes_the_batch(traversal):
    task, episodes = traversal
    again, other = sampled(task), sampled(task, seed=1)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), episodes, again))
    assert not (episodes.inputs == other.inputs).all()


# Labels as digits, loss and scores


def test_labels_become_digits_and_back():
    triples = jnp.array([[7, 580, 999], [0, 10, 103]])
    rows = np.asarray(encode(triples)).reshape(2, 9, 10)
    assert rows.argmax(-1).tolist() == [[0, 0, 7, 5, 8, 0, 9, 9, 9], [0, 0, 0, 0, 1, 0, 1, 0, 3]]
    assert (rows.sum(-1) == 1).all()
    assert (decode(encode(triples)) == triples).all()
    blank = np.asarray(encode(jnp.array([5, BLANK, BLANK])))
    assert blank[:30].sum() == 3
    assert not blank[30:].any()


def test_end_is_no_triple_of_any_graph(graphs):
    """Source and destination differ in every graph, random or named."""
    assert END[0] == END[2]
    named = [triples_of(named_graphs.named_graph(name)) for name in ("underground", "family-tree")]
    for triples in [edges_of(graph) for _, graph in graphs] + named:
        assert all(source != end for source, _, end in triples)


def test_loss_is_the_sum_of_nine_cross_entropies_by_hand(traversal):
    task, episodes = traversal
    outputs = jax.random.normal(jax.random.key(5), episodes.targets.shape)
    logits = np.asarray(outputs, np.float64).reshape(BATCH, -1, 9, 10)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = 0.0
    for b, t in np.argwhere(np.asarray(episodes.mask) > 0):
        digits = "".join(f"{label:03d}" for label in decode(episodes.targets[b, t]).tolist())
        total -= sum(log_p[b, t, place, int(digit)] for place, digit in enumerate(digits))
    assert float(judge(task, outputs, episodes)[1]) == pytest.approx(total / BATCH, rel=1e-5)


@pytest.mark.parametrize("name", ["traversal", "inference"])
def test_one_wrong_digit_is_one_wrong_triple(name, request):
    """And what is said at steps that do not count is not judged."""
    task, episodes = request.getfixturevalue(name)
    noise = jax.random.normal(jax.random.key(2), episodes.targets.shape)
    outputs = jnp.where(episodes.mask[..., None] > 0, 30 * episodes.targets, noise)
    scores, loss = judge(task, outputs, episodes)
    assert {name: float(share) for name, share in scores.items()} == dict(
        sequence_error=0, triple_error=0
    )
    assert float(loss) < 1e-3
    step = int(episodes.mask[4].argmax())
    wrong = outputs.at[4, step, 80:90].set(jnp.roll(outputs[4, step, 80:90], 1))
    scores, _ = judge(task, wrong, episodes)
    assert float(scores["sequence_error"]) == pytest.approx(1 / BATCH)
    assert float(scores["triple_error"]) == pytest.approx(1 / float(episodes.mask.sum()))
    text = task.render(wrong[4:], jax.tree.map(lambda array: array[4:], episodes))
    assert text.count("wrong") == 1


# Relations and named graphs


def test_relations_are_a_hundred_of_each_length():
    found = relations.relations()
    assert Counter(found.lengths.tolist()) == {2: 100, 3: 100, 4: 100, 5: 100}
    assert len({tuple(row) for row in found.sequences.tolist()}) == 400
    for row, length in zip(found.sequences, found.lengths, strict=True):
        assert row[:length].max() < 10
        assert (row[length:] == relations.STAY).all()


def test_relations_never_change():
    """A trained network knows them by their numbers: this sum is part of the task."""
    weights = np.arange(1, 401)[:, None] * np.arange(1, 6)[None]
    assert int((relations.relations().sequences * weights).sum()) == 7109876


def test_numbers_tell_nothing_of_the_edges():
    """Or else a network could read a sequence off its number."""
    found = relations.relations()
    for length in range(2, 6):
        rows = found.sequences[found.lengths == length][:, :length]
        number = rows @ 10 ** np.arange(length)[::-1]
        assert abs(np.corrcoef(np.arange(100), number)[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "degrees"),
    [("underground", 25, 88, {2, 3, 4, 5, 6}), ("family-tree", 23, 54, {1, 2, 3, 4})],
)
def test_named_graphs(name, nodes, edges, degrees):
    """Every edge has one back; every node can be reached; names are unique at each node."""
    named = named_graphs.named_graph(name)
    triples = triples_of(named)
    assert (len(named.nodes), len(triples)) == (nodes, edges)
    assert set(named.degrees.tolist()) == degrees
    pairs = Counter((source, end) for source, _, end in triples)
    assert set(pairs.values()) == {1}
    assert {(end, source) for source, end in pairs} == set(pairs)
    assert len({(source, edge) for source, edge, _ in triples}) == edges
    steps = [fewest_steps(triples, goal) for goal in named.nodes]
    assert all(len(found) == nodes for found in steps)
    assert named_graphs.diameter(named) == max(max(found.values()) for found in steps)


def test_the_underground_is_londons():
    triples = triples_of(named_graphs.named_graph("underground"))
    assert {
        ("Oxford Circus", "Central-E", "Tottenham Court Road"),
        ("Victoria", "Victoria-N", "Green Park"),
        ("Bank", "Waterloo & City-W", "Waterloo"),
    } <= set(triples)


def test_the_family_is_one():
    """Parents are a father and a mother, generation by generation, and children are theirs."""
    triples = triples_of(named_graphs.named_graph("family-tree"))
    up = {(source, end): edge for source, edge, end in triples if edge in ("father", "mother")}
    down = {(source, end): edge for source, edge, end in triples if edge in ("son", "daughter")}
    assert {(child, parent) for parent, child in down} == set(up)
    for person in {end for _, end in [*up, *down]}:  # one sex each
        assert len({up[pair] for pair in up if pair[1] == person}) <= 1
        assert len({down[pair] for pair in down if pair[1] == person}) <= 1
    for _ in range(4):  # nobody is their own ancestor: after four generations all are gone
        children = {child for child, _ in up}
        up = {pair: edge for pair, edge in up.items() if pair[1] in children}
    assert up == {}


def test_every_relative_with_a_name_has_a_number():
    """So a network trained on random graphs has met it; and somebody in the tree has one."""
    tree, known = named_graphs.named_graph("family-tree"), relations.relations()
    assert sorted(known.names.values()) == sorted(relations.kinship(tree).values())
    pairs = relations.family_pairs(tree)
    assert set(pairs.any(0).nonzero()[0]) == set(known.names)
    has = {(tree.nodes[person], known.names[row]) for person, row in np.argwhere(pairs).tolist()}
    assert ("Tina", "mother's mother's brother") in has  # Henry
    assert ("Ian", "sister") in has
    assert ("Julia", "sister") not in has  # she would be her own
    assert ("Rose", "father's sister's daughter") in has  # Tina
    assert ("Wanda", "mother's mother") not in has


def test_the_underground_is_walked_by_name(underground):
    """Seven steps; numbers differ from episode to episode, the map does not."""
    task, episodes = underground
    known = set(triples_of(task.named))
    for index in range(3):
        episode = one(episodes, index)
        assert len(edges_of(episode.extra)) == 88
        nodes, edges = named_graphs.names_of(episode.extra, task.named)
        path = labels(episode.targets[episode.mask > 0])
        assert len(path) == 8
        assert {(nodes[a], edges[e], nodes[b]) for a, e, b in path[:-1]} <= known
    assert not (episodes.extra.node_labels[0] == episodes.extra.node_labels[1]).all()
    text = task.render(30 * episodes.targets, episodes)
    names = [f"({', '.join(triple)})" for triple in known]
    first = text.splitlines()[1]
    assert any(first == f"target {name}   answer {name}" for name in names)
    assert text.splitlines()[-1] == "target end   answer end"


def test_the_family_is_asked_for_relatives(family):
    """Edges keep their digits, so that relations stay what they are."""
    task, episodes = family
    tree, known = task.named, relations.relations()
    kin = {name: edges for edges, name in relations.kinship(tree).items()}
    names = {edge: number for number, edge in enumerate(tree.edges)}
    way = {(source, names[edge]): end for source, edge, end in triples_of(tree)}
    for index in range(8):
        episode = one(episodes, index)
        nodes, edges = named_graphs.names_of(episode.extra, tree)
        assert edges == dict(enumerate(tree.edges))
        for start, relation, end in labels(episode.targets[episode.mask > 0]):
            path = kin[known.names[relation - relations.FIRST_NUMBER]]
            assert len(path) == 4
            person = nodes[start]
            for edge in path:
                person = way[person, edge]
            assert person == nodes[end] != nodes[start]
    text = task.render(30 * episodes.targets, episodes)
    assert text.startswith("23 nodes, 54 edges\nrelation ")
    assert any(name in text for name in kin)


# Tables of triples

TABLE = [("A", "e", "B"), ("B", "e", "A"), ("B", "f", "C"), ("C", "g", "A")]


def table(separator=",", heading=("source", "edge", "destination"), end="\n", rows=TABLE):
    return "".join(separator.join(row) + end for row in (heading, *rows))


def in_order(*columns):
    """The table with its columns in another order."""
    heading = ("source", "edge", "destination")
    places = [heading.index(column) for column in columns]
    return table(heading=columns, rows=[[row[place] for place in places] for row in TABLE])


@pytest.mark.parametrize(
    "content",
    {
        "as documented": table(),
        "semicolons": table(";"),
        "tabs": table("\t"),
        "blanks at the ends": table(" , "),
        "tabs at the ends": table("\t,"),
        "quoted": table('","', end='"\n').replace("\n", '\n"')[:-1].replace("source", '"source', 1),
        "quoted, blanks after commas": '"source", "edge", "destination"\n'
        '"A", "e", "B"\n"B", "e", "A"\n"B", "f", "C"\n"C", "g", "A"\n',
        "other order": in_order("destination", "source", "edge"),
        "capitals in the heading": table(heading=("Source", "EDGE", " Destination ")),
        "Windows lines": table(end="\r\n"),
        "old Mac lines": table(end="\r"),
        "no end of the last line": table()[:-1],
        "blank lines": "\n\n" + table(end="\n\n \n") + "\n",
        "blank rows of a spreadsheet": table(end="\n,,\n"),
        "padded rows": table(end=",,\n"),
        "byte order mark": "\ufeff" + table(),
        "mark and quotes": "\ufeff" + table().replace("source", '"source"'),
        "separator stated": "sep=;\n" + table(";"),
        "separator stated, quoted": '"sep=;"\r\n' + table(";", end="\r\n"),
        "invisible characters": table().replace("B,", "\u200bB\u00a0,"),
        "a quoted line break": table().replace("A,", '"A\n",'),
    }.items(),
    ids=lambda item: item[0],
)
def test_tables_that_are_read(tmp_path, content):
    path = tmp_path / "map.csv"
    path.write_text(content[1], encoding="utf-8", newline="")
    graph = named_graphs.read_graph(path)
    assert (graph.nodes, graph.edges) == (("A", "B", "C"), ("e", "f", "g"))
    assert sorted(triples_of(graph)) == TABLE


def test_names_that_look_the_same_are_the_same(tmp_path):
    """Composed and decomposed accents, doubled and no-break blanks; inner commas are kept."""
    path = tmp_path / "map.csv"
    rows = ['Ca\u0301diz,to  the\u00a0sea,"Bath, UK"', '"Bath, UK" ,back,C\u00e1diz']
    path.write_text("\n".join(["source,edge,destination", *rows]), encoding="utf-8")
    graph = named_graphs.read_graph(path)
    assert graph.nodes == ("C\u00e1diz", "Bath, UK")
    assert graph.edges == ("to the sea", "back")


@pytest.mark.parametrize(
    ("content", "line", "cause"),
    [
        (table(heading=("from", "edge", "to")), 1, "source or destination"),
        (table(heading=("source", "edge")), 1, "no column destination"),
        (table(heading=("source", "edge", "edge")), 1, '"edge" twice'),
        (table(heading=("source", "edge", "destination", "minutes")), 1, '"minutes"'),
        (table()[len("source,edge,destination\n") :], 1, "not the heading"),
        (table("|"), 1, "source|edge|destination"),
        (table(" "), 1, "source edge destination"),
        (table() + "a,b\n", 6, '"a,b"'),
        (table() + "a, ,b\n", 6, "three names"),
        (table() + "a;b;c\n", 6, "commas"),
        (table(";") + "a,b,c\n", 6, "semicolons"),
        (table() + "A ,e,C\n", 6, 'edge "e" leaves "A" twice'),
        (table() + "C,e, C\n", 6, 'from "C" to itself'),
        (table() + "A,f, D \n", 6, 'no edge leaves "D"'),
        (table() + 'A,f,"D\nE"\nA,h,B\n', 6, 'no edge leaves "D E"'),
        (table().replace("e,B", '"e\n\n",B') + "a,b\n", 8, '"a,b"'),
        (table(end="\r\n") + "a,b\r\n", 6, '"a,b"'),
        ("\ufeff\n\n" + table() + "a,b\n", 8, '"a,b"'),
        ("sep=;\n" + table(";") + "a;b\n", 7, '"a;b"'),
        (table() + 'A,"f,B\nA,g,B\n', 6, "three names"),  # a quotation mark that nothing closes
        (table() + 'A,f,"B\nA,g,B\n', 6, '"B A,g,B"'),
        (table() + f"A,{'f' * 200_000},B\n", 6, "limit"),
    ],
)
def test_tables_name_the_line_that_is_wrong(tmp_path, content, line, cause):
    path = tmp_path / "map.csv"
    path.write_text(content, encoding="utf-8", newline="")
    with pytest.raises(ValueError) as raised:
        named_graphs.read_graph(path)
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert cause in str(raised.value)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"\n \n\r\n", "empty"),
        ("\ufeff".encode(), "empty"),
        (table().encode("utf-16"), "UTF-16"),
        (table().encode("utf-16-be"), "UTF-16"),
        (table().encode("utf-16-le"), "UTF-16"),
        (table().encode("utf-32"), "UTF-32"),
        (table().replace("C", "Z\u00fcrich").encode("cp1252"), "line 4: byte 0xFC"),
        (gzip.compress(table().encode(), mtime=0), "gzip"),
        (b"PK\x03\x04" + bytes(100), "workbook"),
        (b"\x93NUMPY\x01\0", "binary"),
        (table(rows=()).encode(), "no rows"),
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, content, cause):
    path = tmp_path / "map.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=cause) as raised:
        named_graphs.read_graph(path)
    assert str(path) in str(raised.value)


def test_a_relative_file_is_that_of_the_present_folder(tmp_path, monkeypatch):
    for name in ("A", "Z"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "map.csv").write_text(table().replace("A", name))
        monkeypatch.chdir(folder)
        assert name in named_graphs.own_graph(Path("map.csv")).nodes


# The dialogue of shortest path


def hand_graph():
    """0 -> 1 -> 2 -> 3, a longer way 0 -> 4 -> 5 -> 2 or 1, and a trap: 1 -> 6 -> 7 -> 6."""
    ways = {0: [4, 1], 1: [2, 6], 2: [3], 3: [0], 4: [5], 5: [2, 1], 6: [7], 7: [6]}
    destinations = np.zeros((8, 2), np.int32)
    for node, ends in ways.items():
        destinations[node, : len(ends)] = ends
    return Graph(
        num_nodes=jnp.asarray(8),
        node_labels=jnp.arange(8) * 11,
        degrees=jnp.array([len(ends) for ends in ways.values()]),
        destinations=jnp.asarray(destinations),
        edge_labels=jnp.array([[500, 501]] * 8),
    )


@partial(jax.jit, static_argnums=(0, 2, 3))
def converse(task, slots, batch, training):
    """From 0 to 3 in the hand graph, by a network that wants these slots at its nodes."""
    graph = hand_graph()
    far = random_graphs.distances(graph)[:, 3]
    query = walking.Query(graph, jnp.asarray(0), jnp.asarray(3), far, jnp.asarray(24))
    query = jax.tree.map(lambda array: jnp.broadcast_to(array, (batch, *array.shape)), query)
    nothing = jnp.zeros((batch, 1, 92))
    start = Episode(nothing, nothing[..., :90], nothing[..., 0], query)
    triples = jax.vmap(walking.triples_from, (None, 0))(graph, jnp.arange(8))
    wishes = encode(triples[jnp.arange(8), slots])

    def step(state, inputs):
        seen = jnp.where(inputs[:, :90].any(axis=-1), decode(inputs[:, :90])[:, 2] // 11, 0)
        return state + 1, 30 * wishes[seen]

    keys = jax.random.split(jax.random.key(0), batch)
    outputs, episode = task.converse(step, jnp.zeros(()), start, keys, training)
    return outputs, episode, task.score(outputs, episode), task.loss(outputs, episode)


def conversation(task, slots, batch=1, training=False):
    """The outputs, the episode, and how they are judged; slots by node, 0 where it is not said."""
    slots = jnp.array([slots.get(node, 0) for node in range(8)])
    outputs, episode, scores, loss = converse(task, slots, batch, training)
    return outputs, episode, {name: float(share) for name, share in scores.items()}, float(loss)


RIGHT = {0: 1, 1: 0}
SHORT = ShortestPath(last_lesson=4)  # paths up to 3


def test_a_network_that_is_right_makes_no_errors():
    """It walks 0, 1, 2, 3; its last action is its next input; then nothing is left to do."""
    outputs, episode, scores, loss = conversation(SHORT, RIGHT)
    assert scores == dict(path_error=0, detour_error=0, edge_error=0)
    assert loss < 1e-3
    path = [(0, 501, 11), (11, 500, 22), (22, 500, 33)]
    assert labels(episode.targets[0]) == [*path, (BLANK,) * 3]
    assert labels(episode.inputs[0]) == [(BLANK,) * 3, *path[:2], (BLANK,) * 3]
    assert episode.inputs[0, :, 90:].tolist() == [[1, 1], [0, 1], [0, 1], [0, 0]]
    assert episode.mask.tolist() == [[1, 1, 1, 0]]
    assert episode.extra.nodes.tolist() == [[0, 1, 2, 3, 3]]
    assert SHORT.render(outputs, episode).splitlines() == [
        "8 nodes, 11 edges; (0, ?, 33): at least 3 steps",
        "taken (0, 501, 11)",
        "taken (11, 500, 22)",
        "taken (22, 500, 33)",
        "arrived",
    ]


def test_one_step_too_many_is_forgiven_by_the_gate_only():
    """0, 4, 5, 2, 3: the first choice is wrong, and the right ones are recomputed from there."""
    outputs, episode, scores, _ = conversation(SHORT, {0: 0})
    assert scores == dict(path_error=1, detour_error=0, edge_error=0.25)
    assert labels(episode.targets[0])[1:] == [(44, 500, 55), (55, 500, 22), (22, 500, 33)]
    text = SHORT.render(outputs, episode)
    assert "taken (0, 500, 44)   wrong, (0, 501, 11) is right" in text


def test_where_no_way_is_left_nothing_counts():
    """In the trap there is no right edge to learn; the walk goes on and does not arrive."""
    outputs, episode, scores, _ = conversation(SHORT, {0: 1, 1: 1})
    assert episode.extra.nodes.tolist() == [[0, 1, 6, 7, 6]]
    assert episode.mask.tolist() == [[1, 1, 0, 0]]
    assert scores == dict(path_error=1, detour_error=1, edge_error=0.5)
    text = SHORT.render(outputs, episode)
    assert "no path leads to the destination" in text
    assert text.endswith("did not arrive")


def test_walks_end_after_the_spare_steps():
    """The path has 3, so this one ends after 5, though others of the lesson would go on to 7."""
    task = ShortestPath(last_lesson=10, spare_steps=2)
    _, episode, scores, _ = conversation(task, {0: 0, 5: 1})
    assert episode.extra.nodes.tolist() == [[0, 4, 5, 1, 2, 3, 3, 3]]
    assert scores["detour_error"] == 1  # it arrives, but two steps late
    _, episode, *_ = conversation(task, {0: 0, 5: 1, 1: 1})
    assert episode.extra.nodes.tolist() == [[0, 4, 5, 1, 6, 7, 7, 7]]
    assert episode.inputs[0, :, 91].tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_training_follows_the_optimal_policy_for_its_share():
    """A network that is always wrong at 0: with beta 0.8, a fifth of the walks begin its way."""
    _, episode, scores, _ = conversation(SHORT, {0: 0}, batch=1000, training=True)
    wrong = (episode.extra.nodes[:, 1] == 4).mean()
    assert 0.15 < float(wrong) < 0.25
    assert float(scores["path_error"]) == pytest.approx(float(wrong))
    assert 1 / 4 < scores["edge_error"] < 1 / 3  # its own choice at 0, in walks of 4 and of 3


def test_loss_is_over_the_edges_that_leave_the_node():
    """A network without an opinion pays log 2 at a fork and nothing where one edge leaves."""
    outputs, episode, *_ = conversation(SHORT, RIGHT)
    assert float(judge(SHORT, 0 * outputs, episode)[1]) == pytest.approx(2 * math.log(2), rel=1e-6)
    opinion = jnp.zeros((1, 4, 90)).at[0, 0, 50:60].set(jnp.arange(10.0))  # last digit of the edge
    expected = math.log(2) + math.log(1 + math.exp(-1))  # 501 has one more than 500
    assert float(judge(SHORT, opinion, episode)[1]) == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def moves():
    """share -> 400 moves at node 0, both of whose edges are right, by a network that wants one."""
    graph = hand_graph()
    graph = graph._replace(destinations=graph.destinations.at[4, 0].set(2))
    far = random_graphs.distances(graph)[:, 3]
    query = walking.Query(graph, jnp.asarray(0), jnp.asarray(3), far, jnp.asarray(0))
    wish = 30 * encode(walking.triples_from(graph, query.start)[0])
    keys = jax.random.split(jax.random.key(0), 400)
    move = jax.jit(jax.vmap(walking.move, (0, None, None, None, None)))
    return lambda share: move(keys, query, query.start, wish, share)


def test_right_edges_are_drawn_where_there_are_several(moves):
    """Either is the target, and with the optimal policy the way."""
    made = moves(1.0)
    assert 150 < int(made.aim.sum()) < 250
    assert ((made.onward == 1) == (made.aim == 1)).all()


def test_without_guidance_the_most_likely_edge_is_taken(moves):
    """Whatever the target is."""
    made = moves(0.0)
    assert (made.onward == 4).all()
    assert 150 < int(made.aim.sum()) < 250


def test_gradients_flow_through_the_dialogue(shortest):
    """A linear network on sampled episodes: jit, a scan, finite gradients that are not zero."""
    task, episodes = shortest
    weights = jax.random.normal(jax.random.key(0), (92, 90))

    def loss(weights):
        def step(state, inputs):
            return state, inputs @ weights

        keys = jax.random.split(jax.random.key(1), len(episodes.inputs))
        outputs, steps = task.converse(step, (), episodes, keys, True)
        return task.loss(outputs, steps), (outputs, steps)

    gradients, (outputs, steps) = jax.jit(jax.grad(loss, has_aux=True))(weights)
    assert np.isfinite(gradients).all()
    assert (gradients[:30] != 0).any()  # what depends on the action fed back
    assert outputs.shape == (BATCH, 6, 90)
    for index in range(BATCH):
        episode = one(steps, index)
        query = episode.extra.query
        triples, goal = edges_of(query.graph), query.graph.node_labels[query.goal]
        steps_left = fewest_steps(triples, goal)
        for target in labels(episode.targets[episode.mask > 0]):
            assert target in triples
            assert steps_left[target[2]] == steps_left[target[0]] - 1


# Courses and settings


@pytest.mark.parametrize(
    ("task", "count", "gate"),
    [
        (Traversal(), 14, ("sequence_error", 0.1, 100, 0.1)),
        (Inference(), 17, ("sequence_error", 0.1, 100, 0.1)),
        (ShortestPath(), 15, ("detour_error", 0.2, 2000, 0.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_courses_are_the_papers(task, count, gate):
    assert isinstance(task, Course)
    assert isinstance(task, Interactive) == isinstance(task, ShortestPath)
    assert task.num_lessons == count == len(task.table)
    found = task.gate
    assert (found.score, found.at_most, found.every, found.earlier_share) == gate
    for row in task.table:
        assert all(low <= high for low, high in zip(row[::2], row[1::2], strict=True))
    assert (task.input_size, task.output_size) == (92, 90)


def test_shapes_are_those_of_the_lessons_that_can_be_drawn():
    """Lesson 7 of inference has smaller graphs than lesson 6, which may return in it."""
    course = Inference()
    assert course.at_lesson(7).most.max_nodes == 6
    assert course.at_lesson(7, 0.1).most.max_nodes == 18
    assert course.most == course.table[-1]
    assert Traversal(last_lesson=2).most == lessons.TRAVERSAL[1]
    assert Traversal(path_length=7).most.max_length == 7


def test_earlier_lessons_return(traversal):
    """Lesson 3 begins with 5 nodes; half of these episodes are of lessons 1 and 2, with 3."""
    sizes = np.asarray(traversal[1].extra.num_nodes)
    assert sizes.min() == 3
    assert sizes.max() == 10
    assert (np.asarray(traversal[1].mask).sum(1) == 4).any()  # paths of 3 are of lesson 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Traversal(last_lesson=15), "last_lesson=15: there are lessons 1 to 14"),
        (lambda: Traversal(num_nodes=2), "num_nodes=2: must be 3 to 999"),
        (lambda: Traversal(num_nodes=9, graph="underground"), "num_nodes=9: must be 3 to 999"),
        (lambda: Traversal().at_lesson(0), "lesson 0: there are lessons 1 to 14"),
        (lambda: Traversal(last_lesson=3).at_lesson(4), "lesson 4: there are lessons 1 to 3"),
        (lambda: Traversal(path_length=-1), "path_length=-1"),
        (lambda: Traversal(earlier_share=1.5), "earlier_share=1.5"),
        (lambda: Inference(path_length=6), "path_length=6: relations on graph=random have 2 to 5"),
        (lambda: Inference(graph="family-tree", path_length=5), "have 2 to 4"),
        (lambda: Inference(queries=0), "queries=0: must be"),
        (lambda: Inference(planning_steps=-1), "planning_steps=-1: must be"),
        (lambda: ShortestPath(optimal_share=2.0), "optimal_share=2.0"),
        (lambda: ShortestPath(spare_steps=-1), "spare_steps=-1"),
        (
            lambda: ShortestPath(graph="underground", path_length=7),
            "path_length=7: the longest shortest path on graph=underground has 6 edges",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


MAP = "source,edge,destination\nHome,East,Shop\nShop,West,Home\nShop,North,Park\nPark,South,Shop\n"


def test_a_custom_graph(tmp_path):
    """Walked by name, with the numbers of each episode new; slots are counted by its triples."""
    path = tmp_path / "map.csv"
    path.write_text(MAP)
    task = Traversal(graph_file=path, path_length=2)
    episodes = sampled(task, 6)
    assert task.slots_needed == 4
    assert len({tuple(row) for row in np.asarray(episodes.extra.node_labels).tolist()}) == 6
    text = task.render(30 * episodes.targets, episodes)
    assert text.startswith("3 nodes, 4 edges; a path of 2")
    walked = re.findall(r"target \((\w+, \w+, \w+)\)", text)
    assert {walk.replace(", ", ",") for walk in walked} <= set(MAP.split())
    assert ShortestPath(graph_file=path, path_length=2).named.nodes == ("Home", "Shop", "Park")
    spreadsheet = tmp_path / "spreadsheet.csv"
    spreadsheet.write_text(MAP.replace("\n", "\r\n") + "\r\n", encoding="utf-8-sig", newline="")
    assert Traversal(graph_file=spreadsheet, path_length=2).named.nodes == ("Home", "Shop", "Park")


@pytest.mark.second_step
def test_a_custom_graph_on_the_command_line(tmp_path, monkeypatch, capsys):
    """One message and nothing written where it breaks the rules of the encoding."""
    monkeypatch.chdir(tmp_path)
    Path("map.csv").write_text(MAP)
    Path("twice.csv").write_text(MAP + "Park,South,Home\n")
    refused = {
        "nowhere.csv": "graph_file=nowhere.csv: there is no such file",
        "twice.csv": "twice.csv, line 6: ",
    }
    for name, message in refused.items():
        assert main(["train", "traversal", f"--graph_file={name}"]) == 2
        assert message in capsys.readouterr().err
    far = ["train", "shortest-path", "--graph_file=map.csv", "--path_length=3"]
    for more, message in {
        (): "path_length=3: the longest shortest path on graph=map.csv has 2 edges",
        ("--graph=underground",): "graph_file=map.csv and graph=underground",
    }.items():
        assert main([*far, *more]) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.csv", "twice.csv"]
    assert main(["eval", "traversal", "--graph_file=map.csv", "--num_episodes=2"]) == 0
    assert re.search(r"target \(\w+, (East|West|North|South), \w+\)", capsys.readouterr().out)


def test_graphs_without_relations_are_refused():
    """Strict types refuse it in tests; outside of them the task itself does."""
    task = Inference()
    object.__setattr__(task, "graph", "underground")
    with pytest.raises(ValueError, match="graph=underground: must be one of random, family-tree"):
        task.__post_init__()


def test_settings_load_without_jax():
    """So that --help is instant."""
    code = (
        "import sys, dncx.tasks.graphs.settings, dncx.tasks.graphs.lessons;"
        "print('jax' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_numbers_are_rendered_where_there_are_no_names(inference):
    task, episodes = inference
    graph = first_of(episodes.extra)
    text = task.render(30 * episodes.targets, episodes)
    triple = labels(one(episodes, 0).targets[np.asarray(episodes.mask[0]) > 0])[0]
    numbers = ", ".join(str(label) for label in triple)
    assert text.startswith(f"{graph.num_nodes} nodes, {graph.degrees.sum()} edges\n")
    assert f"target ({numbers})   answer ({numbers})" in text


def test_graphs_of_one_size():
    """`num_nodes` holds for every episode; so the memory that triples need can be swept."""
    task = Traversal(last_lesson=2, num_nodes=6)
    graphs = sampled(task, 10).extra
    assert set(np.asarray(graphs.num_nodes).tolist()) == {6}
    assert task.slots_needed == 6 * 4
    assert Traversal(graph="underground").slots_needed == 88
