"""`python -m benchmarks [NAMES ...]`: prints tables, keeps JSON and figures."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

Name = Literal[
    "step_time",
    "memory",
    "compile_time",
    "scaling",
    "training",
    "streaming",
    "sampling",
    "seeds",
    "parts",
    "controller_dtype",
    "controller_goldens",
]


@dataclasses.dataclass(frozen=True)
class Benchmarks:
    """Measure what dncx costs. Without names, all benchmarks run, one after the other."""

    names: Annotated[tuple[Name, ...], tyro.conf.Positional] = ()
    """Which to run."""
    sizes: tuple[Literal["S", "M", "L"], ...] = ("S", "M", "L")
    """For step_time, streaming and controller_dtype."""
    batch: int | None = None
    """Another batch than the standard 16, for step_time."""
    out: Path = Path("docs/performance")
    """Where NAME.json and NAME.svg go."""
    tiny: bool = False
    """Only see that everything runs: smallest sizes, figures that mean nothing."""


def main() -> None:
    """Runs what the command line asks for."""
    asked = tyro.cli(Benchmarks, prog="python -m benchmarks")
    # Only now, so that --help is instant.
    from typing import get_args

    from benchmarks import (  # fmt: skip
        compile_time,
        controller_dtype,
        figures,
        memory,
        models,
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
        "memory": memory.run,
        "compile_time": lambda: compile_time.run(models.SIZES["S"]),
        "scaling": lambda: scaling.run(models.SIZES["M"]),
        "training": training.run,
        "streaming": lambda: streaming.run(sizes),
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
            "memory": lambda: memory.run({"tiny": (small, ("plain", "xla", "native"))}),
            "compile_time": lambda: compile_time.run(small),
            "scaling": lambda: scaling.run(small, {"time": (2, 4, 8)}),
            "training": lambda: training.run(5, 1),
            "streaming": lambda: streaming.run(sizes, 5),
            "sampling": lambda: sampling.run(1, models.TINY_MODEL),
            "seeds": lambda: seeds.run((1, 2), 5, 1),
            "parts": lambda: parts.run(
                small, (GradientOptions(), GradientOptions(accumulation=2, truncation=3))
            ),
            "controller_dtype": lambda: controller_dtype.times(sizes, 1, 0),
        }
    for name in asked.names or get_args(Name):
        report = runs[name]()
        report.show()
        report.save(asked.out)
        figures.draw(report, asked.out)


if __name__ == "__main__":
    main()
