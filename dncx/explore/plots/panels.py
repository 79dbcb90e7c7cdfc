"""The panels of figures: one kind of data on one pair of axes, with time to the right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.gridspec import SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import Locator, MaxNLocator

from dncx.explore.plots.style import (
    BLUE,
    DPI,
    GREEN,
    NEUTRAL,
    ORANGE,
    SHADE,
    Drawing,
    Width,
    new,
    ramp,
)
from dncx.explore.record import EpisodeTrace

FINEST = DPI / 2  # cells per inch: two pixels each
TALLEST = 9.7  # inches: one page
WAYS = {"backward": BLUE, "forward": ORANGE, "content": GREEN}  # as on the page


def stack(heights: Sequence[float], width: Width) -> tuple[Drawing, list[Axes]]:
    """A figure of panels on one time axis; their heights are in inches."""
    spare = TALLEST - 0.1 * len(heights) - 0.35
    heights = [height * min(1, spare / sum(heights)) for height in heights]
    figure = new(width, sum(heights) + 0.1 * len(heights) + 0.35)
    grid = figure.add_gridspec(len(heights), height_ratios=list(heights))
    return figure, share_time(figure, [grid[row, 0] for row in range(len(heights))])


def share_time(figure: Drawing, places: Sequence[SubplotSpec]) -> list[Axes]:
    """Axes below one another, with step numbers only below the last one."""
    axes = [figure.add_subplot(places[0])]
    axes += [figure.add_subplot(place, sharex=axes[0]) for place in places[1:]]
    for panel in axes[:-1]:
        panel.tick_params(bottom=False, labelbottom=False)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(whole_numbers(10))
    return axes


def whole_numbers(most: int) -> Locator:
    """Ticks at round numbers, about as many as `most`."""
    return MaxNLocator(nbins=most, integer=True, steps=[1, 2, 5, 10])


def heat(
    axes: Axes,
    array: Float[np.ndarray, "rows T"],
    cmap: Colormap | str,
    label: str,
    *,
    start: int = 0,
    columns_a_step: int = 1,
    vmin: float = 0,
    vmax: float = 1,
    mean: bool = False,
) -> AxesImage:
    """Rows against time, or a matrix.

    If there are more cells than pixels, each block of neighbours shows its number farthest from 0,
    so that a sharp write to one slot of many stays dark. With `mean` it shows their mean, so that
    half of the slots do not look like all of them.
    """
    most = np.maximum(1, (inches(axes) * FINEST).astype(int))
    factors = -(-np.array(array.shape) // most)
    shown = (averaged if mean else pooled)(array, *factors.tolist())
    rows, columns = (int(size) for size in shown.shape * factors)
    left = start - 0.5
    image = axes.imshow(
        shown,
        cmap=cmap,
        extent=(left, left + columns / columns_a_step, rows - 0.5, -0.5),
        vmin=vmin,
        vmax=vmax,
    )
    axes.set(
        xlim=(left, left + array.shape[1] / columns_a_step),
        ylim=(array.shape[0] - 0.5, -0.5),
        ylabel=label,
    )
    axes.yaxis.set_major_locator(whole_numbers(4))
    axes.spines[["top", "right"]].set_visible(True)
    return image


def inches(axes: Axes) -> np.ndarray:
    """Approximate height and width; labels may take part of it."""
    figure, box = axes.get_figure(root=True), axes.get_window_extent()
    assert figure is not None
    return np.array([box.height, box.width]) / figure.dpi


def pooled(
    array: Float[np.ndarray, "rows columns"], row: int, column: int
) -> Float[np.ndarray, "fewer narrower"]:
    """The number farthest from 0 in each block of row x column cells."""
    blocks = _blocks(array, row, column, 0.0)
    farthest = np.abs(blocks).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(blocks, farthest, axis=-1)[..., 0]


def averaged(
    array: Float[np.ndarray, "rows columns"], row: int, column: int
) -> Float[np.ndarray, "fewer narrower"]:
    """The mean of each block of row x column cells."""
    return np.nanmean(_blocks(array, row, column, np.nan), axis=-1)


def _blocks(
    array: Float[np.ndarray, "rows columns"], row: int, column: int, beyond: float
) -> Float[np.ndarray, "fewer narrower cells"]:
    """The cells of each block; those past the end are `beyond`."""
    missing = (-array.shape[0] % row, -array.shape[1] % column)
    padded = np.pad(array, [(0, missing[0]), (0, missing[1])], constant_values=beyond)
    height, width = padded.shape[0] // row, padded.shape[1] // column
    return padded.reshape(height, row, width, column).swapaxes(1, 2).reshape(height, width, -1)


def strips(
    axes: Axes, layers: Float[np.ndarray, "L T heads"], colours: Sequence[str], label: str
) -> None:
    """A strip per head, the first at the top: stacked layers with a sum of at most 1."""
    _, steps, heads = layers.shape
    edges = np.arange(steps + 1) - 0.5
    for head in range(heads):
        base = np.full(steps, 1.12 * (heads - 1 - head))
        for layer, colour in zip(layers, colours, strict=True):
            top = base + layer[:, head]
            axes.stairs(top, edges, baseline=base, fill=True, color=colour, lw=0,
                        rasterized=True)  # fmt: skip
            base = top
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-0.03, 1.12 * heads - 0.09))
    axes.set_yticks(
        1.12 * np.arange(heads)[::-1] + 0.5,
        [str(head) for head in range(heads)] if heads > 1 else [""],
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(label, rotation=0, ha="right", va="center")


def gate(
    axes: Axes, values: Float[np.ndarray, "T heads"], label: str, colour: str = NEUTRAL
) -> None:
    """A strip per head, filled up to the value, or to its share of the largest value above 1."""
    most = max(1.0, float(values.max()))
    name = label if most == 1 else f"{label}\n(full: {most:.3g})"
    strips(axes, values[None] / most, [colour], name)


def modes(axes: Axes, episode: EpisodeTrace, heads: slice = slice(None)) -> None:
    """The shares of the ways of reading, a strip per head, summed over the write heads."""
    many = episode.num_directions
    parts = np.split(episode.read_mode[:, heads], [many, 2 * many], axis=-1)
    layers = np.stack([part.sum(axis=-1) for part in parts])
    strips(axes, layers, list(WAYS.values()), "read mode")


def ways_legend(axes: Axes, **place: Any) -> None:
    """A legend of the read modes."""
    handles = [Patch(color=colour, label=way, lw=0) for way, colour in WAYS.items()]
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 3}
    axes.legend(
        handles=handles, handlelength=0.7, columnspacing=1, handletextpad=0.4, **above | place
    )


def answers(episode: EpisodeTrace, *panels: Axes) -> None:
    """Shades the steps that count in the loss, unless all count or they are not known."""
    if episode.mask is None or episode.mask.all():
        return
    ends = np.flatnonzero(np.diff(np.concatenate([[0], episode.mask > 0, [0]])))
    for axes in panels:
        for start, end in zip(ends[::2], ends[1::2], strict=True):
            axes.axvspan(start - 0.5, end - 0.5, color=SHADE, lw=0, zorder=-1)


def slots(episode: EpisodeTrace) -> float:
    """The height of a panel of all slots, in inches."""
    return float(np.clip(episode.num_slots * 0.025, 0.5, 1.5))


def slots_label(what: str, head: int, heads: int) -> str:
    """The label of a weighting's axis of slots."""
    return f"{head_label(what, head, heads)}\nslot"


