"""Figures show what the trace holds, fit a paper's column, and are the same bytes every time."""

import dataclasses
import json
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import later
from matplotlib.figure import Figure

from dncx.errors import UsageError
from dncx.explore import EpisodeTrace, plots
from dncx.explore.plots import panels
from dncx.runs.paths import SHIPPED
from dncx.tasks.babi import report
from dncx.tasks.babi.scoring import Tally
from dncx.tasks.base import Words
from dncx.tasks.shrdlu.observations import OBSERVATION_SIZE

T, N, W = 12, 6, 4
EPISODE = (
    "memory",
    "weightings",
    "usage",
    "gates",
    "link",
    "overview",
    "memory_reuse",
    "traversal",
)
# Slot t % N is written at step t; from step 8 on, head 0 reads what was written six steps before.
WRITTEN = np.arange(T) % N


def episode(writers=1, readers=2, said=True, steps=T, slots=N):
    random = np.random.default_rng(0)

    def share(*shape):
        return random.uniform(0, 0.1, shape).astype(np.float32)

    write, read = share(steps, writers, slots) / 10, share(steps, readers, slots) / 10
    write[np.arange(steps), 0, np.arange(steps) % slots] = 0.9
    read[8:, 0, :] = 0
    read[np.arange(8, steps), 0, (np.arange(8, steps) - 6) % slots] = 1
    modes = random.dirichlet(np.ones(1 + 2 * writers), (steps, readers)).astype(np.float32)
    link = share(steps, writers, slots, slots)
    link[-1, 0] = np.eye(slots, k=-1)  # slot i after slot i - 1
    optional = {}
    if said:
        mask = (np.arange(steps) >= 8).astype(np.float32)
        shown = tuple(f"item {t}" for t in range(steps))
        optional = {"targets": share(steps, 2), "mask": mask, "link": link,
                    "words": Words(shown, ("",) * steps, ("",) * steps)}  # fmt: skip
    return EpisodeTrace(
        inputs=share(steps, 3), outputs=share(steps, 2) - 0.05,
        memory=(share(steps, slots, W) - 0.05) * 40, usage=share(steps, slots),
        write_gate=share(steps, writers), allocation_gate=share(steps, writers),
        write_strengths=100 * share(steps, writers), write_weights=write,
        allocation_weights=share(steps, writers, slots),
        write_content_weights=share(steps, writers, slots), write_keys=share(steps, writers, W),
        erase_vectors=share(steps, writers, W), write_vectors=share(steps, writers, W),
        free_gate=share(steps, readers), read_strengths=share(steps, readers), read_mode=modes,
        read_weights=read, read_content_weights=read,
        forward_weights=share(steps, readers, writers, slots),
        backward_weights=share(steps, readers, writers, slots), read_keys=share(steps, readers, W),
        read_words=share(steps, readers, W), controller_output=share(steps, 5), **optional,
    )  # fmt: skip


