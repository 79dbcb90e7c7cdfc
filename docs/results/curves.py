"""Learning curves of runs, beside each other.

python docs/results/curves.py associative_recall.svg DNC=runs/associative-recall LSTM=runs/lstm

Draws the losses in metrics.jsonl into a file beside this one. Needs matplotlib (the plots extra).
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from dncx.training.metrics import read_metrics

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
UNITS = {"associative-recall": "bits per sequence", "traversal": "nats per sequence"}


def draw(path: Path, runs: dict[str, Path]) -> None:
    """A line a run; where lessons begin, dotted lines."""
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "dncx"})
    figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
    unit = ""
    for colour, (label, run) in zip(COLOURS, runs.items(), strict=False):
        lines = read_metrics(run / "metrics.jsonl")
        losses = [line for line in lines if "loss" in line]
        iterations = [line["iteration"] for line in losses]
        axes.plot(iterations, [x["loss"] for x in losses], color=colour, lw=1.2, label=label)
        for line in lines:
            if "loss" not in line and "lesson" in line:
                axes.axvline(line["iteration"], color=colour, lw=0.7, ls=":")
        unit = UNITS[json.loads((run / "config.json").read_text())["task"]["name"]]
    axes.set(xlabel="iteration", ylabel=f"loss ({unit})", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    name, *given = sys.argv[1:]
    pairs = (run.partition("=") for run in given)
    draw(Path(__file__).parent / name, {label: Path(folder) for label, _, folder in pairs})
