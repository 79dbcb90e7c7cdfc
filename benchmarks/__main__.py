"""`python -m benchmarks [NAMES ...]`: prints tables, and writes JSON and figures."""

import argparse
import os
from pathlib import Path

from tests import quick_compilation

NAMES = (
    "step_time",
    "options",
    "memory",
    "compile_time",
    "scaling",
    "training",
    "streaming",
    "acting",
    "sampling",
    "seeds",
    "parts",
    "controller_dtype",
    "controller_goldens",
)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure time and memory of dncx. Without names, all benchmarks run in turn.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--sizes", nargs="+", choices="SML", default="SML",
        help="for step_time, options, streaming and controller_dtype",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, help="batch size for step_time (default: 16)")
    parser.add_argument(
        "--out",
        type=lambda text: Path(text).expanduser(),
        default=Path("docs/performance"),
        help="folder for NAME.json and NAME.svg",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="only check that everything runs, at smallest sizes"
    )
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(NAMES):
        parser.error(f"{', '.join(unknown)}: must be one of {', '.join(NAMES)}")
    return asked


def main() -> None:
    """Runs the benchmarks that the command line names."""
    asked = parse()
    if asked.tiny:  # nothing is measured, so only quick compilation matters
        os.environ.setdefault("XLA_FLAGS", quick_compilation.FLAGS)
    # Only now, so that --help is instant.
    from benchmarks import (  # fmt: skip
        acting,
        compile_time,
        controller_dtype,
        figures,
        memory,
        models,
        options,
        parts,
        sampling,
        scaling,
        seeds,
        step_time,
        streaming,
        training,
    )
    from dncx.training.gradient import GradientOptions

    sizes = models.TINY if asked.tiny else {name: models.SIZES[name] for name in asked.sizes}
    timed = sizes
    if asked.batch:
        timed = {f"{k}, B={asked.batch}": s._replace(batch=asked.batch) for k, s in sizes.items()}
    runs = {
        "step_time": lambda: step_time.run(timed),
        "options": lambda: options.run(sizes),
        "memory": memory.run,
        "compile_time": lambda: compile_time.run(models.SIZES["S"]),
        "scaling": lambda: scaling.run(models.SIZES["M"]),
        "training": training.run,
        "streaming": lambda: streaming.run(sizes),
        "acting": lambda: acting.run({k: s for k, s in sizes.items() if k != "L"}),
        "sampling": sampling.run,
        "seeds": seeds.run,
        "parts": parts.run,
        "controller_dtype": lambda: controller_dtype.times(sizes),
        "controller_goldens": controller_dtype.goldens,
    }
    if asked.tiny:
        small = models.TINY["tiny"]
        runs |= {
            "step_time": lambda: step_time.run(timed, rounds=1, turn=0),
            "options": lambda: options.run(sizes, rounds=1, turn=0),
            "memory": lambda: memory.run({"tiny": (small, ("plain", "xla", "native"))}),
            "compile_time": lambda: compile_time.run(
                small, ("--num_read_heads=2", "--hidden_size=4", "--memory_size=4")
            ),
            "scaling": lambda: scaling.run(small, {"time": (2, 4, 8)}),
            "training": lambda: training.run(5, 1),
            "streaming": lambda: streaming.run(sizes, 5),
            "acting": lambda: acting.run(sizes, (4,), 1),
            "sampling": lambda: sampling.run(1, models.TINY_MODEL, ("copy", "traversal")),
            "seeds": lambda: seeds.run((1, 2), 5, 1),
            "parts": lambda: parts.run(
                small, (GradientOptions(), GradientOptions(accumulation=2, truncation=3))
            ),
            "controller_dtype": lambda: controller_dtype.times(sizes, 1, 0),
            "controller_goldens": lambda: controller_dtype.goldens(("d_tiny",)),
        }
    for name in asked.names or NAMES:
        report = runs[name]()
        report.show()
        report.save(asked.out)
        figures.draw(report, asked.out)


if __name__ == "__main__":
    main()
