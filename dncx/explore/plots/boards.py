"""A figure of Mini-SHRDLU: the boards of an episode, with the goals in words."""

import textwrap

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dncx.errors import UsageError
from dncx.explore.plots import panels
from dncx.explore.plots.style import BLACK, LINES, NEUTRAL, Drawing, Width, new, styled
from dncx.explore.record import EpisodeTrace
from dncx.tasks.shrdlu.boards import EMPTY, SIZE
from dncx.tasks.shrdlu.observations import OBSERVATION_SIZE, board_of

COLUMNS = {"single": 4, "double": 8}
LETTERS = {"single": 75, "double": 155}  # in a line of the goals
LINE, ROW = 0.13, 1.08  # inches of a line and of a row of boards


@styled()
def boards(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """The board before each action, with the action below it: "1>3" moves a block, from 1 to 3.

    Above the boards are the goals in the order in which they were told; the one to reach is black.

    Args:
      episode: an episode of Mini-SHRDLU. Boards that do not fit a page are left out at the end.
      width: width of the figure.

    Raises:
      UsageError: if the episode is one of another task.
    """
    words, mask = episode.words, episode.mask
    if words is None or mask is None or episode.inputs.shape[1] != OBSERVATION_SIZE:
        raise UsageError("this episode has no boards of mini-shrdlu")
    steps, columns = np.flatnonzero(mask > 0), COLUMNS[width]
    asked = words.inputs[steps[0]].partition(",")[0].removeprefix("go ")
    lines = [
        (line, name == asked)
        for name, said in _goals(words.inputs[: steps[0]]).items()
        for line in textwrap.wrap(f"goal {name}: {', '.join(said)}", LETTERS[width])
    ]
    text = LINE * (len(lines) + 1)
    rows = max(1, min(-(-len(steps) // columns), int((panels.TALLEST - text) / ROW)))
    figure = new(width, text + ROW * rows)
    parts = figure.subfigures(2, 1, height_ratios=[text, ROW * rows], squeeze=False)
    above, below = parts[:, 0]
    for number, (line, is_asked) in enumerate(lines, 1):
        colour = BLACK if is_asked else NEUTRAL
        above.text(0.01, 1 - number / (len(lines) + 1), line, color=colour)
    grid = np.ravel(below.subplots(rows, columns, squeeze=False))
    for axes, step in zip(grid, steps, strict=False):
        _draw(axes, board_of(episode.inputs[step]))
        axes.set_title(f"step {step}", fontsize=7, x=0)
        axes.set_xlabel(words.outputs[step])
    for axes in grid[len(steps) :]:
        axes.remove()
    return figure


def _goals(told: tuple[str, ...]) -> dict[str, list[str]]:
    """The constraints of each goal, from "goal B: 3 above 5" at each step."""
    goals: dict[str, list[str]] = {}
    for words in told:
        name, _, constraint = words.removeprefix("goal ").partition(": ")
        goals.setdefault(name, []).append(constraint)
    return goals


def _draw(axes: Axes, grid: Int[np.ndarray, "3 3"]) -> None:
    """The blocks of a board, each with its number and colour."""
    for column, up in np.argwhere(grid != EMPTY):
        block = int(grid[column, up])
        axes.add_patch(Rectangle((column, up), 1, 1, fc=LINES[block], ec="white", lw=1, alpha=0.6))
        axes.text(column + 0.5, up + 0.5, str(block + 1), ha="center", va="center")
    axes.set(xlim=(0, SIZE), ylim=(0, SIZE), aspect="equal", xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(False)
