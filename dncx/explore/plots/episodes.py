"""Figures for any episode."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dncx.errors import UsageError
from dncx.explore.plots import panels
from dncx.explore.plots.style import (
    NEUTRAL,
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

SIGNED = "PuOr_r"


@styled()
def memory(
    episode: EpisodeTrace, steps: Sequence[int] | None = None, *, width: Width = "double"
) -> Drawing:
    """The memory [N, W] after the writes of some steps, on a common scale.

    Args:
      episode: the episode.
      steps: the steps, -1 for the last; by default six spread over the episode (three if narrow).
      width: width of the figure.

    Raises:
      UsageError: if there is no such step.
    """
    time, columns = episode.num_steps, {"single": 3, "double": 6}[width]
    spread = np.unique(np.linspace(0, time - 1, columns).round().astype(int)).tolist()
    chosen = spread if steps is None else [*steps]
    if not chosen or not all(-time <= step < time for step in chosen):
        raise UsageError(f"steps {chosen}: must be some of 0 to {time - 1}")
    rows = -(-len(chosen) // columns)
    figure = new(width, rows * (panels.slots(episode) + 0.7) + 0.3)
    grid = np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    shown = episode.memory[chosen]
    limit = float(np.abs(shown).max()) or 1.0
    for axes, step, contents in zip(grid, chosen, shown, strict=False):
        panels.heat(axes, contents, SIGNED, "", vmin=-limit, vmax=limit)
        axes.set_title(f"step {step % time}", fontsize=7, x=0)
    for axes in grid[len(chosen) :]:
        axes.remove()
    for axes in grid[: len(chosen) : columns]:
        axes.set_ylabel("slot")
    for axes in grid[max(0, len(chosen) - columns) : len(chosen)]:
        axes.set_xlabel("number in the slot")
        axes.tick_params(labelbottom=True)
    panels.bar(grid[0].images[0], list(grid[: len(chosen)]), "content")
    return figure


def draw_weightings(episode: EpisodeTrace, panel: Sequence[Axes]) -> None:
    """A panel per write head, then one per read head, with a colour bar for each kind."""
    kinds = (("write", episode.write_weights, WRITE), ("read", episode.read_weights, READ))
    rest = list(panel)
    for what, weights, colour in kinds:
        heads = weights.shape[1]
        mine, rest = rest[:heads], rest[heads:]
        for head, axes in enumerate(mine):
            label = panels.slots_label(what, head, heads)
            panels.heat(axes, weights[:, head].T, ramp(colour), label)
        panels.share_bar(mine[0].images[0], mine[0], "weight")


@styled()
def weightings(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """Write weightings [M x N, T] and read weightings [R x N, T] over time, answers shaded."""
    heads = episode.num_write_heads + episode.num_read_heads
    figure, axes = panels.stack([panels.slots(episode)] * heads, width)
    draw_weightings(episode, axes)
    panels.answers(episode, *axes)
    letter(axes[0], axes[episode.num_write_heads])
    return figure


@styled()
def usage(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """Usage of each slot [N, T] before the write of each step."""
    figure, (axes,) = panels.stack([1.3 * panels.slots(episode)], width)
    panels.usage(axes, episode, "slot")
    panels.answers(episode, axes)
    return figure


@styled()
def gates(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """Gates [T, M] and [T, R], strengths and read modes [T, R, 3], as a filled strip per head.

    A full strip is 1 for a gate, and the number next to it for a strength.
    """
    writers, readers = episode.num_write_heads, episode.num_read_heads
    counts = (writers, writers, readers, writers, readers, 1.5 * readers)
    figure, axes = panels.stack([0.22 * count for count in counts], width)
    kinds = (
        ("write gate", episode.write_gate, WRITE),
        ("allocation gate", episode.allocation_gate, WRITE),
        ("free gate", episode.free_gate, READ),
        ("write strength", episode.write_strengths, WRITE),
        ("read strength", episode.read_strengths, READ),
    )
    for panel, (name, values, colour) in zip(axes, kinds, strict=False):
        panels.gate(panel, values, name, colour)
    panels.modes(axes[-1], episode)
    panels.ways_legend(axes[-1])
    panels.answers(episode, *axes)
    letter(axes[0], axes[3], axes[5])
    return figure


def draw_features(axes: Axes, rows: np.ndarray, name: str) -> None:
    """Inputs, targets or outputs [T, features], with a colour bar unless they are bits."""
    limit = float(np.abs(rows).max()) or 1.0
    signed = bool((rows < 0).any())
    cmap, least = (SIGNED, -limit) if signed else (ramp(NEUTRAL), 0.0)
    image = panels.heat(axes, rows.T, cmap, name, vmin=least, vmax=limit)
    axes.set_yticks([])
    if signed or limit != 1:
        panels.panel_bar(image, axes, "", [least, limit])


@styled()
def overview(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """One episode: inputs, targets and outputs, write and read weightings, usage and gates.

    Outputs are shown at the steps that count in the loss, on their own scale; these steps are
    shaded. If there are more slots than pixels, usage is the mean of neighbours.
    """
    sequence = {"input": episode.inputs, "target": episode.targets, "output": episode.outputs}
    sequence = {name: rows for name, rows in sequence.items() if rows is not None}
    writers, readers = episode.num_write_heads, episode.num_read_heads
    heights = [float(np.clip(0.05 * rows.shape[1], 0.32, 0.5)) for rows in sequence.values()]
    heights += [0.6 * panels.slots(episode)] * (writers + readers + 1)
    heights += [0.16 * count for count in (writers, writers, readers, 1.5 * readers)]
    figure, axes = panels.stack(heights, width)
    for panel, (name, rows) in zip(axes, sequence.items(), strict=False):
        counted = rows if episode.mask is None or name == "input" else rows * episode.mask[:, None]
        draw_features(panel, counted, name)
    weights, last = axes[len(sequence) : -5], axes[-5:]
    draw_weightings(episode, weights)
    panels.usage(last[0], episode, "slot")
    panels.gate(last[1], episode.write_gate, "write gate", WRITE)
    panels.gate(last[2], episode.allocation_gate, "allocation gate", WRITE)
    panels.gate(last[3], episode.free_gate, "free gate", READ)
    panels.modes(last[4], episode)
    panels.ways_legend(last[4])
    panels.answers(episode, *weights, *last)
    letter(axes[0], weights[0], weights[writers], last[0], last[1])
    return figure
