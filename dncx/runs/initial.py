"""`--initial_model`: the weights of a trained model as the initial weights of a new run."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dncx.errors import UsageError
from dncx.networks.config import NetworkConfig
from dncx.networks.outputs import first_outputs, with_more_outputs, without_auxiliary
from dncx.runs.codec import to_plain
from dncx.runs.config import InitialModel
from dncx.runs.directory import (
    compare_shapes,
    flat,
    flat_shapes,
    load_model,
    nested,
    read_model,
)
from dncx.runs.files import sha256_of
from dncx.runs.hub import spelled
from dncx.runs.paths import find_run
from dncx.runs.trained import find_trained
from dncx.tasks.base import Objective, num_saved_outputs


@dataclasses.dataclass(frozen=True, eq=False)
class InitialWeights:
    """The weights of a trained model.

    Attributes:
      record: the record for config.json.
      arrays: the weights by name.
      network: the network of the run that trained the model; None for a file without a run.
      outputs: the number of outputs of a saved model of the new run's task. Other outputs, which
        only training has, start with random weights.
    """

    record: InitialModel
    arrays: dict[str, jax.Array | np.ndarray]
    network: NetworkConfig | None
    outputs: int

    def params(self, new: Any) -> Any:
        """The weights as the parameters of a network whose random parameters are `new`.

        Raises:
          UsageError: if they belong to another network; all differences of names and sizes are
            listed.
        """
        random = flat(new)
        found, wanted = self.arrays, first_outputs(random, self.outputs)
        if differences := compare_shapes(flat_shapes(found), flat_shapes(wanted)):
            raise UsageError(
                "\n  ".join([f"--initial_model: {self.record.name} does not fit:", *differences])
            )
        return nested(with_more_outputs(self.arrays, random))

    def report(self, network: NetworkConfig) -> str:
        """A line about the weights, and the settings in which the networks differ."""
        line = f"beginning from the weights of {self.record.name}"
        if network.output_size > self.outputs:
            line += " (random weights for the outputs of the auxiliary loss)"
        if self.network is None:
            return line
        there, here = (_settings(config) for config in (self.network, network))
        lines = [f"{n}: {there[n]} there, {here[n]} here" for n in here if there[n] != here[n]]
        return "\n  ".join([f"{line}, with other settings:" if lines else line, *lines])


def initial_weights(path: Path, task: Objective) -> InitialWeights:
    """The weights of a run, of a model that ships with dncx or on the hub, or of a file.

    A run that has not ended has the weights of its newest checkpoint.

    Args:
      path: the run, the name of the model, or a model.safetensors.
      task: the task of the new run. Saved models do not have its auxiliary outputs.

    Raises:
      UsageError: if there is no trained model, or its weights are invalid or non-finite.
    """
    run = find_run(path)
    if run.is_file():
        file, network, arrays = run, None, load_model(run)
    else:
        model = find_trained(run)
        found, config = read_model(model)
        file, network, arrays = model.file, config.network, found
    outputs = num_saved_outputs(task)
    trained_outputs = network.output_size if network else None
    arrays = without_auxiliary(arrays, trained_outputs, outputs)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UsageError(f"--initial_model: {file}: {name} is not finite")
    sha256 = sha256_of(file)
    return InitialWeights(InitialModel(name=spelled(path), sha256=sha256), arrays, network, outputs)


def _settings(network: NetworkConfig) -> dict[str, Any]:
    """The settings of a network and of its cell, by name."""
    plain = to_plain(network)
    return plain.pop("cell") | plain
