"""A figure of a measurement by `dncx probe RUN --out FILE.json`."""

from collections.abc import Mapping
from typing import Any

from dncx.errors import UsageError
from dncx.explore.plots.panels import whole_numbers
from dncx.explore.plots.style import BLUE, NEUTRAL, Drawing, Width, new, styled


@styled()
def planned_move(result: Mapping[str, Any], *, width: Width = "single") -> Drawing:
    """Accuracy of the first move, predicted at each step from the content of its goal.

    Steps count from the last constraint of the goal (dashed); all of them are before the go cue.

    Args:
      result: the JSON of `dncx probe`.
      width: width of the figure.

    Raises:
      UsageError: if it has no steps.
    """
    steps = result.get("steps", ())
    if not steps:
        raise UsageError("these results have no steps of `dncx probe`")
    figure = new(width, 1.9)
    axes = figure.subplots()
    numbers = [found["step"] for found in steps]
    axes.axvline(0, color="0.5", lw=0.6, ls="--", zorder=0)
    for name, colour in {"content": BLUE, "most_frequent": NEUTRAL}.items():
        values = [100 * found[name] for found in steps]
        axes.plot(numbers, values, "o-", color=colour, label=name.replace("_", " "))
    axes.set(xlabel="steps since the goal was told", ylabel="accuracy (%)", ylim=(0, 100))
    axes.xaxis.set_major_locator(whole_numbers(8))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure
