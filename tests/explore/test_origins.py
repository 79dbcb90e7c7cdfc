"""The origins of what is read, against loops over slots and steps."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, explore
from dncx.errors import UsageError
from dncx.explore import plots
from dncx.explore.origins import all_heads, by_sentence, read_origins, sentences
from dncx.tasks.base import Words

STORY = [
    "mary",
    "is",
    "here",
    ".",
    "where",
    "is",
    "mary",
    "?",
    "-",
    "john",
    "is",
    "out",
    ".",
    "where",
    "is",
    "john",
    "?",
    "-",
]
T = len(STORY)
CONFIG = DNCConfig(memory_size=4, word_size=3, num_read_heads=2, num_write_heads=2, hidden_size=8)


@pytest.fixture(scope="module")
def episode():
    cell = DNC(5, 2, CONFIG, rngs=nnx.Rngs(0))
    inputs = np.random.default_rng(1).normal(size=(T, 5)).astype(np.float32) * 3
    asked = tuple("yes" if word == "-" else "" for word in STORY)
    return dataclasses.replace(
        explore.trace(cell, inputs)[0],
        mask=np.array([word == "-" for word in STORY], np.float32),
        words=Words(
            tuple(STORY), asked, tuple("no" if t > 10 and a else a for t, a in enumerate(asked))
        ),
    )


def test_shares_are_those_of_loops(episode):
    """Each write of each head on its own, followed through every later erase."""
    found = read_origins(episode)
    e = episode
    for read_at in (3, T - 1):
        for head in range(2):
            word = np.zeros((T, 3))
            for slot in range(4):
                for written in range(read_at + 1):
                    part = np.zeros(3)
                    for writer in range(2):
                        part += (
                            e.write_weights[written, writer, slot]
                            * e.write_vectors[written, writer]
                        )
                    for later in range(written + 1, read_at + 1):
                        for writer in range(2):
                            part *= (
                                1
                                - e.write_weights[later, writer, slot]
                                * e.erase_vectors[later, writer]
                            )
                    word[written] += e.read_weights[read_at, head, slot] * part
            total = word.sum(axis=0)
            np.testing.assert_allclose(total, e.read_words[read_at, head], atol=1e-6)
            expected = word @ total / (total @ total)
            np.testing.assert_allclose(found[read_at, head], expected, atol=1e-4)


def test_shares_sum_to_one_and_nothing_comes_from_the_future(episode):
    shares = read_origins(episode)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-4)
    together = all_heads(episode)
    np.testing.assert_allclose(together.sum(axis=-1), 1, atol=1e-4)
    np.testing.assert_array_equal(read_origins(episode, [3, 8]), shares[[3, 8]])
    np.testing.assert_allclose(all_heads(episode, [3, 8]), together[[3, 8]], atol=1e-6)
    for step in range(T):
        assert not shares[step, :, step + 1 :].any()


@pytest.mark.parametrize("steps", [[3, 3], [8, 3], [-1], [T], [0.5]])
def test_steps_are_checked(episode, steps):
    with pytest.raises(ValueError, match="ascending order"):
        read_origins(episode, steps)


def test_a_head_that_reads_nothing_has_no_origin(episode):
    nothing = dataclasses.replace(
        episode,
        read_weights=np.zeros_like(episode.read_weights),
        read_words=np.zeros_like(episode.read_words),
    )
    assert not read_origins(nothing).any()
    assert not all_heads(nothing).any()


def test_a_memory_of_other_equations_is_refused(episode):
    with pytest.raises(UsageError, match="step 0"):
        read_origins(dataclasses.replace(episode, memory=episode.memory + 1))


def test_sentences(episode):
    story = sentences(episode)
    assert [tuple(part) for part in story] == [
        (0, 3, "mary is here."),
        (4, 7, "where is mary?"),
        (9, 12, "john is out."),
        (13, 16, "where is john?"),
    ]
    parts = by_sentence(np.eye(T, dtype=np.float32), story)
    assert parts.shape == (T, 4)
    assert parts.sum() == 16  # the two answers belong to no sentence
    with pytest.raises(UsageError, match="words"):
        sentences(dataclasses.replace(episode, words=None))


@pytest.mark.parametrize("width", ["single", "double"])
def test_the_figure_shows_a_column_per_answer(episode, width):
    figure = plots.answer_origins(episode, width=width)
    axes = figure.axes[0]
    shares = by_sentence(all_heads(episode), sentences(episode))
    expected = np.clip(shares[[8, T - 1]], 0, 1).T
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["yes", "(no)"]
    assert axes.get_yticklabels()[2].get_text() == "john is out."
    figure.draw_without_rendering()
    with pytest.raises(UsageError, match="mask"):
        plots.answer_origins(dataclasses.replace(episode, mask=None))


def test_a_long_story_fits_a_page(episode):
    long = 20  # times the four sentences: their rows alone would be 12 inches high
    many = {
        field.name: np.concatenate([getattr(episode, field.name)] * long)
        for field in dataclasses.fields(episode)
        if isinstance(getattr(episode, field.name), np.ndarray) and field.name != "link"
    }
    words = Words(*(part * long for part in episode.words))
    memory = np.zeros_like(many["memory"])
    state = np.zeros(memory.shape[1:], np.float32)
    for t in range(T * long):
        keep = 1 - many["write_weights"][t][:, :, None] * many["erase_vectors"][t][:, None, :]
        state = state * keep.prod(axis=0) + many["write_weights"][t].T @ many["write_vectors"][t]
        memory[t] = state
    episode = dataclasses.replace(episode, link=None, words=words, **(many | {"memory": memory}))
    assert plots.answer_origins(episode).get_figheight() < 9.7
