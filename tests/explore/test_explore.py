"""Traces: what they hold, how they are kept, and what they mean."""

import contextlib
import dataclasses
import inspect
import json
import re
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dncx
from dncx import explore
from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.explore import archive, decoding, tracing, webpage
from dncx.explore.origins import read_origins
from dncx.explore.record import AXES, KINDS, OPTIONAL, EpisodeTrace, Trace
from dncx.networks.build import Embedded
from dncx.networks.lstm import LSTMNetwork
from dncx.runs.directory import load_run
from dncx.runs.state import EVALUATION, stream
from dncx.tasks.base import Words
from dncx.training.batches import keys_for
from dncx.training.gradient import respond

ROOT = Path(__file__).parents[2]
SIZES = {"T": 6, "N": 4, "W": 3, "R": 2, "M": 2, "F": 3, "O": 2, "Y": 2, "H": 5, "L": 2,
         "1+2*L": 5}  # fmt: skip
SMALL = {
    "memory_size": 4, "word_size": 3, "num_read_heads": 2, "num_write_heads": 2, "hidden_size": 5,
}  # fmt: skip
CONFIG = dncx.DNCConfig(**SMALL)
# Arrays of a DNC with these options only.
VARIANTS = {"retention", "read_masks", "write_masks", "forward_sharpness", "backward_sharpness"}


def made(**arrays):
    """An episode of zeros but for the arrays given."""
    zeros = {
        name: np.zeros([SIZES[axis] for axis in axes.split()], np.float32)
        for name, axes in AXES.items()
        if name not in VARIANTS
    }
    return EpisodeTrace(**(zeros | arrays))


def one(tree, number):
    """One episode of a batch, as a batch."""
    return jax.tree.map(lambda array: array[number : number + 1], tree)


def ones_at(name, *places):
    """That array with ones at some places."""
    array = getattr(made(), name).copy()
    for place in places:
        array[place] = 1
    return {name: array}


@pytest.fixture(scope="module")
def cell():
    return dncx.DNC(3, 2, CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(0), (2, 6, 3))


@pytest.fixture(scope="module")
def recall():
    """An episode of the associative recall that ships, and the arrays of its trace."""
    return explore.trace_run("associative-recall", num_episodes=2, seed=1, min_items=6)


