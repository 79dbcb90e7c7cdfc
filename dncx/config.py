"""The settings of a DNC, by name, and their two presets."""

import dataclasses
from typing import Any, Literal, get_args, get_origin

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from dncx.access import MemoryAccess
from dncx.addressing import (
    ALLOCATION_EPSILON,
    COSINE_EPSILON,
    ContentAddressing,
    Freeness,
    MaskedContentAddressing,
    NoLinkage,
)
from dncx.checks import check_flag, check_number, check_size
from dncx.controllers import LSTM, DeepLSTM, FeedForward
from dncx.glossary import Number
from dncx.interface import ReadModeOrder, StrengthActivation
from dncx.kernels.choice import Implementation
from dncx.parts import ContentLike, FreenessLike, LinkageLike

ControllerName = Literal["lstm", "deep_lstm", "feedforward"]
ControllerDtype = Literal["float32", "bfloat16", None]
LinkageName = Literal["temporal", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DNCConfig:
    """Sizes of a DNC, and an option for every difference between the original and the paper.

    The defaults are those of google-deepmind/dnc; `DNCConfig.nature()` has the paper's equations.
    The options are independent, so the two can be mixed.

    Args:
      memory_size: N, slots of the memory.
      word_size: W, numbers in a slot.
      num_read_heads: R.
      num_write_heads: M; the paper has one.
      hidden_size: H, features of a controller layer.
      num_layers: layers of the controller; "lstm" has one.
      clip_value: limit of the controller's output, its state and the DNC's output; 20 in the
        original, None (or 0) in the paper: off.
      controller: "lstm" as in the original, "deep_lstm" as in the paper, or "feedforward".
      controller_dtype: dtype of the controller's products with weights; None: that of its
        variables. Everything else, state and memory included, has the dtype of the variables.
      forget_bias: added to the LSTM's forget gate; 1 in the original, 0 in the paper.
      controller_gradient_clip: limit of the gradient of the controller's activations; None
        (off) in the original, 10 in the paper.
      controller_norm: layer norm in the controller's LSTM, as in the ADNC; see `LSTM`.
      strength_activation: "softplus" in the original, "oneplus" in the paper.
      interface_bias: whether ξ = W h + b (the original) or W h (the paper).
      interface_norm: layer norm of ξ before it is split, as in the ADNC.
      output_bias: the same as `interface_bias`, for the output layer.
      read_mode_order: the order of the read modes in ξ. It changes only which weights produce
        which mode.
      cosine_epsilon: 1e-6 in the original, 0 in the paper; see `content_weights`.
      allocation_epsilon: 1e-6 in the original, 0 in the paper; see `allocation_weights`.
      usage_write_gradient: whether usage passes gradient to the previous write weights;
        False in the original, True in the paper.
      linkage: "temporal", the links of the original and the paper, or "none": reads by content
        only, which is faster; see `NoLinkage`.
      content_mask: masked content addressing, as in the DNC-M; see `MaskedContentAddressing`.
      least_mask: see `MaskedContentAddressing`; below 1.
      wipe_freed: whether freeing a slot also wipes its content, as in the DNC-D: the write
        changes M_{t-1} ∘ ψ_t instead of M_{t-1}.
      sharpen_links: whether forward and backward weights are raised to powers that the controller
        emits, each at least 1, as in the DNC-S; see `sharpened`.

    Raises:
      ValueError: if a size is below 1, a number is negative, a name is not one of those above, or
        two options contradict each other.

    Example:
      >>> DNCConfig.nature(memory_size=256, word_size=64).strength_activation
      'oneplus'

    Source: `docs/differences.md` lists the differences, with references.
    """

    memory_size: int = 16
    word_size: int = 16
    num_read_heads: int = 4
    num_write_heads: int = 1
    hidden_size: int = 64
    num_layers: int = 1
    clip_value: Number | None = 20.0
    controller: ControllerName = "lstm"
    controller_dtype: ControllerDtype = None
    forget_bias: Number = 1.0
    controller_gradient_clip: Number | None = None
    controller_norm: bool = False
    strength_activation: StrengthActivation = "softplus"
    interface_bias: bool = True
    interface_norm: bool = False
    output_bias: bool = True
    read_mode_order: ReadModeOrder = "backward, forward, content"
    cosine_epsilon: Number = COSINE_EPSILON
    allocation_epsilon: Number = ALLOCATION_EPSILON
    usage_write_gradient: bool = False
    linkage: LinkageName = "temporal"
    content_mask: bool = False
    least_mask: Number = 0.0
    wipe_freed: bool = False
    sharpen_links: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, kind, value = field.name, field.type, getattr(self, field.name)
            if kind is int:
                value = check_size(name, value)
            elif kind is bool:
                value = check_flag(name, value)
            elif kind in (Number, Number | None):
                value = check_number(name, value, optional=kind != Number)
            elif get_origin(kind) is Literal and value not in get_args(kind):
                raise ValueError(f"{name}={value!r}: must be one of {get_args(kind)}")
            # NumPy's numbers become Python's: a config is compared and written as JSON.
            object.__setattr__(self, name, value)
        if self.controller == "lstm" and self.num_layers != 1:
            raise ValueError(
                f"num_layers={self.num_layers}: controller='lstm' has one layer; "
                "controller='deep_lstm' takes several"
            )
        if self.controller == "feedforward" and self.controller_norm:
            raise ValueError("controller_norm=True: controller='feedforward' has no LSTM layer")
        if self.least_mask >= 1:
            raise ValueError(f"least_mask={self.least_mask}: must be less than 1")
        if self.least_mask and not self.content_mask:
            raise ValueError(f"least_mask={self.least_mask}: needs content_mask=True")
        if self.sharpen_links and self.linkage == "none":
            raise ValueError("sharpen_links=True: linkage='none' has no links")

    @classmethod
    def deepmind(cls, **changes: Any) -> "DNCConfig":
        """The equations of google-deepmind/dnc (the defaults)."""
        return cls(**changes)

    @classmethod
    def nature(cls, **changes: Any) -> "DNCConfig":
        """The equations of the Nature paper; sizes default to those of `deepmind`."""
        paper: dict[str, Any] = dict(
            clip_value=None,
            controller="deep_lstm",
            forget_bias=0.0,
            controller_gradient_clip=10.0,
            strength_activation="oneplus",
            interface_bias=False,
            output_bias=False,
            read_mode_order="backward, content, forward",
            cosine_epsilon=0.0,
            allocation_epsilon=0.0,
            usage_write_gradient=True,
        )
        return cls(**(paper | changes))

    @classmethod
    def dnc_md(cls, **changes: Any) -> "DNCConfig":
        """The DNC-MD of Csordás and Schmidhuber 2019 (arXiv:1904.10278): masks and wiping.

        Everything else is as in `deepmind`. The authors compute strengths as the paper does
        (`strength_activation="oneplus"`).
        """
        variant: dict[str, Any] = dict(content_mask=True, wipe_freed=True)
        return cls(**(variant | changes))

    @classmethod
    def dnc_mds(cls, **changes: Any) -> "DNCConfig":
        """The DNC-MDS of the same authors: `dnc_md` with sharpened links."""
        return cls.dnc_md(**({"sharpen_links": True} | changes))

    @classmethod
    def adnc(cls, **changes: Any) -> "DNCConfig":
        """The ADNC of Franke et al. 2018 (arXiv:1807.02658): layer norms and no links.

        Everything else is as in `deepmind`. The authors' LSTM has `forget_bias=0.0`, and they train
        with dropout (`--output_dropout`).
        """
        variant: dict[str, Any] = dict(linkage="none", interface_norm=True, controller_norm=True)
        return cls(**(variant | changes))

    @property
    def controller_output_size(self) -> int:
        """H of this config's controller; a deep LSTM outputs all its layers."""
        return self.hidden_size * (self.num_layers if self.controller == "deep_lstm" else 1)

    def make_controller(
        self, input_size: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32
    ) -> LSTM | DeepLSTM | FeedForward:
        """The controller of this config; `input_size` is the size of the DNC's inputs x_t."""
        features = input_size + self.num_read_heads * self.word_size
        common: dict[str, Any] = dict(
            gradient_clip=self.controller_gradient_clip,
            dtype=self.controller_dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        if self.controller == "feedforward":
            return FeedForward(features, self.hidden_size, self.num_layers, **common)
        common |= dict(forget_bias=self.forget_bias, norm=self.controller_norm)
        if self.controller == "lstm":
            return LSTM(features, self.hidden_size, **common)
        return DeepLSTM(features, self.hidden_size, self.num_layers, **common)

    def make_access(
        self,
        controller_output_size: int | None = None,
        *,
        content: ContentLike[Any] | None = None,
        freeness: FreenessLike | None = None,
        linkage: LinkageLike[Any] | None = None,
        implementation: Implementation | None = None,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> MemoryAccess:
        """The memory access of this config, with custom parts if given.

        Args:
          controller_output_size: H; by default that of this config's controller.
          content, freeness, linkage, implementation: see `MemoryAccess`.
          rngs, param_dtype: see `DNC`.
        """
        if content is None and self.content_mask:
            content = MaskedContentAddressing(
                self.word_size, least_mask=self.least_mask, epsilon=self.cosine_epsilon
            )
        elif content is None:
            content = ContentAddressing(epsilon=self.cosine_epsilon)
        if freeness is None:
            freeness = Freeness(
                self.memory_size,
                epsilon=self.allocation_epsilon,
                write_gradient=self.usage_write_gradient,
            )
        if linkage is None and self.linkage == "none":
            linkage = NoLinkage()
        return MemoryAccess(
            controller_output_size or self.controller_output_size,
            memory_size=self.memory_size,
            word_size=self.word_size,
            num_read_heads=self.num_read_heads,
            num_write_heads=self.num_write_heads,
            content=content,
            freeness=freeness,
            linkage=linkage,
            strength_activation=self.strength_activation,
            interface_bias=self.interface_bias,
            interface_norm=self.interface_norm,
            read_mode_order=self.read_mode_order,
            wipe_freed=self.wipe_freed,
            sharpen_links=self.sharpen_links,
            implementation=implementation,
            rngs=rngs,
            param_dtype=param_dtype,
        )
