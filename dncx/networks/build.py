"""Building networks from their configuration."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dncx.checks import as_array, check_features
from dncx.config import DNCConfig
from dncx.dnc import DNC
from dncx.errors import UsageError
from dncx.initializers import RngSource, fan_in_normal
from dncx.kernels.choice import Implementation
from dncx.networks.actor_critic import ActorCritic
from dncx.networks.bidirectional import Bidirectional
from dncx.networks.config import NetworkConfig
from dncx.networks.custom import NetworkSource, called
from dncx.networks.gru import GRUNetwork
from dncx.networks.lstm import LSTMNetwork
from dncx.networks.memory_rnn import MemoryRNN
from dncx.networks.ntm import neural_turing_machine
from dncx.networks.stack import stack_rnn
from dncx.networks.tape import tape_rnn
from dncx.parts import RecurrentCell


class Embedded(nnx.RNNCellBase):
    """A cell with a learned embedding of its inputs: word vectors, if the inputs are one-hot.

    It is itself a recurrent cell. `dncx.unroll` embeds a whole sequence at once.
    """

    def __init__(self, input_size: int, embedding_size: int, cell: Any, rngs: nnx.Rngs):
        self.input_size = input_size
        self.embedding = nnx.Linear(
            input_size, embedding_size, use_bias=False, kernel_init=fan_in_normal, rngs=rngs
        )
        self.cell = cell

    @property
    def num_feature_axes(self) -> int:
        return 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: RngSource | None = None,
        carry_init: object = None,
    ) -> Any:
        """The cell's initial state; the batch shape is `input_shape[:-1]`."""
        check_features(self, input_shape)
        shape = (*input_shape[:-1], self.embedding.out_features)
        return self.cell.initialize_carry(shape, rngs)

    def __call__(self, carry: Any, inputs: ArrayLike) -> tuple[Any, Array]:
        """One step of the cell on the embedded inputs; errors as those of the cell."""
        if isinstance(inputs, tuple):
            raise TypeError("the state comes first: cell(state, inputs)")
        return self.cell(carry, self.inputs_of_cell(as_array("inputs", inputs)))

    def inputs_of_cell(self, inputs: Float[Array, "*batch F"]) -> Float[Array, "*batch E"]:
        """The embedded inputs."""
        check_features(self, inputs.shape)
        return self.embedding(inputs)


Network = (
    DNC
    | LSTMNetwork
    | GRUNetwork
    | MemoryRNN
    | ActorCritic
    | Embedded
    | Bidirectional
    | RecurrentCell[Any]
)
"""A network that can be trained; a custom one is any flax recurrent cell."""


def make_network(
    config: NetworkConfig, rngs: nnx.Rngs, implementation: Implementation | None = None
) -> Network:
    """A new network with random weights.

    Raises:
      ValueError: if this implementation cannot compute it.
      UsageError: if a custom network cannot be made.
    """
    if config.separate_value:
        policy = dataclasses.replace(
            config, separate_value=False, output_size=config.output_size - 1
        )
        critic = dataclasses.replace(policy, output_size=1)
        return ActorCritic(*(make_network(one, rngs, implementation) for one in (policy, critic)))
    features = config.embedding_size or config.input_size
    cell_inputs = features + (config.cell.hidden_size if config.bidirectional else 0)
    sizes = cell_inputs, config.output_size, config.cell
    if config.source is not None:
        network = _custom(config.source, sizes, rngs, implementation)
    elif config.kind == "lstm":
        network = LSTMNetwork(*sizes, rngs=rngs)
    elif config.kind == "gru":
        network = GRUNetwork(*sizes, rngs=rngs)
    elif config.kind == "ntm":
        network = neural_turing_machine(*sizes, rngs=rngs)
    elif config.kind == "stack":
        network = stack_rnn(*sizes, rngs=rngs)
    elif config.kind == "tape":
        network = tape_rnn(*sizes, rngs=rngs)
    else:
        network = DNC(*sizes, implementation=implementation, rngs=rngs)
    if config.bidirectional:
        network = Bidirectional(features, network, config.cell, rngs=rngs)
    if config.embedding_size:
        network = Embedded(config.input_size, config.embedding_size, network, rngs)
    return network


def _custom(
    source: NetworkSource,
    sizes: tuple[int, int, DNCConfig],
    rngs: nnx.Rngs,
    implementation: Implementation | None,
) -> Any:
    """A network of a custom function, whose outputs have the right size."""
    network = called(source, *sizes, rngs=rngs)
    if implementation is not None and isinstance(network, DNC):
        network.access.implementation = implementation
    elif implementation not in (None, "plain"):  # other cells have their plain equations only
        raise UsageError(
            f"implementation={implementation}: needs a DNC, but {source.name} returns a "
            f"{type(network).__name__}"
        )
    inputs = jax.ShapeDtypeStruct((1, sizes[0]), jnp.float32)
    try:
        outputs = nnx.eval_shape(
            lambda network, x: network(network.initialize_carry(x.shape, nnx.Rngs(0)), x)[1],
            network,
            inputs,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"network={source.name}: a step with {sizes[0]} inputs fails: {error}"
        ) from error
    if getattr(outputs, "shape", None) != (1, sizes[1]):
        found = jax.tree.map(lambda x: [*x.shape], outputs)
        raise UsageError(
            f"network={source.name}: a step must return {sizes[1]} outputs, [1, {sizes[1]}] for a "
            f"batch of 1; it returned {found}"
        )
    return network


def small_memory_warning(config: NetworkConfig, task: Any) -> str:
    """A warning if the memory has fewer slots than the task needs, else ""."""
    needed = getattr(task, "slots_needed", 0)
    if config.memory_size is None or config.memory_size >= needed:
        return ""
    return (
        f"warning: memory_size={config.memory_size}, but a sequence may have {needed} vectors to "
        "remember at once"
    )
