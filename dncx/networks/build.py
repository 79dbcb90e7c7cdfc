"""The networks that the trainer knows, made from their settings."""

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from dncx.config import DNCConfig
from dncx.dnc import DNC
from dncx.errors import UsageError
from dncx.initializers import fan_in_normal
from dncx.kernels.choice import Implementation
from dncx.networks.lstm import LSTMNetwork
from dncx.networks.ntm import neural_turing_machine
from dncx.settings.training import ModelSettings
from dncx.tasks.base import Judge


class Embedded(nnx.Module):
    """A cell behind a matrix that makes its inputs shorter: word vectors, for one-hot inputs."""

    def __init__(self, input_size: int, embedding_size: int, cell: Any, rngs: nnx.Rngs):
        self.embedding = nnx.Linear(
            input_size, embedding_size, use_bias=False, kernel_init=fan_in_normal, rngs=rngs
        )
        self.cell = cell


Network = DNC | LSTMNetwork | Embedded


def cell_of(network: Any) -> Any:
    """The recurrent cell of a network."""
    return network.cell if isinstance(network, Embedded) else network


def cell_and_inputs(
    network: Network, inputs: Float[Array, "*batch F"]
) -> tuple[Any, Float[Array, "*batch E"]]:
    """The recurrent cell of a network, and the inputs as the cell takes them."""
    if isinstance(network, Embedded):
        inputs = network.embedding(inputs)
    return cell_of(network), inputs


def describe_network(settings: ModelSettings, task: Judge) -> dict[str, Any]:
    """All that is to know of a network for a task, as plain JSON.

    Raises:
      UsageError: there is no such network.
    """
    sizes = dataclasses.asdict(settings)
    kind, embedding = sizes.pop("model"), sizes.pop("embedding_size")
    nature = sizes.pop("equations") == "nature"
    if nature and sizes.pop("clip_value") != ModelSettings.clip_value:
        raise UsageError("clip_value: the paper's equations (equations=nature) do not clip")
    if sizes["controller"] == "default":
        del sizes["controller"]
    if sizes["controller_dtype"] == "float32":
        sizes["controller_dtype"] = None  # that of the variables, as in runs that did not say
    if embedding < 0:
        raise UsageError(f"embedding_size={embedding}: must be at least 0")
    try:
        config = DNCConfig.nature(**sizes) if nature else DNCConfig.deepmind(**sizes)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return {
        "name": kind,
        "input_size": task.input_size,
        "output_size": task.output_size,
        "embedding_size": embedding,
        **dataclasses.asdict(config),
    }


def too_small(description: dict[str, Any], task: Any) -> str:
    """A warning where a network's memory has fewer slots than the task says are needed, or ""."""
    slots, needed = description["memory_size"], getattr(task, "slots_needed", 0)
    if description["name"] == "lstm" or slots >= needed:
        return ""
    return (
        f"warning: memory_size={slots}, and sequences may have {needed} vectors to remember at once"
    )


def make_network(
    description: dict[str, Any], rngs: nnx.Rngs, implementation: Implementation | None = None
) -> Network:
    """A fresh network from its description.

    Raises:
      ValueError: it cannot be computed with this implementation.
    """
    config = dict(description)
    kind, embedding = config.pop("name"), config.pop("embedding_size")
    input_size, output_size = config.pop("input_size"), config.pop("output_size")
    sizes = embedding or input_size, output_size, DNCConfig(**config)
    if kind == "lstm":
        cell = LSTMNetwork(*sizes, rngs=rngs)
    elif kind == "ntm":
        cell = neural_turing_machine(*sizes, rngs=rngs)
    else:
        cell = DNC(*sizes, implementation=implementation, rngs=rngs)
    return Embedded(input_size, embedding, cell, rngs) if embedding else cell
