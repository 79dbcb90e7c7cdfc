"""A figure of what `dncx eval RUN --sweep NAME=... [--sweep NAME=...] --out FILE.json` measured.

python docs/results/sweep.py associative_recall.json associative_recall_sweep
python docs/results/sweep.py memory_size.json memory_size heatmap

Files are beside this one; the figure is an SVG file. The first option swept is the horizontal axis,
the second one makes the lines, or in a heatmap the rows. Needs matplotlib (the plots extra).
"""

import json
import sys
from pathlib import Path

from dncx.explore import plots

if __name__ == "__main__":
    results, name = (Path(__file__).with_name(text) for text in sys.argv[1:3])
    draw = plots.evaluation_heatmap if sys.argv[3:] == ["heatmap"] else plots.evaluation
    plots.save(draw(json.loads(results.read_text())), name, ["svg"])