class TestRecord:
    def test_every_array_has_axes_and_a_meaning(self):
        assert len(KINDS) == 32
        assert {"targets", "mask", "link", "precedence_weights", *VARIANTS} == OPTIONAL
        made()

    @pytest.mark.parametrize(
        ("name", "array", "message"),
        [
            ("memory", np.zeros((6, 4), np.float32), r"memory: must be float32 \[T N W\]"),
            ("usage", np.zeros((7, 4), np.float32), r"usage: must be float32 \[T N\]"),
            ("usage", np.zeros((6, 4)), "got float64"),
            ("read_mode", np.zeros((6, 2, 4), np.float32), r"\[T R 1\+2\*L\]"),
            ("outputs", None, "outputs: must be"),
            ("words", Words(("",) * 6, ("",) * 6, ("",) * 5), "words: must have 6 steps"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, name, array, message):
        with pytest.raises((ValueError, TypeError), match=message):
            made(**{name: array})

    def test_a_trace_has_an_episode(self):
        with pytest.raises(ValueError, match="at least one episode"):
            Trace(())


class TestTracing:
    def test_it_is_the_trace_of_the_unroll(self, cell, inputs):
        """Every array is one of `unroll_with_trace`, cut to its episode's length."""
        lengths = np.array([6, 4])
        traced = explore.trace(cell, inputs, lengths=lengths, targets=inputs[..., :2])
        outputs, _, expected = dncx.unroll_with_trace(cell, inputs, lengths=jnp.asarray(lengths))
        state, access = expected.state.access_state, expected.access
        whole = {
            **access._asdict(),
            **access.interface._asdict(),
            **state._asdict(),
            **state.linkage._asdict(),
            "inputs": inputs,
            "outputs": outputs,
            "targets": inputs[..., :2],
            "controller_output": expected.controller_output,
            "read_words": expected.state.access_output,
        }
        assert [episode.num_steps for episode in traced.episodes] == [6, 4]
        for number, episode in enumerate(traced.episodes):
            assert set(episode.arrays()) == set(KINDS) - {"mask", *VARIANTS}
            for name, array in episode.arrays().items():
                want = whole[name][number, : episode.num_steps]
                np.testing.assert_allclose(array, want, atol=1e-6, err_msg=name)

    def test_options_of_later_publications(self, inputs, tmp_path):
        """Masks and sharpness are recorded and kept; the page shows the rest."""
        config = dncx.DNCConfig.dnc_mds(**{**SMALL, "num_write_heads": 1})
        traced = explore.trace(dncx.DNC(3, 2, config, rngs=nnx.Rngs(0)), inputs)
        again = explore.load(explore.save(traced, tmp_path / "trace.npz"))
        for name, shape in (
            ("read_masks", (6, 2, 3)),
            ("write_masks", (6, 1, 3)),
            ("retention", (6, 4)),
            ("forward_sharpness", (6, 2, 1)),
            ("backward_sharpness", (6, 2, 1)),
        ):
            array = getattr(again[1], name)
            assert array.shape == shape
            assert array.min() > (1 if "sharpness" in name else 0)
            np.testing.assert_array_equal(array, getattr(traced[1], name))
        assert webpage.encode(again)[0]["recordings"]
        np.testing.assert_allclose(read_origins(again[1]).sum(axis=-1), 1, atol=1e-3)

    def test_one_episode_needs_no_batch_axis(self, cell, inputs):
        one, two = explore.trace(cell, inputs[1]), explore.trace(cell, inputs)
        assert len(one) == 1
        assert one.title == "a DNC"
        np.testing.assert_allclose(one[0].memory, two[1].memory, atol=1e-6)

    def test_behind_an_embedding(self, inputs):
        cell = dncx.DNC(5, 2, CONFIG, rngs=nnx.Rngs(0))
        traced = explore.trace(Embedded(3, 5, cell, nnx.Rngs(1)), inputs[0])
        assert traced[0].inputs.shape == (6, 3)

    def test_a_linkage_of_ones_own_has_no_link(self, inputs):
        class NoLinkage(nnx.Module):
            def initial_state(self, dtype):
                return jnp.zeros((), dtype)

            def __call__(self, state, write_weights, read_weights):
                nothing = jnp.zeros((2, 2, 4), read_weights.dtype)
                return state, nothing, nothing

        access = CONFIG.make_access(5, linkage=NoLinkage(), rngs=nnx.Rngs(0))
        cell = dncx.DNC(3, 2, CONFIG, access=access, rngs=nnx.Rngs(0))
        traced = explore.trace(cell, inputs[0])
        assert traced[0].link is None
        assert traced[0].precedence_weights is None
        assert decoding.successors(traced[0]) is None

    def test_links_of_long_episodes_are_left_out(self, cell, inputs, monkeypatch):
        monkeypatch.setattr(tracing, "LINK_NUMBERS", 2 * 6 * 2 * 16 - 1)
        traced = explore.trace(cell, inputs)
        assert traced[0].link is None
        assert traced[0].precedence_weights is not None
        (note,) = traced.notes
        assert "384" in note

    @pytest.mark.parametrize("heads", [1, 2])
    def test_without_links(self, heads, inputs, tmp_path):
        """Every read is by content; the archive and the page have the same episode."""
        config = dataclasses.replace(CONFIG, linkage="none", num_write_heads=heads)
        traced = explore.trace(dncx.DNC(3, 2, config, rngs=nnx.Rngs(0)), inputs[0])
        (episode,) = traced.episodes
        assert episode.num_directions == 0
        assert (episode.link, episode.precedence_weights, traced.notes) == (None, None, ())
        assert (episode.read_mode == 1).all()
        np.testing.assert_array_equal(episode.read_weights, episode.read_content_weights)
        backward, forward, content = decoding.read_ways(episode)
        assert not backward.any()
        assert not forward.any()
        np.testing.assert_array_equal(content, episode.read_weights)
        assert all(read.way == "content" for read in decoding.reads(episode, 0.1))
        again = explore.load(explore.save(traced, tmp_path / "trace.npz"))[0]
        assert again.num_directions == 0
        np.testing.assert_array_equal(again.read_mode, episode.read_mode)
        (recording,) = webpage.encode(traced)[0]["recordings"]
        assert recording["sizes"]["directions"] == 0
        assert recording["chains"] is None
        assert "link" not in recording["arrays"]
        assert len(recording["notes"]) == 1

    def test_a_direction_for_every_write_head(self):
        with pytest.raises(ValueError, match="forward_weights"):
            made(
                forward_weights=np.zeros((6, 2, 1, 4), np.float32),
                backward_weights=np.zeros((6, 2, 1, 4), np.float32),
                read_mode=np.zeros((6, 2, 3), np.float32),
            )

    def test_what_has_no_memory(self, inputs):
        with pytest.raises(UsageError, match=r"LSTMNetwork .* memory"):
            explore.trace(LSTMNetwork(3, 2, CONFIG, rngs=nnx.Rngs(0)), inputs)

    @pytest.mark.parametrize(
        "given",
        [
            {"lengths": np.array([0, 6])},
            {"lengths": np.array([6, 7])},
            {"lengths": np.array([6])},
            {"targets": np.zeros((3, 6, 2), np.float32)},
            {"mask": np.zeros((2, 5), np.float32)},
            {"words": [Words(("",) * 6, ("",) * 6, ("",) * 6)]},
            {"about": {"run": Path("here")}},
            {"about": {"task": "mine"}},
        ],
    )
    def test_what_does_not_fit_the_inputs(self, cell, inputs, given):
        with pytest.raises(ValueError, match=f"^{next(iter(given))}"):
            explore.trace(cell, inputs, **given)

    def test_inside_of_an_rnn(self, cell, inputs):
        inside = explore.trace(nnx.RNN(cell), inputs[0])
        np.testing.assert_array_equal(inside[0].memory, explore.trace(cell, inputs[0])[0].memory)

    def test_wrong_axes(self, cell, inputs):
        with pytest.raises(ValueError, match=r"inputs: must be \[batch, time, features\]"):
            explore.trace(cell, inputs[0, 0])


class TestRuns:
    def test_a_model_that_ships(self, recall):
        episode = recall[0]
        assert episode.scores == {"bit_error": 0, "sequence_error": 0}
        assert recall.title == "associative-recall"
        assert recall.about["task"]["min_items"] == 6
        bits = ["".join(str(int(bit)) for bit in row) for row in episode.inputs]
        assert [word or "0" * 8 for word in episode.words.inputs] == bits
        assert episode.words.targets == episode.words.outputs
        assert sum(map(bool, episode.words.targets)) == 3 == episode.mask.sum()

    def test_the_seed_draws_the_episodes(self, recall):
        again = explore.trace_run("associative-recall", num_episodes=2, seed=1, min_items=6)
        other = explore.trace_run("associative-recall", num_episodes=2, seed=2, min_items=6)
        np.testing.assert_array_equal(again[1].memory, recall[1].memory)
        assert (other[1].inputs != recall[1].inputs).any()

    @pytest.mark.second_step
    def test_stations_by_name(self):
        traced = explore.trace_run("traversal", graph="underground", path_length=2, seed=3)
        words = traced[0].words
        assert words.inputs[0].startswith("(")
        assert words.inputs[-1] == ""
        asked = [word for word in words.inputs if "?" in word]
        assert len(asked) == 2
        assert words.targets[-1] == "end"
        assert sum(map(bool, words.targets)) == 3

    @pytest.mark.second_step
    def test_it_is_the_lesson_reached(self):
        assert explore.trace_run("traversal", num_episodes=1).about["task"]["last_lesson"] == 8

    def test_an_unknown_setting_is_refused(self):
        with pytest.raises(UsageError, match="grph: the task traversal has no such setting"):
            explore.trace_run("traversal", grph="underground")

    def test_a_trace_is_told_in_a_line(self, recall):
        assert repr(recall[0]) == (
            "<EpisodeTrace: 32 steps, 32 slots, 4 read heads, 1 write heads>"
        )
        assert repr(recall).startswith("<Trace of associative-recall: [<EpisodeTrace: 32")

    @pytest.mark.second_step
    def test_a_dialogue_is_traced_whole(self, tmp_path):
        """The opening and the answers behind each other give the answers that were given."""
        run = tmp_path / "run"
        flags = ["--hidden_size=8", "--memory_size=8", "--word_size=4", "--last_lesson=1"]
        flags += ["--num_training_iterations=1", "--batch_size=2", f"--run_dir={run}"]
        assert main(["train", "shortest-path", *flags]) == 0
        traced = explore.trace_run(run, num_episodes=2, seed=5)
        task, network, _, _ = load_run(run)
        key = stream(5, EVALUATION)
        opening = task.sample(key, 2)
        outputs, answered = respond(network, task, opening, keys_for(opening, key), training=False)
        for number, episode in enumerate(traced.episodes):
            start = int(opening.extra.opening[number])
            rest = episode.num_steps - start
            expected = (outputs[number, :rest], answered.inputs[number, :rest])
            np.testing.assert_allclose(episode.outputs[start:], expected[0], atol=1e-5)
            np.testing.assert_array_equal(episode.inputs[start:], expected[1])
            assert any(episode.words.targets[start:])
            said = zip(episode.words.targets, episode.words.outputs, strict=True)
            wrong = [target != taken for target, taken in said]
            score = task.score(outputs[number : number + 1], one(answered, number))
            assert bool(score["path_error"]) == any(wrong)
            assert not any(episode.words.targets[:start])


class TestArchive:
    def test_it_comes_back(self, recall, tmp_path):
        path = explore.save(recall, tmp_path / "trace.npz")
        back = explore.load(path)
        assert (back.title, back.about, back.notes) == (recall.title, recall.about, recall.notes)
        for one, two in zip(back.episodes, recall.episodes, strict=True):
            assert (one.words, one.scores) == (two.words, two.scores)
            assert set(one.arrays()) == set(two.arrays())
            for name, array in one.arrays().items():
                np.testing.assert_array_equal(array, getattr(two, name))

    def test_the_order_in_the_archive_does_not_matter(self, recall, tmp_path):
        with np.load(explore.save(recall, tmp_path / "trace.npz")) as arrays:
            mixed = dict(sorted(arrays.items(), reverse=True))
        np.savez(tmp_path / "mixed.npz", **mixed)
        back = explore.load(tmp_path / "mixed.npz")
        np.testing.assert_array_equal(back[1].inputs, recall[1].inputs)

    def test_numpy_alone_reads_it(self, recall, tmp_path):
        with np.load(explore.save(recall, tmp_path / "trace.npz"), allow_pickle=False) as arrays:
            assert arrays["0.memory"].shape == (recall[0].num_steps, 32, 20)
            assert json.loads(arrays["about"].tobytes())["format"] == "dncx-trace-1"

    def test_what_is_not_there_stays_away(self, cell, inputs, tmp_path):
        path = explore.save(explore.trace(cell, inputs), tmp_path / "trace.npz")
        assert explore.load(path)[0].targets is None
        assert explore.load(path)[0].words is None

    def test_nothing_is_overwritten(self, cell, inputs, tmp_path):
        path, trace = tmp_path / "trace.npz", explore.trace(cell, inputs)
        explore.save(trace, path)
        with pytest.raises(UsageError, match="exists"):
            explore.save(trace, path)
        explore.save(trace, path, force=True)

    def test_broken_files_are_named(self, tmp_path):
        """Cut anywhere, or with a byte changed: a clear error or the same numbers, nothing else."""
        path = explore.save(Trace((made(**ones_at("memory", 3)),)), tmp_path / "trace.npz")
        whole, rng = path.read_bytes(), np.random.default_rng(0)
        for end in [0, 10, *rng.integers(len(whole), size=20)]:
            path.write_bytes(whole[:end])
            with pytest.raises(UsageError, match=r"trace\.npz"):
                explore.load(path)
        for place in rng.integers(len(whole), size=100):
            flipped = bytearray(whole)
            flipped[place] ^= 64
            path.write_bytes(flipped)
            with contextlib.suppress(UsageError):
                back = explore.load(path)
                assert (back[0].memory == ones_at("memory", 3)["memory"]).all()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"0.memory": np.zeros((6, 4), np.float32)}, r"episode 0: memory: must be float32"),
            ({"0.memory": None}, "episode 0: no memory"),
            ({"0.more": np.zeros(1, np.float32)}, "episode 0: unknown more"),
            ({"1.memory": np.zeros(1, np.float32)}, "1 episodes, arrays of 0, 1"),
            ({"0.memory": np.array([{}])}, "not a valid trace"),
            ({"about": None}, "does not name its format"),
            ({"about": {"format": "dncx-trace-2"}}, "'dncx-trace-2'; this dncx reads dncx-trace-1"),
            (
                {"about": {"format": "dncx-trace-1"}},
                "about, episodes, notes, title",
            ),
        ],
    )
    def test_another_content_is_refused(self, tmp_path, change, message):
        path = explore.save(Trace((made(),)), tmp_path / "trace.npz")
        with np.load(path) as arrays:
            changed = dict(arrays)
        for name, value in change.items():
            if isinstance(value, dict):
                value = np.frombuffer(json.dumps(value).encode(), np.uint8)
            changed[name] = value
        np.savez(path, **{name: value for name, value in changed.items() if value is not None})
        with pytest.raises(UsageError, match=message):
            explore.load(path)

    def test_too_large_a_file_is_not_read(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "trace.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("0.memory.npy", bytes(10))
            archive.infolist()[0].file_size = 2**33
        with pytest.raises(UsageError, match="bytes, more than"):
            explore.load(tmp_path / "trace.npz")


class TestDecoding:
    def test_writes_and_frees(self):
        """A free gate frees what the step before had read."""
        episode = made(
            **ones_at("write_weights", (0, 1, 2), (3, 0, 2)),
            **ones_at("read_weights", (1, 0, 2), (4, 1, 2)),
            **ones_at("free_gate", (2, 0), (5, 0)),
        )
        assert decoding.writes(episode) == [(0, 1, 2, 1.0), (3, 0, 2, 1.0)]
        assert decoding.frees(episode) == [(2, 0, 2, 1.0)]

    def test_reads_return_to_the_last_write(self):
        weights = made().read_weights.copy()
        weights[4, 1, 2] = weights[0, 0, 1] = 0.75
        mode = made().read_mode.copy()
        mode[4, 1] = [0, 0, 0.25, 0.5, 0.25]  # backward x 2, forward x 2, content
        forward = made().forward_weights.copy()
        forward[4, 1, :, 2] = 1
        mode[0, 0, 4] = 1
        content = made().read_content_weights.copy()
        content[0, 0, 1] = 0.75
        episode = made(
            **ones_at("write_weights", (1, 0, 2), (3, 1, 2), (5, 0, 2)),
            read_weights=weights,
            read_mode=mode,
            forward_weights=forward,
            read_content_weights=content,
            words=Words(("a", "b", "c", "d", "e", "f"), ("",) * 6, ("",) * 6),
        )
        first, second = decoding.reads(episode)
        assert first == (0, 0, 1, 0.75, None, "content", 0.75)
        assert second == (4, 1, 2, 0.75, 3, "forward", 0.75)
        assert decoding.item(episode, second.written) == "d"
        assert decoding.item(episode, first.written) == ""

    def test_lifetimes(self):
        """Slot 0 is written, read, freed; slot 1 overwritten; slot 2 stays."""
        episode = made(
            **ones_at("write_weights", (0, 0, 0), (1, 0, 1), (2, 0, 2), (4, 1, 1)),
            **ones_at("read_weights", (2, 0, 0), (3, 0, 0), (5, 1, 1)),
            **ones_at("free_gate", (4, 0)),
        )
        assert decoding.lifetimes(episode) == [
            (0, 0, 0, (2, 3), 4, "freed"),
            (1, 1, 0, (), 4, "overwritten"),
            (2, 2, 0, (), 6, "kept"),
            (1, 4, 1, (5,), 6, "kept"),
        ]

    def test_successors_and_chains(self):
        """link[i, j] leads from j to i."""
        episode = made(**ones_at("link", (5, 0, 3, 1), (5, 0, 0, 3)))
        successors = decoding.successors(episode)
        assert successors.shape == (6, 2, 4)
        assert successors[5, 0].tolist() == [-1, 3, -1, 0]
        assert decoding.chains(successors[5, 0]) == [[1, 3, 0]]
        assert decoding.chains(successors[5, 1]) == []
        assert decoding.chains(np.array([1, 2, 0, -1])) == [[0, 1, 2]]

    def test_ways_add_up_to_the_read_weights(self, recall):
        ways = decoding.read_ways(recall[0])
        np.testing.assert_allclose(ways.sum(axis=0), recall[0].read_weights, atol=1e-6)

    @pytest.mark.parametrize("number", [0, 1])
    def test_recall_finds_by_content_and_follows_the_links(self, recall, number):
        """What the model that ships has learned: two steps ahead of the answers it finds the first
        vector by content, and then the others by following the order of writing."""
        episode = recall[number]
        answers = np.flatnonzero(episode.mask)
        found = {(read.step, read.head): read for read in decoding.reads(episode)}
        ahead = [found[step - 2, 0] for step in answers]
        assert [read.way for read in ahead] == ["content", "forward", "forward"]
        items = [decoding.item(episode, read.written)[:6] for read in ahead]
        assert items == [episode.words.targets[step] for step in answers]


def test_the_format_is_documented():
    """docs/explore.md lists every array with its axes, and what the code says of it."""
    page = (ROOT / "docs" / "explore.md").read_text()
    rows = re.findall(r"^\| `(\w+)`(?: \(optional\))? \| (.*) \| (.*) \|$", page, re.M)
    source = " ".join(inspect.getsource(EpisodeTrace).split())
    assert [(name, axes.replace(", ", " ")) for name, axes, _ in rows] == list(AXES.items())
    assert [about for _, _, about in rows if about not in source] == []
    assert archive.FORMAT in page


def test_the_first_sequence_of_a_series_is_stored_read_and_freed():
    """As the tutorial tells of the model that ships: a slot a vector, each freed after its read."""
    episode = explore.trace_run("memory-reuse", seed=1)[0]
    first = [life for life in decoding.lifetimes(episode) if life.written < 5]
    assert [life.written for life in first] == list(range(5))
    assert len({life.slot for life in first}) == 5
    assert {life.end for life in first} == {"freed"}
    assert all(life.read and life.ended <= 11 for life in first)
