"""The networks that a run trains, and what is written of each: one, or one a seed.

A population has its checkpoints, config.json and metrics.jsonl, with the median of the losses, in
the run directory, and in seed-0/, seed-1/, ... in it a run directory of every network.
"""

from pathlib import Path
from typing import Any, NamedTuple

from dncx.runs import directory as runs
from dncx.runs.config import CONFIG, METRICS, read_config, seed_dir, write_config
from dncx.runs.files import make_folder
from dncx.runs.metrics import Metrics
from dncx.runs.state import TrainState
from dncx.settings.training import TrainSettings


class Population(NamedTuple):
    """The seeds of a run and where it is; of a single network there is one."""

    seeds: range
    run_dir: Path

    @property
    def folders(self) -> list[Path]:
        """The run directory of each network."""
        several = len(self.seeds) > 1
        return [seed_dir(self.run_dir, s) if several else self.run_dir for s in self.seeds]

    @property
    def _metrics(self) -> list[Metrics]:
        return [Metrics(folder / METRICS) for folder in {self.run_dir, *self.folders}]

    def split(self, state: TrainState) -> list[TrainState]:
        """The states of the networks."""
        if len(self.seeds) == 1:
            return [state]
        return [state.one(number) for number in range(len(self.seeds))]

    def first(self, state: TrainState) -> TrainState:
        """That of the first one."""
        return state.one(0) if len(self.seeds) > 1 else state

    def write_configs(self, description: dict[str, Any]) -> None:
        """config.json of the run and of each network."""
        write_config(self.run_dir, description)
        if len(self.seeds) > 1:
            for seed, folder in zip(self.seeds, self.folders, strict=True):
                make_folder(folder)
                write_config(folder, self.one_of(description, seed))

    def one_of(self, description: dict[str, Any], seed: int) -> dict[str, Any]:
        """What config.json says of a network."""
        training = description["training"] | {"seed": seed, "num_seeds": 1}
        return description | {"training": training}

    def keep_metrics_up_to(self, iteration: int) -> None:
        """Drops the lines after the iteration from which training goes on."""
        for metrics in self._metrics:
            metrics.keep_up_to(iteration)

    def metrics_to_disk(self) -> None:
        """Waits until their lines would outlast a power cut."""
        for metrics in self._metrics:
            metrics.to_disk()

    def save_models(self, state: TrainState) -> list[Path]:
        """Writes the trained networks."""
        pairs = zip(self.folders, self.split(state), strict=True)
        return [
            runs.save_model(folder, one.best or one.model, one.reached) for folder, one in pairs
        ]

    def trained_iterations(self, run_id: str) -> int | None:
        """How far all models of the run were trained; None where one is missing."""
        config = self.run_dir / CONFIG
        if not config.exists() or read_config(config)["id"] != run_id:
            return None
        reached = [runs.trained_iterations(folder) for folder in self.folders]
        known = [iteration for iteration in reached if iteration is not None]
        return min(known) if len(known) == len(reached) else None


def population_of(settings: TrainSettings[Any]) -> Population:
    """The networks that the settings ask for."""
    first = settings.run.seed
    return Population(range(first, first + settings.scale.num_seeds), settings.run.run_dir)
