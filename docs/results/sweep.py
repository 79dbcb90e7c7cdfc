"""Draws the results of `dncx eval RUN --sweep NAME=... [--sweep NAME=...] --out FILE.json`.

python docs/results/sweep.py associative_recall.json associative_recall_sweep
python docs/results/sweep.py memory_size.json memory_size heatmap

Reads FILE.json from the folder of this script and writes the figure there, as SVG. The first option
that was swept is the horizontal axis; the second gives the lines or, in a heatmap, the rows. Needs
matplotlib (the plots extra).
"""

import json
import sys
from pathlib import Path

from dncx.explore import plots

if __name__ == "__main__":
    results, name = (Path(__file__).with_name(text) for text in sys.argv[1:3])
    draw = plots.evaluation_heatmap if sys.argv[3:] == ["heatmap"] else plots.evaluation
    plots.save(draw(json.loads(results.read_text())), name, ["svg"])
