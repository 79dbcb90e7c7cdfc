"""The networks of a run (one, or one per seed), and the files that are written for each.

A population has its checkpoints, config.json and metrics.jsonl (with the median of the losses) in
the run directory, which also contains a run directory for each network: seed-0/, seed-1/, ...
"""

from pathlib import Path
from typing import Any, NamedTuple

from dncx.runs.config import RunConfig, write_config
from dncx.runs.directory import save_model
from dncx.runs.files import make_folder
from dncx.runs.metrics import Metrics
from dncx.runs.paths import CONFIG, METRICS, seed_dir
from dncx.runs.progress import Progress
from dncx.runs.state import TrainState
from dncx.runs.summary import read_summary
from dncx.runs.trained import trained_progress
from dncx.settings.training import TrainSettings


class Population(NamedTuple):
    """The seeds and the folder of a run; a single network is a population of one."""

    seeds: range
    run_dir: Path

    @property
    def folders(self) -> list[Path]:
        """The run directory of each network."""
        if len(self.seeds) == 1:
            return [self.run_dir]
        return [seed_dir(self.run_dir, seed) for seed in self.seeds]

    @property
    def _metrics(self) -> list[Metrics]:
        return [Metrics(folder / METRICS) for folder in {self.run_dir, *self.folders}]

    def split(self, state: TrainState) -> list[TrainState]:
        """The state of each network."""
        if len(self.seeds) == 1:
            return [state]
        return [state.one(number) for number in range(len(self.seeds))]

    def first(self, state: TrainState) -> TrainState:
        """The state of the first network."""
        return state.one(0) if len(self.seeds) > 1 else state

    def write_configs(self, config: RunConfig) -> None:
        """Writes config.json of the run and of each network."""
        write_config(self.run_dir, config)
        if len(self.seeds) > 1:
            for seed, folder in zip(self.seeds, self.folders, strict=True):
                make_folder(folder)
                write_config(folder, config.of_seed(seed))

    def keep_metrics_up_to(self, iteration: int) -> None:
        """Drops the lines after the iteration from which training continues."""
        for metrics in self._metrics:
            metrics.keep_up_to(iteration)

    def metrics_to_disk(self) -> None:
        """Waits until the lines would survive a power failure."""
        for metrics in self._metrics:
            metrics.to_disk()

    def save_models(self, state: TrainState, progress: Progress, num_outputs: int) -> list[Path]:
        """Writes the trained networks; `num_outputs` as in `save_model`."""
        pairs = zip(self.folders, self.split(state), strict=True)
        return [
            save_model(folder, one.best or one.model, progress, num_outputs)
            for folder, one in pairs
        ]

    def trained_iterations(self, run_id: str) -> int | None:
        """The iteration up to which the models of this run are trained; None if one is missing."""
        config = self.run_dir / CONFIG
        if not config.exists() or read_summary(self.run_dir).id != run_id:
            return None
        found = [trained_progress(folder) for folder in self.folders]
        known = [progress.iteration for progress in found if progress]
        return min(known) if len(known) == len(found) else None


def population_of(settings: TrainSettings[Any]) -> Population:
    """The networks that the settings describe."""
    first = settings.run.seed
    return Population(range(first, first + settings.scale.num_seeds), settings.run.run_dir)
