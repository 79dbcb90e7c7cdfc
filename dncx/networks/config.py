"""The description of a network: one frozen record, made from the flags in one place."""

import dataclasses
from typing import Any, Literal

from dncx.config import DNCConfig
from dncx.errors import UsageError
from dncx.networks.custom import NetworkSource, custom_network
from dncx.settings.training import NO_MEMORY, ModelSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that defines a network of the trainer, except its weights.

    Attributes:
      kind: "dnc", a baseline ("lstm" and "gru", which have no memory, "ntm", "stack" or "tape"), or
        "custom".
      input_size: features of a step's inputs.
      output_size: features of a step's outputs.
      embedding_size: size of a learned embedding of the inputs; 0: no embedding.
      bidirectional: whether an LSTM also reads the sequences backwards.
      separate_value: whether the last output, the value of a state, has a network of its own.
      cell: sizes and equations. The baselines and custom networks use the fields that they need.
      source: the function of a custom network.
    """

    kind: Literal["dnc", "lstm", "gru", "ntm", "stack", "tape", "custom"] = "dnc"
    input_size: int
    output_size: int
    embedding_size: int = 0
    bidirectional: bool = False
    separate_value: bool = False
    cell: DNCConfig = dataclasses.field(default_factory=DNCConfig)
    source: NetworkSource | None = None

    def __post_init__(self) -> None:
        if (self.kind == "custom") != (self.source is not None):
            raise ValueError(f"kind={self.kind}: a custom network has a source, others have none")

    @property
    def memory_size(self) -> int | None:
        """Slots of the memory; None for a network without one."""
        return None if self.kind in NO_MEMORY else self.cell.memory_size

    def with_memory_size(self, memory_size: int) -> "NetworkConfig":
        """The same network with another number of slots; the weights fit any number."""
        return dataclasses.replace(
            self, cell=dataclasses.replace(self.cell, memory_size=memory_size)
        )


def network_config(
    settings: ModelSettings, input_size: int, output_size: int, *, separate_value: bool = False
) -> NetworkConfig:
    """The network that the flags describe; `settings/unused.py` refuses flags without effect.

    Args:
      settings: the flags.
      input_size, output_size, separate_value: see `NetworkConfig`.

    Raises:
      UsageError: if there is no such network.
    """
    if settings.embedding_size < 0:
        raise UsageError(f"embedding_size={settings.embedding_size}: must be at least 0")
    if settings.equations == "nature" and settings.clip_value is not None:
        raise UsageError(
            f"clip_value={settings.clip_value}: the paper's equations (--equations=nature) do not "
            "clip; leave this option out"
        )
    fields: dict[str, Any] = dict(
        memory_size=settings.memory_size,
        word_size=settings.word_size,
        num_read_heads=settings.num_read_heads,
        num_write_heads=settings.num_write_heads,
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        controller_norm=settings.controller_norm,
        interface_norm=settings.interface_norm,
        content_mask=settings.content_mask,
        least_mask=settings.least_mask,
        wipe_freed=settings.wipe_freed,
        sharpen_links=settings.sharpen_links,
        linkage=settings.linkage,
    )
    if settings.controller != "default":
        fields["controller"] = settings.controller
    elif settings.model == "lstm" and settings.num_layers > 1:  # always a deep LSTM
        fields["controller"] = "deep_lstm"
    if settings.controller_dtype != "float32":  # None: the dtype of the weights
        fields["controller_dtype"] = settings.controller_dtype
    if settings.clip_value is not None:
        fields["clip_value"] = settings.clip_value
    make = DNCConfig.nature if settings.equations == "nature" else DNCConfig.deepmind
    try:
        cell = make(**fields)
    except ValueError as error:
        raise UsageError(str(error)) from error
    source = custom_network(settings.network) if settings.network else None
    return NetworkConfig(
        kind="custom" if source else settings.model,
        input_size=input_size,
        output_size=output_size,
        embedding_size=settings.embedding_size,
        bidirectional=settings.bidirectional,
        separate_value=separate_value,
        cell=cell,
        source=source,
    )
