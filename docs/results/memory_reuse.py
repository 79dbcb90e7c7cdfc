"""Shows how the model that ships as memory-reuse uses its ten slots, as in Extended Data Fig. 1.

python docs/results/memory_reuse.py

Writes memory_reuse.svg to the folder of this script and prints counts. Needs matplotlib (the plots
extra).
"""

from pathlib import Path

import numpy as np

from dncx import explore
from dncx.explore import plots


def main() -> None:
    """Draws one series of ten sequences."""
    episode = explore.trace_run("memory-reuse")[0]
    assert episode.mask is not None
    answering, showing = episode.mask > 0, episode.inputs[:, :-1].any(axis=-1)
    print(f"vectors shown: {answering.sum()}, bit error: {episode.scores['bit_error']}")
    slots = np.bincount(
        episode.write_weights[showing, 0].argmax(axis=1), minlength=episode.num_slots
    )
    print(f"vectors written to each slot: {slots.tolist()}")
    for name in ("free_gate", "allocation_gate", "write_gate"):
        gate = getattr(episode, name)
        means = gate[showing].mean(), gate[answering].mean()
        print(f"{name}: mean {means[0]:.2f} while vectors are shown, {means[1]:.2f} at the answers")
    plots.save(plots.memory_reuse(episode), Path(__file__).with_suffix(""), ["svg"])


if __name__ == "__main__":
    main()
