"""Figures from the paper for two of its tasks."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from dncx.errors import UsageError
from dncx.explore.decoding import item, last_write, reads
from dncx.explore.plots import panels
from dncx.explore.plots.episodes import draw_weightings
from dncx.explore.plots.style import (
    READ,
    WRITE,
    Drawing,
    Width,
    letter,
    new,
    ramp,
    styled,
)
from dncx.explore.record import EpisodeTrace

LABEL = 5  # points of a slot's name, the smallest size that journals print
ROW = 0.072  # inches that such a name needs


@styled()
def memory_reuse(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """Memory reuse: weightings over time, with the free gate and the allocation gate below.

    The steps that count in the loss are shaded.

    Source figure: Extended Data Fig. 1.
    """
    writers, readers = episode.num_write_heads, episode.num_read_heads
    heights = [2 * panels.slots(episode)] * (writers + readers)
    figure, axes = panels.stack([*heights, 0.25 * readers, 0.25 * writers], width)
    *weights, free, allocation = axes
    draw_weightings(episode, weights)
    panels.gate(free, episode.free_gate, "free gate", READ)
    panels.gate(allocation, episode.allocation_gate, "allocation gate", WRITE)
    panels.answers(episode, *axes)
    letter(weights[0], weights[writers], free, allocation)
    return figure


@styled()
def traversal(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """All writes, and the reads of the answers.

    a, all writes: one row per slot, in the order of the last writes, named by the input of that
    step. b, the read weightings of the answers (shaded) and of the same number of steps before
    them: one column per read head in each step. On the right are the slots with a weight above one
    half in an answer, with the steps of the answers and the input of the step that wrote the slot.
    c, write and allocation gates; d, read modes.

    A slot's name is the input at the last write with a weight above one half. The paper instead
    trained a decoder on the contents, which may contain additional information.

    Source figure: Fig. 3.

    Args:
      episode: an episode of any task whose answers are marked in `mask`.
      width: width of the figure; one column has no room for names.

    Raises:
      UsageError: if the episode has no mask, or no write has a weight above one half.
    """
    if episode.mask is None or not episode.mask.any():
        raise UsageError("this trace has no mask, so its answers are not known")
    final = last_write(episode)[-1]
    order = np.flatnonzero(final >= 0)[np.argsort(final[final >= 0], kind="stable")]
    if not len(order):
        raise UsageError("no write has a weight above one half")
    answers = np.flatnonzero(episode.mask > 0)
    start = max(0, int(answers[0]) - len(answers))
    rows = float(np.clip(ROW * len(order), 1.5, 7.2))
    below = 0.16 * max(2 * episode.num_write_heads, 1.2 * episode.num_read_heads) + 0.1
    figure = new(width, rows + below + 0.6)
    grid = figure.add_gridspec(2, 2, height_ratios=[rows, below], width_ratios=[1.15, 1])
    written, gates = panels.share_time(figure, [grid[0, 0], grid[1, 0]])
    read, modes = panels.share_time(figure, [grid[0, 1], grid[1, 1]])
    _draw_writes(written, episode, order, rows)
    _draw_reads(read, episode, order, start)
    if width == "double":
        _name_slots(written, episode, final[order], rows)
        _name_reads(read, episode, order, set(answers.tolist()))
    both = np.concatenate([episode.write_gate, episode.allocation_gate], axis=1)
    panels.gate(gates, both, "", WRITE)
    heads = episode.num_write_heads
    names = [
        panels.head_label(name, head, heads)
        for name in ("write", "allocate")
        for head in range(heads)
    ]
    gates.set_yticks(gates.get_yticks(), names)
    panels.modes(modes, episode)
    modes.set(xlim=(start - 0.5, episode.num_steps - 0.5), ylabel="")
    panels.ways_legend(modes, loc="center left", bbox_to_anchor=(1.02, 0.5), ncols=1)
    panels.answers(episode, written, read, gates, modes)
    letter(written, read, gates, modes)
    return figure


def _draw_writes(axes: Axes, episode: EpisodeTrace, order: np.ndarray, rows: float) -> None:
    """The writes of all heads, and both colour bars in the corner without writes."""
    weights = episode.write_weights.sum(axis=1)[:, order]
    panels.heat(axes, weights.T, ramp(WRITE), "")
    axes.set_yticks([])
    figure = axes.get_figure(root=True)
    assert figure is not None
    tall = min(0.4, 0.6 / rows)
    for place, name, colour in ((0.58, "write", WRITE), (0.76, "read", READ)):
        scale = ScalarMappable(Normalize(0, 1), ramp(colour))
        inset = axes.inset_axes((place, 1 - tall - 0.2 / rows, 0.02, tall))
        figure.colorbar(scale, cax=inset, ticks=[0, 1])
        inset.set_title(name, fontsize=7, loc="center")


def _draw_reads(axes: Axes, episode: EpisodeTrace, order: np.ndarray, start: int) -> None:
    """A column per head in each step."""
    readers = episode.num_read_heads
    weights = episode.read_weights[start:, :, order].reshape(-1, len(order))
    panels.heat(axes, weights.T, ramp(READ), "", start=start, columns_a_step=readers)
    axes.set_yticks([])
    for step in range(start + 1, episode.num_steps):
        axes.axvline(step - 0.5, color="0.75", lw=0.3)


def _name_slots(axes: Axes, episode: EpisodeTrace, final: np.ndarray, rows: float) -> None:
    """Names as many rows as fit."""
    each = -(-len(final) // int(rows / ROW + 1e-6))
    names = [_name(episode, int(step)) for step in final[::each]]
    axes.set_yticks(range(0, len(final), each), names, fontsize=LABEL)
    axes.tick_params(axis="y", length=0, pad=1)


def _name_reads(axes: Axes, episode: EpisodeTrace, order: np.ndarray, answers: set[int]) -> None:
    """Names the slots read in answers, with the steps of the reads."""
    row = {int(slot): number for number, slot in enumerate(order)}
    names: dict[int, dict[int, list[int]]] = {}
    for read in reads(episode):
        if read.step in answers and read.written is not None:
            steps = names.setdefault(row[read.slot], {}).setdefault(read.written, [])
            steps += [read.step] if read.step not in steps else []
    texts = [
        "; ".join(f"{', '.join(map(str, steps))}: {_name(episode, w)}" for w, steps in ways.items())
        for ways in names.values()
    ]
    axes.set_yticks(list(names), texts, fontsize=LABEL)
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", pad=1)


def _name(episode: EpisodeTrace, written: int) -> str:
    """The input at the step of a write, or the number of the step if it has no words."""
    shown = item(episode, written).removeprefix("(").removesuffix(")")
    return shown or f"(step {written})"
