"""Fault injection: a trainer is killed, and its checkpoints are damaged, until it has had enough.

    python -m tests.faults --faults=300
    python -m tests.faults --faults=0 --full_disks=30   # mounts a small one, so it needs root

Each run trains a tiny network, is killed at random moments and inside saves, finds its newest
checkpoints damaged, and is started again until it is done. Then its model must equal that of a run
that nothing touched, byte for byte, and its metrics line for line. Likewise one whose disk fills up
at random moments. Prints the counts.
"""

import argparse
import collections
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dncx.runs import checkpoints
from dncx.runs.metrics import read_metrics

ROOT = Path(__file__).parent.parent
FLAGS = [
    "--hidden_size=8", "--memory_size=6", "--word_size=4", "--num_read_heads=2", "--batch_size=4",
    "--report_interval=300", "--checkpoint_interval=700", "--keep_checkpoints=4", "--seed=3",
]  # fmt: skip
KILLS = {"SIGKILL": [signal.SIGKILL], "SIGTERM": [signal.SIGTERM], "Ctrl-C": [signal.SIGINT]}
KILLS["SIGTERM twice"] = 2 * KILLS["SIGTERM"]
MOMENTS = {"at start": 1, "in training": 4, "in a save": 4}  # with their shares
DAMAGES = ("a bit flipped", "cut short", "a file deleted", "an empty folder", "a file of its name")
# What the process may leave, by the signal: itself in Python's or the system's hands before
# training has begun, and 0 if it was done already.
EXITS = {
    signal.SIGKILL: {-9, 0},
    signal.SIGTERM: {143, -15, 0},
    signal.SIGINT: {130, -2, 0},
}


class Trainer:
    """A run directory, and one after the other the processes that train in it."""

    def __init__(self, folder, iterations):
        self.run_dir, self.log = folder / "run", folder.with_name(f"{folder.name}.log")
        self.checkpoints = self.run_dir / "checkpoints"
        self.command = [sys.executable, str(ROOT / "train.py"), *FLAGS, f"--run_dir={self.run_dir}"]
        self.command += [f"--num_training_iterations={iterations}"]
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def process(self):
        with self.log.open("wb") as log:
            process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
            process.wait(timeout=300)
        finally:
            process.kill()
            process.wait()

    def finish(self):
        """Without any fault, to the end."""
        with self.process() as process:
            pass
        assert process.returncode == 0, self.log.read_text()

    def kill(self, numbers, moment, rng):
        """Trains until killed by the signals at the moment; returns the exit code."""
        with self.process() as process:
            self._wait_for(process, moment, rng)
            for number in numbers:
                process.send_signal(number)
                time.sleep(rng.uniform(0, 0.03))
        assert process.returncode in EXITS[numbers[0]], self.log.read_text()
        if b"stopped after iteration" in self.log.read_bytes():
            assert checkpoints.newest_intact(self.checkpoints)[1] == {}, "saved, and not whole"
        return process.returncode

    def fill_disk(self, moment, rng):
        """Trains until its disk, which is the folder's, is full; returns the exit code."""
        others = self.run_dir.with_name("others")
        with self.process() as process:
            self._wait_for(process, moment, rng)
            with others.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(512)):
                    pass
        others.unlink()
        said = self.log.read_text()
        assert process.returncode in (0, 1), said
        if process.returncode:
            errors = [line for line in said.splitlines() if line.startswith("dncx: error: ")]
            assert "Traceback" not in said, said
            assert len(errors) == 1, said
            assert errors[0].startswith("dncx: error: cannot "), said
            assert "No space left on device" in errors[0], said
            if checkpoints.numbered(self.checkpoints):
                assert checkpoints.newest_intact(self.checkpoints)[1] == {}, "left, and not whole"
        return process.returncode

    def damage(self, kind, rng):
        """Spoils the newest whole checkpoint, or puts a stray thing before it.

        Returns whether it did: not where there is no older one to fall back on.
        """
        found, _ = checkpoints.newest_intact(self.checkpoints)
        if not found or min(checkpoints.saved_iterations(self.checkpoints)) == int(found.path.name):
            return False
        stray = found.path.with_name(str(int(found.path.name) + rng.randint(1, 10**6)))
        file = rng.choice([f for f in found.path.rglob("*") if f.is_file() and f.stat().st_size])
        content = bytearray(file.read_bytes())
        place = rng.randrange(len(content))
        if kind == "a bit flipped":
            content[place] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
        elif kind == "cut short":
            file.write_bytes(content[:place])
        elif kind == "a file deleted":
            file.unlink()
        elif kind == "an empty folder":
            stray.mkdir(exist_ok=True)
        else:
            stray.write_text("something else")
        return True

    def left(self):
        """The model's bytes, and the lines of metrics but for the speed."""
        lines = read_metrics(self.run_dir / "metrics.jsonl")
        for line in lines:
            del line["iterations_per_second"]
        return (self.run_dir / "model.safetensors").read_bytes(), lines

    def _wait_for(self, process, moment, rng):
        if moment == "at start":
            time.sleep(rng.uniform(0, 3))
        else:
            self._wait(process, lambda: b"compiled in" in self.log.read_bytes())
            time.sleep(rng.uniform(0, 0.5))
        if moment == "in a save":
            self._wait(process, lambda: any(self.checkpoints.glob("saving-*")))
            time.sleep(rng.uniform(0, 0.04))

    @staticmethod
    def _wait(process, happened):
        while not happened() and process.poll() is None:
            time.sleep(0.002)


