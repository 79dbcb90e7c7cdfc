"""Loggers: train with TensorBoard, Weights & Biases or MLflow.

python examples/loggers.py tensorboard
python examples/loggers.py wandb
python examples/loggers.py mlflow

Install the library first: pip install "dncx[tensorboard]", pip install wandb, pip install mlflow.
The environment variables WANDB_MODE=offline and MLFLOW_TRACKING_URI=sqlite:///mlflow.db keep the
numbers on this machine, without an account or a server. An optional second argument sets
the number of iterations.
"""

import dataclasses
import sys
from pathlib import Path

from dncx.reporting.loggers import numbers
from dncx.settings.training import OptimizerSettings, RunSettings, TrainSettings
from dncx.tasks.settings import RepeatCopySettings
from dncx.training.loop import train


def with_tensorboard(settings):
    """Writes tensorboard/ in the run directory, also with pictures of the memory."""
    from dncx.explore.tensorboard import TensorBoard

    with TensorBoard(settings.run.run_dir) as board:
        train(settings, loggers=[board], picture=board.picture)


def with_wandb(settings):
    """The fixed id lets a run that resumes continue the same chart."""
    import wandb  # pyright: ignore[reportMissingImports]

    name = settings.run.run_dir.name
    config = dataclasses.asdict(settings)
    with wandb.init(project="dnc", id=name, resume="allow", config=config) as run:
        train(settings, loggers=[lambda line: run.log(numbers(line), step=line["iteration"])])


def with_mlflow(settings):
    """Each call is a run of MLflow, with the settings as its parameters."""
    import mlflow  # pyright: ignore[reportMissingImports]

    with mlflow.start_run(run_name=settings.run.run_dir.name):
        for section in (settings.task, settings.model, settings.optimizer):
            mlflow.log_params(dataclasses.asdict(section))
        train(
            settings,
            loggers=[lambda line: mlflow.log_metrics(numbers(line), step=line["iteration"])],
        )


TRACKERS = {"tensorboard": with_tensorboard, "wandb": with_wandb, "mlflow": with_mlflow}


def main(tracker, iterations="2000"):
    run = RunSettings(run_dir=Path(f"runs/with-{tracker}"), num_training_iterations=int(iterations))
    optimizer = OptimizerSettings(learning_rate=1e-3)
    TRACKERS[tracker](TrainSettings(task=RepeatCopySettings(), optimizer=optimizer, run=run))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in TRACKERS:
        main(*sys.argv[1:3])
    else:
        sys.exit(f"usage: python examples/loggers.py {'|'.join(TRACKERS)} [ITERATIONS]")
