"""The tables of boards and constraints against a small simulator and plain search."""

import itertools
import random

import blocks_by_hand as by_hand
import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from conftest import later

from dncx.tasks.shrdlu import constraints
from dncx.tasks.shrdlu.boards import UNREACHABLE, all_boards
from dncx.tasks.shrdlu.constraints import NO_CONSTRAINT, NUMBERS, RELATIONS, in_words
from dncx.tasks.shrdlu.inventory import world


@pytest.fixture(scope="module")
def boards():
    return all_boards(2, 6)


def test_every_board_is_there_once(boards):
    """Two to six blocks: 12 + 60 + 288 + 1,440 + 7,200 boards."""
    found = by_hand.numbered(boards)
    assert len(found) == len(boards) == 9000
    counts = np.bincount([len("".join(board)) for board in found])
    assert counts.tolist() == [0, 0, 12, 60, 288, 1440, 7200]
    for board in found:
        assert sorted("".join(board)) == [str(1 + x) for x in range(len("".join(board)))]
        assert max(map(len, board)) <= 3


def test_six_blocks_have_ten_starts():
    six = all_boards(6, 6)
    assert six.distances.shape == (10, 7200)
    assert six.distances.dtype == np.uint8
    assert six.orders[six.firsts].tolist() == [[0, 1, 2, 3, 4, 5]] * 10
    assert six.distances.max() == 19  # no two boards are further from each other


def test_actions_are_those_of_the_simulator(boards):
    found = by_hand.numbered(boards)
    for board, index in found.items():
        after = [found[by_hand.move(board, action)] for action in by_hand.ACTIONS]
        assert boards.after[index].tolist() == after


def test_distances_are_those_of_plain_search(boards):
    """All of them, from every start."""
    graph, found = by_hand.ways(2, 6), by_hand.numbered(boards)
    for first, row in zip(boards.firsts, boards.distances, strict=True):
        start = by_hand.columns(boards, first)
        expected = np.full(len(boards), UNREACHABLE)
        for end, moves in networkx.single_source_shortest_path_length(graph, start).items():
            expected[found[end]] = moves
        np.testing.assert_array_equal(row, expected)


def test_moves_between_any_two_boards(boards):
    graph = by_hand.ways(2, 6)
    choose = random.Random(0)
    for _ in range(40):
        start, end = choose.randrange(1800, 9000), choose.randrange(1800, 9000)
        ends = by_hand.columns(boards, start), by_hand.columns(boards, end)
        assert boards.moves_between(start, end) == networkx.shortest_path_length(graph, *ends)
    assert boards.moves_between(5, 8999) == boards.moves_between(8999, 5) == UNREACHABLE
    assert boards.moves_between(100, 100) == 0


@pytest.mark.parametrize("numbers", [(0, 3), (4, 3), (6, 7)])
def test_no_such_boards(numbers):
    with pytest.raises(ValueError, match="must be 1 to 6"):
        all_boards(*numbers)


# Constraints


def said_of(boards, true, index):
    """What the tables say of a board, in both wordings."""
    numbers = [number for number in true.by_board[index].tolist() if number != NO_CONSTRAINT]
    return {in_words(*said) for said in constraints.STATEMENTS[numbers].reshape(-1, 3).tolist()}


def test_constraints_of_hand_made_boards(boards):
    true, found = constraints.satisfied(boards), by_hand.numbered(boards)
    tower_and_pair = said_of(boards, true, found["3", "542", "61"])
    assert tower_and_pair == {
        "4 above 5", "5 below 4", "2 above 4", "4 below 2", "1 above 6", "6 below 1",
        "3 left of 5", "5 right of 3", "5 left of 6", "6 right of 5", "4 left of 1", "1 right of 4",
    }  # fmt: skip
    assert said_of(boards, true, found["1", "", "2"]) == set()  # a column lies between them
    assert said_of(boards, true, found["", "12", "3"]) == {
        "2 above 1", "1 below 2", "1 left of 3", "3 right of 1"
    }  # fmt: skip


def test_constraints_of_all_boards(boards):
    """Both forms of the table."""
    true = constraints.satisfied(boards)
    bits = np.unpackbits(true.bits.view(np.uint8), axis=1, bitorder="little")
    for board, index in [*by_hand.numbered(boards).items()][::3]:
        expected = by_hand.true_of(board)
        assert said_of(boards, true, index) == expected
        assert bits[:NO_CONSTRAINT, index].sum() == len(expected) / 2
        assert all(bits[n, index] for n in true.by_board[index])
    assert bits[NO_CONSTRAINT, : len(boards)].all()
    assert not bits[:, len(boards) :].any()


