"""The learning curve at the original's defaults, several seeds, beside the original's points.

python docs/results/learning_curve.py --num_seeds=10 --num_training_iterations=20000

Trains what is not yet trained under --runs, then writes learning_curve.json and
learning_curve.svg beside this file, and prints the table. Needs matplotlib (the plots extra).
"""

import argparse
import json
import statistics
from pathlib import Path

from dncx.explore.plots.curves import draw_curves, finish
from dncx.explore.plots.style import BLUE, VERMILION, new, save, styled
from dncx.runs.metrics import read_metrics
from dncx.settings.training import RunSettings, TrainSettings
from dncx.tasks.settings import RepeatCopySettings
from dncx.training.loop import train

HERE = Path(__file__).parent
# google-deepmind/dnc on TensorFlow 1, measured by this project's founders: nats a sequence,
# mean of the 100 iterations ending there, for two seeds.
ORIGINAL = {
    100: (11.23, 11.35),
    500: (10.32, 10.33),
    1000: (9.50, 9.43),
    2000: (8.50, 7.98),
    3000: (6.83, 6.88),
    5000: (5.74, 5.67),
    10000: (3.74, 3.59),
    15000: (2.30, 1.92),
    16000: (2.05, 1.61),
    20000: (1.60,),
}
BLIND_GUESS = 11.26


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Learning curves at the defaults.")
    parser.add_argument("--num_seeds", type=int, default=10, help="seeds 1, 2, ..., up to this")
    parser.add_argument("--num_training_iterations", type=int, default=20_000)
    parser.add_argument(
        "--runs",
        type=lambda text: Path(text).expanduser(),
        default=Path("runs/learning-curve"),
        help="folder for the runs",
    )
    return parser.parse_args()


def curve(options: argparse.Namespace, seed: int) -> dict[int, float]:
    """Average loss by iteration, of a run that is trained here if it is not there."""
    run_dir = options.runs / f"seed-{seed}"
    if not (run_dir / "model.safetensors").exists():
        run = RunSettings(
            run_dir=run_dir, seed=seed, num_training_iterations=options.num_training_iterations
        )
        train(TrainSettings(task=RepeatCopySettings(), run=run))
    return {line["iteration"]: line["loss"] for line in read_metrics(run_dir / "metrics.jsonl")}


@styled()
def draw(curves: list[dict[int, float]], stem: Path) -> None:
    """The seeds' median and range, and the original's points."""
    figure = new("single", 2.4)
    axes = figure.subplots()
    draw_curves(axes, curves, f"dncx, {len(curves)} seeds", BLUE)
    for seed, marker in ((0, "o"), (1, "s")):
        points = {i: values[seed] for i, values in ORIGINAL.items() if len(values) > seed}
        axes.plot(
            list(points), list(points.values()), marker, color=VERMILION, mfc="none", clip_on=False,
            label=f"google-deepmind/dnc, seed {seed + 1}",
        )  # fmt: skip
    axes.axhline(BLIND_GUESS, color="0.5", lw=0.6, ls=":", label="blind guess")
    finish(axes, "loss (nats per sequence)")
    save(figure, stem, ["svg"])


def t_statistic(ours: list[float], theirs: tuple[float, ...]) -> str:
    """Student's t of the two means, with the pooled variance; nothing for a single seed."""
    if min(len(ours), len(theirs)) < 2:
        return ""
    freedom = len(ours) + len(theirs) - 2
    squares = sum((len(x) - 1) * statistics.variance(x) for x in (ours, theirs))
    error = (squares / freedom * (1 / len(ours) + 1 / len(theirs))) ** 0.5
    return f"{(statistics.mean(ours) - statistics.mean(theirs)) / error:.1f}"


def main() -> None:
    """Trains, draws, and prints the table."""
    options = parse()
    curves = [curve(options, seed) for seed in range(1, options.num_seeds + 1)]
    draw(curves, HERE / "learning_curve")
    content = {"original": ORIGINAL, "dncx": {f"seed {n}": c for n, c in enumerate(curves, 1)}}
    (HERE / "learning_curve.json").write_text(json.dumps(content) + "\n")
    print("| iteration | original | dncx mean | min .. max | mean / original's mean | t |")
    print("|---|---|---|---|---|---|")
    for iteration, original in ORIGINAL.items():
        values = [losses[iteration] for losses in curves if iteration in losses]
        if values:
            mean = statistics.mean(values)
            theirs = ", ".join(f"{x:.2f}" for x in original)
            print(
                f"| {iteration} | {theirs} | {mean:.2f} | {min(values):.2f} .. {max(values):.2f} | "
                f"{mean / statistics.mean(original):.3f} | {t_statistic(values, original)} |"
            )


if __name__ == "__main__":
    main()
