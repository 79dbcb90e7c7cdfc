"""The memory access: one step of writing to the memory and reading from it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dncx.addressing import (
    ContentAddressing,
    Freeness,
    MaskedContentAddressing,
    NoLinkage,
    TemporalLinkage,
    erase_and_write,
    retention,
    sharpened,
)
from dncx.checks import (
    InitSignature,
    check_dtype,
    check_flag,
    check_instance,
    check_size,
    checked_arguments,
)
from dncx.glossary import (
    DirectionalWeights,
    Memory,
    ReadWeights,
    ReadWords,
    Usage,
    WriteWeights,
)
from dncx.initializers import fan_in_normal
from dncx.interface import (
    Interface,
    ReadModeOrder,
    StrengthActivation,
    interface_ends,
    interface_shapes,
    split,
    squash,
)
from dncx.kernels import gradients
from dncx.kernels.choice import (
    Implementation,
    custom_reason,
    known_to_kernels,
    select_for_access,
)
from dncx.kernels.step import Options, access_step
from dncx.normalization import LayerNorm
from dncx.parts import ContentLike, FreenessLike, LinkageLike


class AccessState(NamedTuple):
    """The state that the memory carries from step to step."""

    memory: Memory
    read_weights: ReadWeights
    write_weights: WriteWeights
    linkage: Any  # a TemporalLinkageState, () without links, or the state of a custom linkage
    usage: Usage


class AccessTrace(NamedTuple):
    """Everything that a step computes, except its new state.

    The retention is the share of each slot's content that is left when the write begins; None
    unless `wipe_freed` is set (`DNCConfig`).
    """

    interface: Interface
    allocation_weights: WriteWeights
    write_content_weights: WriteWeights
    read_content_weights: ReadWeights
    forward_weights: DirectionalWeights
    backward_weights: DirectionalWeights
    retention: Usage | None = None


def gated_write_weights(
    allocation: WriteWeights,
    content: WriteWeights,
    allocation_gate: Float[Array, " M"],
    write_gate: Float[Array, " M"],
) -> WriteWeights:
    """w^w = g^w [ g^a a + (1 - g^a) c^w ] (Methods, "Write weighting")."""
    gate = allocation_gate[:, None]
    return write_gate[:, None] * (gate * allocation + (1 - gate) * content)


def mixed_read_weights(
    read_mode: Float[Array, "R modes"],
    backward: DirectionalWeights,
    forward: DirectionalWeights,
    content: ReadWeights,
) -> ReadWeights:
    """w^r = Σₘ π[bₘ] bₘ + Σₘ π[fₘ] fₘ + π[c] c^r (Methods, "Read weighting")."""
    heads = backward.shape[1]
    backward_mode, forward_mode, content_mode = jnp.split(read_mode, [heads, 2 * heads], axis=-1)
    return (
        jnp.einsum("rm,rmn->rn", backward_mode, backward)
        + jnp.einsum("rm,rmn->rn", forward_mode, forward)
        + content_mode * content
    )


@known_to_kernels("access")
class MemoryAccess(nnx.Module):
    """Reads and writes the memory as the controller demands, for one example.

    A custom access is a `dncx.AccessLike`. A subclass with different equations overrides
    `step_with_trace`, which `__call__` calls.

    Args:
      input_size: H, features of the controller's output.
      memory_size: N.
      word_size: W.
      num_read_heads: R.
      num_write_heads: M.
      content: which slots are similar to a key; by default `ContentAddressing`.
      freeness: which slots are free; by default `Freeness`.
      linkage: the order of writing; by default `TemporalLinkage`. With `NoLinkage`, all reads are
        by content.
      strength_activation, interface_bias, interface_norm, read_mode_order: see `DNCConfig`.
      wipe_freed, sharpen_links: see `DNCConfig`.
      implementation: "plain", "xla" or "native" (dncx/kernels/README.md); None: the fastest
        one available. All give the same results except for rounding.
      rngs: `rngs.params()` draws the weights of the interface.
      param_dtype: dtype of weights and state.
    """

    __signature__ = InitSignature()

    @checked_arguments()
    def __init__(
        self,
        input_size: int,
        *,
        memory_size: int = 16,
        word_size: int = 16,
        num_read_heads: int = 4,
        num_write_heads: int = 1,
        content: ContentLike[Any] | None = None,
        freeness: FreenessLike | None = None,
        linkage: LinkageLike[Any] | None = None,
        strength_activation: StrengthActivation = "softplus",
        interface_bias: bool = True,
        interface_norm: bool = False,
        read_mode_order: ReadModeOrder = "backward, forward, content",
        wipe_freed: bool = False,
        sharpen_links: bool = False,
        implementation: Implementation | None = None,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        check_dtype("param_dtype", param_dtype)
        self.memory_size = memory_size = check_size("memory_size", memory_size)
        self.word_size = word_size = check_size("word_size", word_size)
        self.num_read_heads = num_read_heads = check_size("num_read_heads", num_read_heads)
        self.num_write_heads = num_write_heads = check_size("num_write_heads", num_write_heads)
        self.strength_activation: StrengthActivation = strength_activation
        self.read_mode_order: ReadModeOrder = read_mode_order
        self.wipe_freed = check_flag("wipe_freed", wipe_freed)
        self.sharpen_links = check_flag("sharpen_links", sharpen_links)
        self.implementation: Implementation | None = implementation
        check_instance("content", content)
        check_instance("freeness", freeness)
        check_instance("linkage", linkage)
        self.content: ContentLike[Any] = ContentAddressing() if content is None else content
        self.freeness: FreenessLike = Freeness(memory_size) if freeness is None else freeness
        self.linkage: LinkageLike[Any] = (
            TemporalLinkage(memory_size, num_write_heads) if linkage is None else linkage
        )
        if sharpen_links and not self.has_links:
            raise ValueError("sharpen_links=True: NoLinkage has no links")
        masks = self.content.mask_size
        if isinstance(self.content, MaskedContentAddressing) and masks != word_size:
            raise ValueError(f"word_size={word_size}: MaskedContentAddressing has masks of {masks}")
        self.interface_linear = nnx.Linear(
            check_size("input_size", input_size),
            interface_ends(self.interface_shapes)[-1],
            use_bias=interface_bias,
            kernel_init=fan_in_normal,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.interface_norm = (
            LayerNorm(self.interface_linear.out_features, rngs=rngs, param_dtype=param_dtype)
            if interface_norm
            else None
        )

    def initial_state(self, dtype: DTypeLike) -> AccessState:
        """All zeros, the memory included (reference: the original's initial_state)."""
        return AccessState(
            memory=jnp.zeros((self.memory_size, self.word_size), dtype),
            read_weights=jnp.zeros((self.num_read_heads, self.memory_size), dtype),
            write_weights=jnp.zeros((self.num_write_heads, self.memory_size), dtype),
            linkage=self.linkage.initial_state(dtype),
            usage=self.freeness.initial_state(dtype),
        )

    @property
    def has_links(self) -> bool:
        """Whether reads can follow links; false only with `NoLinkage`."""
        return not isinstance(self.linkage, NoLinkage)

    @property
    def interface_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every part of ξ; see `dncx.interface.interface_shapes`."""
        return interface_shapes(
            self.word_size,
            self.num_read_heads,
            self.num_write_heads,
            links=self.has_links,
            mask_size=self.content.mask_size,
            sharpen_links=self.sharpen_links,
        )

    def interface(self, controller_output: Float[Array, " H"]) -> Interface:
        """ξ_t = W_ξ h_t (+ b), split into its parts, each squashed into its range.

        With `interface_norm`, ξ_t = LN(W_ξ h_t + b).
        """
        vector = self.interface_linear(controller_output)
        if self.interface_norm is not None:
            vector = self.interface_norm(vector)
        raw = split(vector, self.interface_shapes)
        return squash(raw, self.strength_activation, self.read_mode_order)

    def __call__(
        self, state: AccessState, controller_output: Float[Array, " H"]
    ) -> tuple[AccessState, ReadWords]:
        """One step: the new state and the words read."""
        state, read_words, _ = self.step_with_trace(state, controller_output)
        return state, read_words

    def step_with_trace(
        self, state: AccessState, controller_output: Float[Array, " H"]
    ) -> tuple[AccessState, ReadWords, AccessTrace]:
        """One step, in the order of the paper: usage, write, link, read."""
        xi = self.interface(controller_output)
        form = select_for_access(self, state.memory.dtype).name
        if form == "native step":
            new_state, read_words, trace = access_step(self.options, state, xi)
            return new_state, read_words, AccessTrace(xi, *trace)
        return self._equations(state, xi, fast_gradients=form == "xla")

    @property
    def options(self) -> Options:
        """The settings for the native kernel, which supports only dncx's own parts."""
        content: Any = self.content
        freeness: Any = self.freeness
        masks = content.mask_size > 0
        return Options(
            cosine_epsilon=float(content.epsilon),
            allocation_epsilon=float(freeness.epsilon),
            least_mask=float(content.least_mask) if masks else 0.0,
            write_gradient=bool(freeness.write_gradient),
            links=self.has_links,
            masks=masks,
            wipe_freed=self.wipe_freed,
            sharpen_links=self.sharpen_links,
        )

    def _equations(
        self, state: AccessState, xi: Interface, *, fast_gradients: bool
    ) -> tuple[AccessState, ReadWords, AccessTrace]:
        write, follow = erase_and_write, self.linkage
        if fast_gradients:
            write = gradients.erase_and_write
            temporal = isinstance(follow, TemporalLinkage) and not custom_reason("linkage", follow)
            follow = gradients.link_step if temporal else follow

        usage = self.freeness(state.usage, state.write_weights, xi.free_gate, state.read_weights)
        allocation = self.freeness.write_allocation_weights(
            usage, xi.allocation_gate * xi.write_gate
        )
        write_content = self.content(
            state.memory, xi.write_keys, xi.write_strengths, xi.write_masks
        )
        write_weights = gated_write_weights(
            allocation, write_content, xi.allocation_gate, xi.write_gate
        )
        kept, retained = state.memory, None
        if self.wipe_freed:  # after the write's lookup, as in the authors' code
            retained = retention(xi.free_gate, state.read_weights)
            kept = retained[:, None] * kept
        memory = write(kept, write_weights, xi.erase_vectors, xi.write_vectors)

        linkage, forward, backward = follow(state.linkage, write_weights, state.read_weights)
        if xi.forward_sharpness is not None and xi.backward_sharpness is not None:
            forward = sharpened(forward, xi.forward_sharpness)
            backward = sharpened(backward, xi.backward_sharpness)
        read_content = self.content(memory, xi.read_keys, xi.read_strengths, xi.read_masks)
        read_weights = mixed_read_weights(xi.read_mode, backward, forward, read_content)
        read_words = read_weights @ memory

        new_state = AccessState(memory, read_weights, write_weights, linkage, usage)
        trace = AccessTrace(
            xi, allocation, write_content, read_content, forward, backward, retained
        )
        return new_state, read_words, trace