def goal_of(*said):
    """A goal from statements in words, six constraints long."""
    numbers = []
    for words in said:
        block, *relation, other = words.split()
        numbers.append(NUMBERS[RELATIONS.index(" ".join(relation)), int(block) - 1, int(other) - 1])
    return jnp.asarray([*numbers, *[NO_CONSTRAINT] * (6 - len(numbers))], jnp.int32)


prune = jax.jit(constraints.without_redundant)


def test_a_side_of_a_square_is_redundant():
    """Three sides imply the fourth: the first one goes, and then no other."""
    _, true, _ = world(6, 6)
    sides = "1 above 2", "3 above 4", "2 left of 4", "1 left of 3"
    for said in (sides, sides[::-1]):
        goal = goal_of(*said)
        pruned = prune(jnp.asarray(true.bits), goal)
        assert np.asarray(pruned).tolist() == [NO_CONSTRAINT, *goal[1:].tolist()]
        np.testing.assert_array_equal(prune(jnp.asarray(true.bits), pruned), pruned)


def test_pruning_is_its_definition():
    """The same boards satisfy the goal, and each constraint that is left excludes some board."""
    _, true, inventory = world(6, 6)
    held = np.unpackbits(true.bits.view(np.uint8), axis=1, bitorder="little")[:, :7200] > 0
    goals = inventory.goals[np.random.default_rng(0).choice(len(inventory.goals), 300)]
    pruned = jax.jit(jax.vmap(constraints.without_redundant, (None, 0)))(
        jnp.asarray(true.bits), jnp.asarray(goals, jnp.int32)
    )
    removed = 0
    for goal, left in zip(goals, np.asarray(pruned), strict=True):
        kept = [n for n in left if n != NO_CONSTRAINT]
        boards = held[kept].all(axis=0)
        np.testing.assert_array_equal(boards, held[goal].all(axis=0))
        for number in kept:
            rest = held[[n for n in kept if n != number]].all(axis=0)
            assert (rest & ~boards).any()
        removed += (goal != left).sum()
    assert removed > 30


def test_new_numbers_for_the_blocks():
    names = jnp.asarray([2, 0, 1, 5, 4, 3], jnp.int32)  # 1 becomes 3, 2 becomes 1, and so on
    before = goal_of("1 above 2", "3 left of 4")
    found = constraints.renamed(before, names)
    np.testing.assert_array_equal(found, goal_of("3 above 1", "2 left of 6"))


# Goals


@pytest.mark.parametrize("number", [3, *later(4)])
def test_the_inventory_is_its_definition(number):
    """By plain enumeration: all boards, all subsets of their constraints, all nearer boards."""
    boards, true, inventory = world(number, number)
    for shape, first in enumerate(boards.firsts):
        moves = boards.distances[shape]
        at_start = {*true.by_board[first].tolist()} - {NO_CONSTRAINT}
        facts = [{*row.tolist()} - {NO_CONSTRAINT} for row in true.by_board]
        expected = {}
        for index, theirs in enumerate(facts):
            for size in range(1, min(6, len(theirs)) + 1):
                for drawn in itertools.combinations(sorted(theirs), size):
                    left = {*drawn} - at_start
                    fewest = min(m for m, f in zip(moves, facts, strict=True) if left <= f)
                    if left and fewest == moves[index] <= 7:
                        key = size, int(fewest)
                        expected.setdefault(key, []).append(tuple(sorted(left)))
        assert int(inventory.counts[shape].sum()) == sum(map(len, expected.values()))
        for (size, fewest), goals in expected.items():
            begin, count = (
                table[shape, size, fewest] for table in (inventory.firsts, inventory.counts)
            )
            found = inventory.goals[begin : begin + count].tolist()
            found = [tuple(sorted({*goal} - {NO_CONSTRAINT})) for goal in found]
            assert sorted(found) == sorted(goals)


def test_six_blocks_have_goals_for_the_whole_table_of_the_paper():
    """1 to 6 constraints drawn, 1 to 7 moves; one constraint can need seven moves."""
    *_, inventory = world(6, 6)
    assert (inventory.counts[:, 1:, 1:].sum(axis=0) > 0).all()
    assert (inventory.goals != NO_CONSTRAINT).any(axis=1).all()
