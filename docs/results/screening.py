"""Compares variants of the DNC on bAbI by the stories that they need to learn.

    python docs/results/screening.py PATH_OF_THE_DATA [--seeds=0,1,2]

Each variant learns task 1 alone, and the seven tasks 1, 6 and 9 to 13 together, until the error
on the validation stories is below 5 %, or for at most 60,000 stories. Writes babi/screening.json
to the folder of this script after each run; started again, it skips the runs in that file. Takes
some hours.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dncx.runs.metrics import read_metrics

OUT = Path(__file__).with_name("babi") / "screening.json"
BATCH_SIZE, MOST_STORIES, SOLVED = 8, 60_000, 5.0  # SOLVED: error in per cent

BASE = (
    "--preset=babi --partial --memory_size=32 --num_read_heads=2 --hidden_size=128 "
    "--no_content_mask --no_wipe_freed --no_interface_norm --output_dropout=0 --auxiliary_loss=0 "
    f"--batch_size={BATCH_SIZE} --gradient_accumulation=1 --weight_average=0 "
    "--learning_rate_schedule=constant --warmup_iterations=100 --checkpoint_interval=-1 "
    f"--num_training_iterations={MOST_STORIES // BATCH_SIZE} --report_interval=250 --num_buckets=4"
).split()
AUXILIARY = "--auxiliary_loss=1"
VARIANTS: dict[str, tuple[str, ...]] = {
    "DNC": (),
    "auxiliary loss": (AUXILIARY,),
    "auxiliary loss, masks": (AUXILIARY, "--content_mask"),
    "auxiliary loss, wiping": (AUXILIARY, "--wipe_freed"),
    "auxiliary loss, sharpened links": (AUXILIARY, "--sharpen_links"),
    "auxiliary loss, interface norm": (AUXILIARY, "--interface_norm"),
    "auxiliary loss, controller norm": (AUXILIARY, "--controller_norm"),
    "auxiliary loss, dropout 0.1": (AUXILIARY, "--output_dropout=0.1"),
    "auxiliary loss, no links": (AUXILIARY, "--linkage=none"),
    "the preset's options": (
        AUXILIARY,
        *("--content_mask", "--wipe_freed", "--interface_norm", "--output_dropout=0.1"),
    ),
    "LSTM, auxiliary loss, dropout 0.1": (
        *("--model=lstm", "--hidden_size=192"),
        *(AUXILIARY, "--output_dropout=0.1"),
    ),
}
MEMORY_FLAGS = ("--memory_size", "--num_read_heads", "--hidden_size", "--no_")
GROUPS = {"task 1": ("1", 250), "seven tasks": ("1,6,9,10,11,12,13", 500)}  # tasks, validations


def command(variant: str, group: str, seed: int, data_dir: Path, run_dir: Path) -> list[str]:
    """The command that trains a variant."""
    tasks, interval = GROUPS[group]
    lstm = "--model=lstm" in VARIANTS[variant]
    base = [flag for flag in BASE if not (lstm and flag.startswith(MEMORY_FLAGS))]
    return [
        *(sys.executable, "-m", "dncx", "train", "babi", *base),
        *(f"--data_dir={data_dir}", f"--tasks={tasks}", f"--validation_interval={interval}"),
        *(f"--seed={seed}", f"--run_dir={run_dir}", *VARIANTS[variant]),
    ]


def validations(run_dir: Path) -> dict[int, float]:
    """Validation errors in per cent by the number of stories so far."""
    if not (run_dir / "metrics.jsonl").exists():
        return {}
    lines = read_metrics(run_dir / "metrics.jsonl")
    return {
        BATCH_SIZE * line["iteration"]: line["validation_error"]
        for line in lines
        if "validation_error" in line
    }


def learn(variant: str, group: str, seed: int, data_dir: Path) -> dict[str, Any]:
    """Trains a variant until it has learned its tasks."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        training = subprocess.Popen(
            command(variant, group, seed, data_dir, run_dir), stdout=subprocess.DEVNULL
        )
        while training.poll() is None:
            time.sleep(1)
            if min(validations(run_dir).values(), default=100.0) < SOLVED:
                training.send_signal(signal.SIGTERM)
                training.wait()
        errors = validations(run_dir)
    solved = [stories for stories, error in errors.items() if error < SOLVED]
    if training.returncode and not solved:
        raise SystemExit(f"{variant}, {group}, seed {seed}: the training failed")
    return {
        "variant": variant,
        "group": group,
        "seed": seed,
        "stories": min(solved, default=None),
        "errors": {stories: round(error, 2) for stories, error in errors.items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    arguments = parser.parse_args()
    results = json.loads(OUT.read_text()) if OUT.exists() else []
    done = {(result["variant"], result["group"], result["seed"]) for result in results}
    for seed in map(int, arguments.seeds.split(",")):
        for group in GROUPS:
            for variant in VARIANTS:
                if (variant, group, seed) in done:
                    continue
                results.append(learn(variant, group, seed, arguments.data_dir))
                OUT.write_text(json.dumps(results, indent=1) + "\n")
                print(variant, group, seed, results[-1]["stories"], flush=True)
