"""How the model that ships as memory-reuse uses its ten slots, after Extended Data Fig. 1.

python docs/results/memory_reuse.py

Draws memory_reuse.svg beside this file and prints what it counts. Needs matplotlib (the plots
extra).
"""

from pathlib import Path

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from dncx import unroll_with_trace
from dncx.training.runs import load_run


def main() -> None:
    """One series of ten sequences."""
    task, cell, _ = load_run("memory-reuse")
    episode = jax.jit(task.sample, static_argnums=1)(jax.random.key(0), 1)
    outputs, _, trace = jax.jit(unroll_with_trace)(cell, episode.inputs)
    wrong = ((outputs > 0) != (episode.targets > 0.5)) & (episode.mask > 0)[..., None]
    access, interface = trace.state.access_state, trace.access.interface
    writes = np.asarray(access.write_weights[0, :, 0])
    reads = np.asarray(access.read_weights[0, :, 0])
    answering = np.asarray(episode.mask[0]) > 0
    showing = np.asarray(episode.inputs[0, :, :-1]).any(axis=-1)
    print(f"vectors shown: {answering.sum()}, wrong bits: {int(wrong.sum())}")
    slots = np.bincount(writes[showing].argmax(axis=1), minlength=writes.shape[1])
    print(f"vectors shown that were written to each slot: {slots.tolist()}")
    gates = {
        "free gate": np.asarray(interface.free_gate[0, :, 0]),
        "allocation gate": np.asarray(interface.allocation_gate[0, :, 0]),
        "write gate": np.asarray(interface.write_gate[0, :, 0]),
    }
    for name, gate in gates.items():
        means = gate[showing].mean(), gate[answering].mean()
        print(f"{name}: mean {means[0]:.2f} where a vector is shown, {means[1]:.2f} at answers")
    draw(writes, reads, gates, answering, Path(__file__).parent / "memory_reuse.svg")


def draw(writes: np.ndarray, reads: np.ndarray, gates: dict, answering: np.ndarray, path: Path):
    """Weightings as slots x time, and the gates below; answers are shaded."""
    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "dncx"})
    heights = {"height_ratios": [2, 2, 1, 1, 1]}
    figure, axes = plt.subplots(
        5, 1, figsize=(7, 5), sharex=True, layout="constrained", gridspec_kw=heights
    )
    for axis, weights, label in zip(axes, (writes, reads), ("written", "read"), strict=False):
        axis.imshow(weights.T, aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="none")
        axis.set_ylabel(f"slot {label}")
    for axis, (name, gate) in zip(axes[2:], gates.items(), strict=True):
        axis.step(range(len(gate)), gate, where="mid", color="#0072B2", lw=0.9)
        axis.set(ylim=(-0.05, 1.05), ylabel=name.replace(" ", "\n"))
        ends = np.flatnonzero(np.diff(np.concatenate([[0], answering, [0]])))
        for start, end in zip(ends[::2], ends[1::2], strict=True):
            axis.axvspan(start - 0.5, end - 0.5, color="0.9", lw=0)
    axes[-1].set_xlabel("step (answers shaded)")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
