"""Shows how two models that ship with dncx use their memory: what is in each slot, and the links.

python docs/results/memory_at_work.py

Writes traversal_decoded.svg and associative_recall_links.svg to the folder of this script, and
prints whether the answers are right. Needs matplotlib (the plots extra).
"""

from pathlib import Path

from dncx import explore
from dncx.explore import plots

HERE = Path(__file__).parent


def main() -> None:
    """Draws a path of five edges on the Underground, and the recall of one item."""
    path = explore.trace_run(
        "traversal", graph="underground", path_length=5, memory_size=128, seed=1
    )[0]
    print(f"traversal: {dict(path.scores)}")
    plots.save(plots.traversal(path), HERE / "traversal_decoded", ["svg"])
    recall = explore.trace_run("associative-recall", min_items=6, seed=1)[0]
    print(f"associative recall: {dict(recall.scores)}")
    plots.save(plots.link(recall), HERE / "associative_recall_links", ["svg"])


if __name__ == "__main__":
    main()