def inject(folder, faults, iterations, seed, say=print):
    """Injects so many kills, and damages in between; returns what was done, counted.

    Raises:
      AssertionError: something was lost; the folder has the run and its log.
    """
    rng, counts, start = random.Random(seed), collections.Counter(), time.monotonic()
    untouched = Trainer(folder / "untouched", iterations)
    untouched.finish()
    for run in range(faults):  # at most; the last one is cut off below
        trainer, broken, done = Trainer(folder / f"run-{run}", iterations), 0, False
        while not done and counts["kills"] < faults:
            signals = rng.choice(list(KILLS))
            (moment,) = rng.choices(list(MOMENTS), MOMENTS.values())
            done = trainer.kill(KILLS[signals], moment, rng) == 0
            counts.update({"kills": 1, f"{signals}, {moment}": 1} if not done else {"too late": 1})
            for _ in range(0 if done else rng.choice([0, 0, 1, 1, 2])):
                kind = rng.choice(DAMAGES)
                if trainer.damage(kind, rng):
                    broken += 1
                    counts.update({"damages": 1, f"checkpoint: {kind}": 1})
        trainer.finish()
        aside = [*trainer.checkpoints.glob("corrupt-*")]
        assert len(aside) == broken, f"{broken} checkpoints damaged, {len(aside)} found"
        assert trainer.left() == untouched.left(), f"{trainer.run_dir} is not as the untouched run"
        counts.update({"runs equal to the untouched one": 1})
        say(f"{counts['kills']} kills, {counts['damages']} damages, {run + 1} runs as they should")
        if counts["kills"] >= faults:
            break
    return {"seconds": round(time.monotonic() - start), **dict(sorted(counts.items()))}


@contextlib.contextmanager
def small_disk(folder):
    """A disk of a megabyte."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disks(folder, disk, full_disks, iterations, seed, say=print):
    """Fills a small disk so many times, at random moments; returns what was done, counted.

    Raises:
      AssertionError: something was lost.
    """
    rng, counts, start = random.Random(seed), collections.Counter(), time.monotonic()
    untouched = Trainer(folder / "whole", iterations)
    untouched.finish()
    for run in range(full_disks):
        trainer, done = Trainer(disk, iterations), False
        while not done and counts["disks filled"] < full_disks:
            (moment,) = rng.choices(list(MOMENTS), MOMENTS.values())
            done = trainer.fill_disk(moment, rng) == 0
            counts.update(
                {"too late": 1} if done else {"disks filled": 1, f"disk full {moment}": 1}
            )
        trainer.finish()
        assert trainer.left() == untouched.left(), f"{disk} is not as the untouched run"
        shutil.rmtree(trainer.run_dir)
        counts.update({"runs on full disks equal to the untouched one": 1})
        say(f"{counts['disks filled']} disks filled, {run + 1} runs as they should")
        if counts["disks filled"] >= full_disks:
            break
    return {"seconds": round(time.monotonic() - start), **dict(sorted(counts.items()))}


def main():
    """Prints the counts as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=300, help="kills in all")
    parser.add_argument("--full_disks", type=int, default=0, help="disks filled")
    parser.add_argument("--iterations", type=int, default=30_000, help="of each run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # A shell that starts this in the background has Ctrl-C ignored, which children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="dncx-faults-"))
    print(f"in {folder}", flush=True)
    numbers = vars(options) | {"say": lambda line: print(line, flush=True)}
    full_disks, faults = numbers.pop("full_disks"), numbers.pop("faults")
    if faults:
        show(inject(folder, faults, **numbers))
    if full_disks:
        with small_disk(folder / "disk") as disk:
            show(fill_disks(folder, disk, full_disks, **numbers))


def show(counts):
    """As a table and as JSON."""
    print("\n| | |\n|---|---|")
    print("\n".join(f"| {name} | {count:,} |" for name, count in counts.items()))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
