"""The figure of the temporal links."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dncx.errors import UsageError
from dncx.explore.decoding import chains, last_write, successors
from dncx.explore.plots import panels
from dncx.explore.plots.style import (
    BLACK,
    NEUTRAL,
    WRITE,
    Drawing,
    Width,
    letter,
    new,
    ramp,
    styled,
)
from dncx.explore.record import EpisodeTrace

MOST_COLUMNS = {"single": 10, "double": 14}


@styled()
def link(
    episode: EpisodeTrace, step: int = -1, head: int = 0, *, width: Width = "double"
) -> Drawing:
    """The links [N, N] after a step, and the chains of writes that they encode.

    A link above one half leads from a slot to the slot written next. In the chains each circle is a
    slot, with the step of its last write below it.

    Args:
      episode: the episode.
      step: the step, -1 for the last.
      head: the write head.
      width: width of the figure.

    Raises:
      UsageError: if the trace has no links, or no such step or head.
    """
    following = successors(episode)
    if not episode.num_directions:
        raise UsageError("this model has no links (linkage=none)")
    if episode.link is None or following is None:
        raise UsageError("this trace has no links; trace fewer episodes, steps or slots")
    time, heads = following.shape[:2]
    if not (-time <= step < time and 0 <= head < heads):
        raise UsageError(f"step {step}, head {head}: there are {time} steps and {heads} heads")
    found = chains(following[step, head])
    columns = int(np.clip(np.ceil((1.2 * sum(map(len, found))) ** 0.5), 5, MOST_COLUMNS[width]))
    lines = sum(-(-len(chain) // columns) for chain in found)
    if width == "double":
        figure = new(width, max(2.8, 0.27 * lines))
        matrix, order = figure.subplots(1, 2, width_ratios=[1, 1.3])
    else:
        heights = 3, max(0.6, 0.27 * lines)
        figure = new(width, sum(heights) + 0.3)
        matrix, order = figure.subplots(2, 1, height_ratios=heights)
    image = panels.heat(matrix, episode.link[step, head], ramp(NEUTRAL), "slot written")
    matrix.set(xlabel="right after slot", aspect="equal", anchor="NW")
    for axis in (matrix.xaxis, matrix.yaxis):
        axis.set_major_locator(panels.whole_numbers(6))
    panels.bar(image, matrix, "link", ticks=[0, 0.5, 1], shrink=0.5, aspect=16, anchor=(0, 1))
    draw_chains(order, found, last_write(episode)[step], columns)
    if found:
        order.set_title("slots, each with the step of its write", loc="right", fontsize=6)
    letter(matrix, order)
    return figure


def draw_chains(axes: Axes, found: list[list[int]], written: np.ndarray, columns: int) -> None:
    """Chains below one another, each wrapped like a line of text."""
    line = 0
    for chain in found:
        places = [(number % columns, line + number // columns) for number in range(len(chain))]
        axes.scatter(*zip(*places, strict=True), s=90, fc="white", ec=WRITE, lw=0.7)
        for slot, place in zip(chain, places, strict=True):
            middle: dict[str, Any] = {"ha": "center", "va": "center", "textcoords": "offset points"}
            axes.annotate(str(slot), place, (0, -0.3), fontsize=5, **middle)
            axes.annotate(str(written[slot]), place, (0, -8.5), fontsize=5, color="0.4", **middle)
        for x, y in places[:-1]:
            last = x == columns - 1
            axes.annotate(
                "", (x + 1, y), (x, y),
                arrowprops={"arrowstyle": "-" if last else "->", "lw": 0.6, "color": BLACK,
                            "shrinkA": 6, "shrinkB": 9 if last else 6, "mutation_scale": 4},
            )  # fmt: skip
        line = places[-1][1] + 1
    if not found:
        axes.text(0, 0, "no link above one half")
    axes.set(xlim=(-0.5, columns + 0.2), ylim=(max(line, 3) - 0.3, -0.5))
    axes.axis("off")