def images(figure):
    """The arrays drawn, in the order of the axes; without colour bars."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def assert_shown(figure, expected):
    found = images(figure)
    assert len(found) == len(expected)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


def tops(axes):
    """Heights of the strips above their floors, in the order of drawing: [drawn, T]."""
    data = [patch.get_data() for patch in axes.patches if hasattr(patch, "get_data")]
    return np.array([values - baseline for values, _, baseline in data])


@pytest.mark.parametrize("name", EPISODE)
@pytest.mark.parametrize("writers", [2, *later(1)])
def test_figures_of_any_episode_fit_a_column(name, writers):
    """In both widths, with one head or several; with nothing optional they work or say why not."""
    draw = getattr(plots, name)
    for width, inches, readers in (("single", 3.5, 1), ("double", 7.2, 3)):
        figure = draw(episode(writers, readers), width=width)
        assert isinstance(figure, Figure)
        assert figure.get_figwidth() == inches
        assert figure.get_figheight() < 9.7  # of a page
        figure.draw_without_rendering()
    if name in ("link", "traversal"):
        with pytest.raises(UsageError, match=r"no links|no mask"):
            draw(episode(writers, said=False))
    else:
        draw(episode(writers, said=False)).draw_without_rendering()


@pytest.mark.parametrize("name", EPISODE)
def test_figures_without_links(name):
    e, none = episode(), np.zeros((T, 2, 0, N), np.float32)
    modes = np.ones((T, 2, 1), np.float32)
    e = dataclasses.replace(
        e, link=None, forward_weights=none, backward_weights=none, read_mode=modes
    )
    if name == "link":
        with pytest.raises(UsageError, match="linkage=none"):
            plots.link(e)
    else:
        getattr(plots, name)(e).draw_without_rendering()


def test_style_stays_inside():
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30}):
        assert plots.usage(episode()).axes[0].yaxis.label.get_size() == 7
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_memory():
    e = episode()
    assert_shown(plots.memory(e, [0, 5, -1]), e.memory[[0, 5, -1]])
    figure = plots.memory(e)
    assert_shown(figure, e.memory[[0, 2, 4, 7, 9, 11]])
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["step 0", "step 2"]
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    largest = np.abs(e.memory[[0, 2, 4, 7, 9, 11]]).max()
    assert limits == {(-largest, largest)}
    for steps in ([], [T], [-T - 1]):
        with pytest.raises(UsageError, match="some of 0 to 11"):
            plots.memory(e, steps)


def test_weightings_and_usage():
    e = episode(writers=2)
    writes, reads = e.write_weights.transpose(1, 2, 0), e.read_weights.transpose(1, 2, 0)
    assert_shown(plots.weightings(e), [*writes, *reads])
    assert_shown(plots.usage(e), [e.usage.T])
    assert_shown(plots.memory_reuse(e), [*writes, *reads])
    counted = e.mask[:, None]
    sequence = [e.inputs.T, (e.targets * counted).T, (e.outputs * counted).T]
    assert_shown(plots.overview(e), [*sequence, *writes, *reads, e.usage.T])


def test_gates():
    e = episode(writers=2, readers=2)
    write, allocation, free, write_strength, read_strength, mode = plots.gates(e).axes
    strips = {write: e.write_gate, allocation: e.allocation_gate, free: e.free_gate,
              read_strength: e.read_strengths}  # fmt: skip
    for axes, values in strips.items():
        np.testing.assert_allclose(tops(axes), values.T, atol=1e-6)
    largest = e.write_strengths.max()
    np.testing.assert_allclose(tops(write_strength), e.write_strengths.T / largest, atol=1e-6)
    assert f"{largest:.3g}" in write_strength.get_ylabel()
    sums = np.stack([e.read_mode[..., :2].sum(-1), e.read_mode[..., 2:4].sum(-1),
                     e.read_mode[..., 4]])  # fmt: skip
    np.testing.assert_allclose(tops(mode), sums.transpose(2, 0, 1).reshape(6, T), atol=1e-6)


def test_answers_are_shaded():
    (axes,) = (axes for axes in plots.usage(episode()).axes if axes.images)
    (span,) = axes.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (7.5, 11.5)
    assert span.get_zorder() < axes.images[0].get_zorder()


def test_link_and_its_chain():
    e = episode(writers=2)
    figure = plots.link(e)
    assert_shown(figure, [e.link[-1, 0]])
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert [text for text in texts if text][::2] == [str(slot) for slot in range(N)]
    assert [text for text in texts if text][1::2] == [str(slot + 6) for slot in range(N)]
    empty = plots.link(e, head=1).axes[1].texts
    assert [text.get_text() for text in empty] == ["no link above one half"]
    for wrong in ({"step": T}, {"head": 2}):
        with pytest.raises(UsageError, match="12 steps and 2 heads"):
            plots.link(e, **wrong)


def test_traversal_names_what_is_read():
    e = episode()
    figure = plots.traversal(e)
    written, _, read, _ = (axes for axes in figure.axes if axes.get_xlim()[1] > 1)
    order = [0, 1, 2, 3, 4, 5]  # of the last writes: steps 6 to 11
    assert_shown(figure, [e.write_weights[:, 0, order].T, e.read_weights[4:].reshape(-1, N).T])
    names = [label.get_text() for label in written.get_yticklabels()]
    assert names == [f"item {step}" for step in range(6, 12)]
    labels = [label.get_text() for label in read.get_yticklabels()]
    # The read of step t finds what was written at step t - 6, or, as slots are N, at t itself.
    assert labels == [f"{step}: item {step}" for step in range(8, 12)]


def test_a_sharp_write_stays_dark_in_a_long_episode():
    e = episode(steps=1000, slots=256, said=False)
    figure = plots.weightings(e)
    drawn = images(figure)[0]
    assert drawn.shape < (256, 1000)
    assert ((drawn.max(axis=0)) == e.write_weights.max()).all()
    signed = np.array([[0.0, -3, 1], [2, 0, 0]])
    np.testing.assert_array_equal(panels.pooled(signed, 1, 2), [[-3, 1], [2, 0]])


def test_usage_is_the_mean_where_slots_are_too_many():
    """Every second slot in use is half of them, not all."""
    e = episode(slots=600, said=False)
    usage = np.zeros((T, 600), np.float32)
    usage[:, ::2] = 1
    used = dataclasses.replace(e, usage=usage)
    for figure in (plots.usage(used), plots.overview(used)):
        drawn = images(figure)[-1]
        assert drawn.shape[0] < 600
        np.testing.assert_allclose(drawn.mean(), 0.5, atol=0.01)
    past = np.array([[1.0, 3], [5, 7], [9, 11]])  # its last block is half as high
    np.testing.assert_array_equal(panels.averaged(past, 2, 2), [[4], [10]])


def test_outputs_have_a_colour_bar():
    e = episode()
    figure = plots.overview(e)
    counted = np.abs(e.outputs * e.mask[:, None]).max()
    ends = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert [f"\N{MINUS SIGN}{counted:.3g}", f"{counted:.3g}"] in ends


def run(folder, losses, **described):
    folder.mkdir()
    config = json.loads((SHIPPED / "memory-reuse" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | described))
    lines = [{"iteration": 10 * (n + 1), "loss": loss} for n, loss in enumerate(losses)]
    lines.append({"iteration": 15, "lesson": 1, "sequence_error": 0.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_learning_curves(tmp_path):
    table = np.array([[3.0, 2, 1], [5, 1, 0], [4, 4, 4]])
    runs = [run(tmp_path / str(n), row) for n, row in enumerate(table)]
    figure = plots.learning_curves({"DNC": runs, "one": [str(runs[0])]})
    (axes,) = figure.axes
    median, one, lesson = axes.lines
    np.testing.assert_array_equal(median.get_xydata().T, [[10, 20, 30], np.median(table, axis=0)])
    np.testing.assert_array_equal(one.get_ydata(), table[0])
    assert list(lesson.get_xdata()) == [15, 15]
    (band,) = axes.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices}
    for x, low, high in zip((10, 20, 30), table.min(axis=0), table.max(axis=0), strict=True):
        assert {(x, low), (x, high)} <= corners
    assert axes.get_ylabel() == "loss (bits per series)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["DNC", "one"]


def test_learning_curves_that_cannot_be_drawn(tmp_path):
    bits, nats = run(tmp_path / "b", [1.0]), run(tmp_path / "n", [1.0], loss_unit="nats")
    own = plots.learning_curves({"own": [run(tmp_path / "own", [1.0], loss_unit="")]})
    assert own.axes[0].get_ylabel() == "loss"
    assert plots.learning_curves({"": [bits]}).axes[0].get_legend() is None
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "config.json").write_text((bits / "config.json").read_text())
    wrong = {
        "one unit": {"a": [bits], "b": [nats]},
        "has no metrics.jsonl": {"a": [tmp_path / "lost"]},
        "cannot read": {"a": [tmp_path / "absent"]},
        "0 lines": {},
        "no runs": {"a": []},
        "has no losses": {"a": [run(tmp_path / "e", [], num_sequences=1)]},
    }
    for message, runs in wrong.items():
        with pytest.raises(UsageError, match=message):
            plots.learning_curves(runs)


def results(first, second=()):
    points = [{"items": i, "memory_size": m} for i in first for m in second or (0,)]
    if not second:
        points = [{"items": i} for i in first]
    return [
        {"swept": point, "scores": {"bit_error": 0.0, "sequence_error": n / 10}, "loss": float(n),
         "loss_unit": "bits per sequence"}
        for n, point in enumerate(points)
    ]  # fmt: skip


def test_evaluation():
    (line,) = plots.evaluation(results([2, 4, 6])).axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[2, 100], [4, 90], [6, 80]])
    axes = plots.evaluation(results([2, 4], [8, 16]), "loss").axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[0, 2], [1, 3]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["8", "16"]
    assert axes.get_ylabel() == "loss (bits per sequence)"
    figure = plots.evaluation_heatmap(results([2, 4], [8, 16]))
    np.testing.assert_allclose(images(figure)[0], [[100, 80], [90, 70]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["100.0", "80.0", "90.0", "70.0"]


def test_results_that_cannot_be_drawn():
    two = results([2, 4], [8, 16])
    for wrong in (plots.evaluation, plots.evaluation_heatmap):
        with pytest.raises(UsageError, match="no score speed; they have bit_error, seq"):
            wrong(two, "speed")
        with pytest.raises(UsageError, match="swept: nothing"):
            wrong([{"swept": {}, "scores": {}}])
    with pytest.raises(UsageError, match="no result for memory_size, items"):
        plots.evaluation_heatmap(two[:-1])
    with pytest.raises(UsageError, match="not of the task babi"):
        plots.error_table(two)


def test_error_table():
    asked = np.full(20, 100)
    asked[2] = 0
    tally = Tally(asked, np.arange(20), asked, asked)
    found = [{"swept": {}, "results": json.loads(json.dumps(report.results(tally)))}]
    axes = plots.error_table(found, ["DNC1"]).axes[0]
    lines = {line.get_label(): line.get_xdata() for line in axes.lines}
    np.testing.assert_allclose(lines["here"][:3], [0, 1, 3])
    assert lines["here"][-1] == pytest.approx(np.mean([n for n in range(20) if n != 2]))
    np.testing.assert_allclose(lines["DNC1, paper"][:3], [9, 39.2, 0.4])
    assert len(axes.get_yticklabels()) == 20
    with pytest.raises(UsageError, match="GPT: must be one of LSTM, NTM, DNC1, DNC2"):
        plots.error_table(found, ["GPT"])


@pytest.mark.second_step
def test_saved_files(tmp_path):
    """Three formats, the same bytes from two drawings, whatever the user's settings are."""
    first = plots.save(plots.link(episode()), tmp_path / "v1.0")
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "path", "savefig.dpi": 50}):
        second = plots.save(plots.link(episode()), tmp_path / "again")
    assert [path.name for path in first] == ["v1.0.png", "v1.0.svg", "v1.0.pdf"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one
    png, svg, pdf = (path.read_bytes() for path in first)
    assert struct.unpack(">I", png[16:20]) == (2160,)  # 7.2 inches at 300 dpi
    root = ElementTree.fromstring(svg)
    assert "slot written" in [
        "".join(node.itertext()) for node in root.iter() if "text" in node.tag
    ]
    assert b"date" not in svg
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert len(list(tmp_path.iterdir())) == 6


def test_nothing_is_half_saved(tmp_path):
    figure = plots.usage(episode())
    with pytest.raises(UsageError, match="tiff: must be one of png, svg, pdf"):
        plots.save(figure, tmp_path / "figure", ["png", "tiff"])
    with pytest.raises(UsageError, match="is not a folder"):
        plots.save(figure, tmp_path / "absent" / "figure")
    assert list(tmp_path.iterdir()) == []
    assert plots.usage(episode())._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named():
    code = "import sys; sys.modules['matplotlib'] = None; import dncx.explore.plots"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: figures need matplotlib: pip install 'dncx[plots]'" in result.stderr


def test_pyplot_is_not_needed():
    code = "import sys, dncx.explore.plots; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def puzzle(steps=9, before=3):
    """An episode of Mini-SHRDLU: goals B and D, of which D is asked for, then moves."""
    inputs = np.zeros((steps, OBSERVATION_SIZE), np.float32)
    inputs[:, -54:] = np.eye(6, dtype=np.float32)[[0, 1, 2, 3, 4, 5, 0, 0, 0]].reshape(54)
    inputs[:, -18:] = 0  # the third column is empty
    told = ("goal B: 3 above 5", "goal D: 1 left of 2", "goal D: 4 above 3")
    seen = (*told, "go D, board 123|456|", *["board 123|456|"] * (steps - before - 1))
    moves = ("",) * before + ("1>3",) * (steps - before)
    return dataclasses.replace(
        episode(steps=steps, said=False),
        inputs=inputs,
        mask=(np.arange(steps) >= before).astype(np.float32),
        words=Words(seen, ("",) * steps, moves),
    )


@pytest.mark.parametrize("width", ["double", *later("single")])
def test_boards(width):
    figure = plots.boards(puzzle(), width=width)
    figure.draw_without_rendering()
    above, _ = figure.subfigs
    lines = [(text.get_text(), text.get_color()) for text in above.texts]
    assert [line for line, _ in lines] == ["goal B: 3 above 5", "goal D: 1 left of 2, 4 above 3"]
    assert lines[0][1] != "black"
    assert lines[1][1] == "#000000"
    assert len(figure.axes) == 6
    for number, axes in enumerate(figure.axes):
        assert axes.get_title(loc="left") == f"step {3 + number}"
        assert axes.get_xlabel() == "1>3"
        cells = {text.get_text(): text.get_position() for text in axes.texts}
        assert cells == {str(1 + n): (n // 3 + 0.5, n % 3 + 0.5) for n in range(6)}
    assert plots.boards(puzzle(steps=200), width=width).get_figheight() < 9.7


def test_boards_of_another_task():
    with pytest.raises(UsageError, match="no boards of mini-shrdlu"):
        plots.boards(episode())
