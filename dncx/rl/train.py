"""Training agents: the trainer, with acting as its method."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dncx.reporting.reports import Logger
from dncx.rl.method import Acting
from dncx.settings.training import TrainSettings
from dncx.training import loop
from dncx.training.loop import Picture


def train(
    settings: TrainSettings[Any],
    loggers: Sequence[Logger] = (),
    picture: Picture | None = None,
    network: Callable[..., Any] | None = None,
) -> Path:
    """Trains an agent in an environment; `settings.run.batch_size` is the number of environments.

    Arguments, result and errors are those of `dncx.training.loop.train`.
    """
    if isinstance(settings, TrainSettings) and settings.scale.num_devices == 0:
        # Agents act on one device, however many there are.
        one = dataclasses.replace(settings.scale, num_devices=1)
        settings = dataclasses.replace(settings, scale=one)
    return loop.train(settings, loggers, picture, network, Acting())
