"""Draws the learning curves of several runs in one figure.

python docs/results/curves.py associative_recall DNC=runs/associative-recall LSTM=runs/lstm

Reads the losses in metrics.jsonl and writes associative_recall.svg to the folder of this script.
Several runs with one label are drawn as their median and range. Needs matplotlib (the plots extra).
"""

import sys
from pathlib import Path

from dncx.explore import plots

if __name__ == "__main__":
    name, *given = sys.argv[1:]
    runs: dict[str, list[str]] = {}
    for label, _, folder in (text.partition("=") for text in given):
        runs.setdefault(label, []).append(folder)
    plots.save(plots.learning_curves(runs), Path(__file__).with_name(name), ["svg"])
