"""Agents with a DNC, an LSTM and a GRU in memory games, all with the same number of steps.

    python docs/results/memory_games.py [--steps=1000000] [--seeds=0,1,2]

Trains what is missing in memory_games.json in the folder of this script, and writes the file after
each run, so it can be stopped and started again. Then it prints the table and draws
memory_games.svg (needs matplotlib, the plots extra). The return is the mean over 1,000 fresh
episodes, in which the agent takes its most likely action.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from dncx.cli.programs import keep_programs
from dncx.rl.train import train
from dncx.runs.metrics import read_metrics
from dncx.settings.commands import EvalSettings
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import TrainSettings
from dncx.text import table
from dncx.training.evaluation import evaluate

OUT = Path(__file__).with_suffix(".json")
GAMES = ("repeat-previous", "repeat-first", "autoencode", "count-recall")
LEVELS = ("easy", "medium")
MODELS = ("dnc", "lstm", "gru")
ENVIRONMENTS, HIDDEN, RATE = 16, 64, 1e-3
SLOTS = {"easy": 64, "medium": 128}
POINTS = 20  # of a learning curve


def settings_of(
    game: str, level: str, model: str, seed: int, steps: int, run_dir: Path
) -> TrainSettings[Any]:
    """The settings of a run; those of the game's defaults that are not named here stay."""
    default = DEFAULTS[game]
    task = dataclasses.replace(default.task, level=level)
    sizes: dict[str, Any] = {"model": model, "hidden_size": HIDDEN}
    if model == "dnc":
        sizes |= {"memory_size": SLOTS[level], "word_size": 16, "num_read_heads": 1}
    window = 51  # as in the easy games; longer episodes take several windows
    iterations = steps // (ENVIRONMENTS * window)
    return dataclasses.replace(
        default,
        task=dataclasses.replace(task, window=window),
        model=dataclasses.replace(default.model, **sizes),
        optimizer=dataclasses.replace(default.optimizer, learning_rate=RATE),
        run=dataclasses.replace(
            default.run,
            run_dir=run_dir,
            seed=seed,
            batch_size=ENVIRONMENTS,
            num_training_iterations=iterations,
            report_interval=max(1, iterations // POINTS),
        ),
    )


def result(game: str, level: str, model: str, seed: int, steps: int) -> dict[str, Any]:
    """Trains an agent and measures it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(game, level, model, seed, steps, Path(folder) / "run")
        start = time.perf_counter()
        run_dir = train(settings)
        minutes = (time.perf_counter() - start) / 60
        (measured,) = evaluate(EvalSettings(task=settings.task, run_dir=run_dir))
        lines = read_metrics(run_dir / "metrics.jsonl")
    per_iteration = ENVIRONMENTS * settings.task.window
    assert measured.loss is not None
    return {
        "game": game,
        "level": level,
        "model": model,
        "seed": seed,
        "steps": settings.run.num_training_iterations * per_iteration,
        "minutes": round(minutes, 2),
        "return": round(-measured.loss, 4),
        "curve": [
            [line["iteration"] * per_iteration, round(line["return"], 4)]
            for line in lines
            if line["return"] is not None
        ],
    }


def report(results: list[dict[str, Any]]) -> str:
    """The mean and the range of the returns over the seeds."""
    rows = []
    for game, level in itertools.product(GAMES, LEVELS):
        row = [game, level]
        for model in MODELS:
            found = [
                one["return"]
                for one in results
                if (one["game"], one["level"], one["model"]) == (game, level, model)
            ]
            text = "-"
            if found:
                text = f"{statistics.mean(found):.2f} ({min(found):.2f} to {max(found):.2f})"
            row.append(text)
        rows.append(row)
    return table(["game", "level", *MODELS], rows)


def draw(results: list[dict[str, Any]]) -> None:
    """Learning curves: the mean over the seeds, one panel per game and level."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "memory games"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(LEVELS), len(GAMES), figsize=(2.6 * len(GAMES), 2.1 * len(LEVELS)), sharey=True,
        squeeze=False,
    )  # fmt: skip
    for (row, level), (column, game) in itertools.product(enumerate(LEVELS), enumerate(GAMES)):
        panel = axes[row][column]
        for number, model in enumerate(MODELS):
            curves = [
                one["curve"]
                for one in results
                if (one["game"], one["level"], one["model"]) == (game, level, model)
            ]
            if curves:
                points = list(zip(*curves, strict=False))
                steps = [point[0][0] / 1e6 for point in points]
                means = [statistics.mean(value for _, value in point) for point in points]
                panel.plot(steps, means, color=f"C{number}", label=model.upper())
        panel.set_title(f"{game}, {level}", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7)
    axes[-1][0].set_xlabel("million steps", fontsize=8)
    axes[-1][0].set_ylabel("return", fontsize=8)
    axes[0][0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(OUT.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", default="0,1,2")
    arguments = parser.parse_args()
    keep_programs(True)
    results = json.loads(OUT.read_text()) if OUT.exists() else []
    done = {(one["game"], one["level"], one["model"], one["seed"]) for one in results}
    seeds = map(int, arguments.seeds.split(","))
    for seed, game, level, model in itertools.product(seeds, GAMES, LEVELS, MODELS):
        if (game, level, model, seed) not in done:
            results.append(result(game, level, model, seed, arguments.steps))
            OUT.write_text(json.dumps(results, indent=1) + "\n")
    print(report(results))
    draw(results)
