"""A figure of what `dncx eval RUN --sweep NAME=... [--sweep NAME=...] --out FILE.json` measured.

python docs/results/sweep.py FILE.json FIGURE.svg

The first option swept is the horizontal axis, the second one makes the lines. Needs matplotlib
(the plots extra).
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """The share of sequences without a mistake."""
    first, *others = results[0]["swept"]
    lines: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        label = ", ".join(f"{name.replace('_', ' ')} {result['swept'][name]}" for name in others)
        right = 1 - result["scores"]["sequence_error"]
        lines.setdefault(label, []).append((result["swept"][first], right))
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "dncx"})
    figure, axes = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
    for colour, (label, points) in zip(COLOURS, lines.items(), strict=False):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, ms=3.5, lw=1.2, label=label)
    axes.set(xlabel=first.replace("_", " "), ylabel="without a mistake", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    if others:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