def head_label(what: str, head: int, heads: int) -> str:
    """The name of a head, with its number if there are several."""
    return f"{what} {head}" if heads > 1 else what


def bar(image: AxesImage, axes: Axes | Sequence[Axes], label: str, **options: Any) -> None:
    """A colour bar whose numbers stay within its ends."""
    figure = image.get_figure(root=True)
    assert figure is not None
    drawn = figure.colorbar(image, ax=axes, **{"aspect": 25, "pad": 0.01} | options)
    drawn.set_label(label)
    drawn.outline.set_linewidth(0.5)  # pyright: ignore[reportCallIssue]
    if "ticks" in options:
        first, *_, last = drawn.ax.get_yticklabels()
        first.set_verticalalignment("bottom")
        last.set_verticalalignment("top")


def share_bar(image: AxesImage, axes: Axes, label: str) -> None:
    """A colour bar from 0 to 1, as high as one panel and always of the same width."""
    panel_bar(image, axes, label, [0.0, 0.5, 1.0])


def panel_bar(image: AxesImage, axes: Axes, label: str, ticks: Sequence[float]) -> None:
    """A colour bar with its ends among the ticks, like `share_bar`."""
    bar(image, axes, label, ticks=ticks, aspect=inches(axes)[0] / 0.08, format="{x:.3g}")


def usage(axes: Axes, episode: EpisodeTrace, label: str) -> None:
    """Usage of each slot [N, T]."""
    image = heat(axes, episode.usage.T, ramp(NEUTRAL), label, mean=True)
    share_bar(image, axes, "usage")
