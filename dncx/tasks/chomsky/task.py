"""Formal languages: see a string, then write the answer that the language defines.

The sequence of one example, with n input symbols and m output symbols (n + m steps):

    step        0 .. n-1    n .. n+m-1
    inputs      string      empty
    targets     0           answer
    mask        0           1

Both are one-hot. Inputs have a channel for each symbol and, as the last one, the empty token that
asks for the answer. It differs from all symbols, so the input needs no other end marker.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dncx.errors import did_you_mean, one_of
from dncx.tasks.base import Episode, Words
from dncx.tasks.chomsky.context_free import CONTEXT_FREE
from dncx.tasks.chomsky.context_sensitive import CONTEXT_SENSITIVE
from dncx.tasks.chomsky.language import Language, Strings
from dncx.tasks.chomsky.regular import REGULAR
from dncx.tasks.chomsky.settings import ChomskySettings
from dncx.tasks.settings import check_counts, check_ranges

LANGUAGES: dict[str, Language] = {
    language.name: language for language in (*REGULAR, *CONTEXT_FREE, *CONTEXT_SENSITIVE)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chomsky(ChomskySettings):
    """The fifteen tasks of Delétang et al.; the arguments are `ChomskySettings`.

    A length is drawn for every sequence (in the paper's code: for every batch). A length that the
    language does not have becomes the next smaller one.

    `Episode.extra` is 1 at the outputs that are scored, else 0: it leaves out the padding behind
    the end symbol, which counts for the loss only, as in the paper's code.

    Raises:
      ValueError: if there is no such language, a length is below 1, or the minimum is above the
        maximum.

    Source: Delétang et al. 2023, "Neural Networks and the Chomsky Hierarchy", arXiv:2207.02098,
    and its code, google-deepmind/neural_networks_chomsky_hierarchy.
    """

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ValueError(
                f"language={self.language}: must be {one_of([*LANGUAGES])}"
                + did_you_mean(str(self.language), LANGUAGES)
            )
        check_counts(self)
        check_ranges(self)
        if self.time_steps >= 2**31:
            raise ValueError(
                f"max_length={self.max_length}: sequences would have {self.time_steps} steps, "
                "2^31 or more"
            )

    @property
    def definition(self) -> Language:
        """The language."""
        return LANGUAGES[self.language]

    @property
    def input_size(self) -> int:
        return len(self.definition.inputs) + 1

    @property
    def output_size(self) -> int:
        return len(self.definition.outputs)

    @property
    def loss_unit(self) -> str:
        return "nats per sequence"

    @property
    def time_steps(self) -> int:
        """Steps of the longest sequence."""
        return self._longest + int(self.definition.output_length(self._longest))

    @property
    def _longest(self) -> int:
        return int(self.definition.valid_length(self.max_length))

    def sample(self, key: Array, batch_size: int) -> Episode:
        """See `Task.sample`."""

        def draw(key: Array) -> Episode:
            length_key, key = jax.random.split(key)
            length = jax.random.randint(length_key, (), self.min_length, self.max_length + 1)
            length = jnp.asarray(self.definition.valid_length(length))
            return self.episode(self.definition.sample(key, length, self._longest), length)

        return jax.vmap(draw)(jax.random.split(key, batch_size))

    def episode(self, strings: Strings, length: Int[Array, ""]) -> Episode:
        """One sequence, without a batch axis; symbols beyond the lengths are not used."""
        step = jnp.arange(self.time_steps)
        place = step - length
        shown = place < 0
        answering = ~shown & (place < self.definition.output_length(length))
        string = jnp.take(strings.inputs, step, mode="clip")
        answer = jnp.take(strings.outputs, place, mode="clip")
        scored = answering
        if self.definition.has_end:
            scored &= place <= jnp.argmax(strings.outputs == self.output_size - 1)

        def one_hot(symbols: Array, size: int, where: Array) -> Array:
            return jnp.where(where[:, None], jax.nn.one_hot(symbols, size, dtype=jnp.float32), 0)

        tape = jnp.where(shown, string, self.input_size - 1)
        return Episode(
            inputs=one_hot(tape, self.input_size, shown | answering),
            targets=one_hot(answer, self.output_size, answering),
            mask=answering.astype(jnp.float32),
            extra=scored.astype(jnp.float32),
        )

    def loss(self, outputs: Float[Array, "B T O"], episode: Episode) -> Float[Array, ""]:
        """Softmax cross-entropy, summed over the answer; the mean over the batch."""
        targets, mask = (x.astype(outputs.dtype) for x in (episode.targets, episode.mask))
        nats = optax.losses.softmax_cross_entropy(outputs, targets)
        return (nats * mask).sum(axis=-1).mean()

    def score(
        self, outputs: Float[Array, "B T O"], episode: Episode
    ) -> dict[str, Float[Array, ""]]:
        """Shares of wrong symbols among the scored ones, and of sequences with a wrong symbol.

        The paper's accuracy is 1 - `token_error`.
        """
        wrong = (outputs.argmax(axis=-1) != episode.targets.argmax(axis=-1)) & (episode.extra > 0)
        scored = episode.extra.sum()
        return {
            "token_error": wrong.sum().astype(scored.dtype) / scored,
            "sequence_error": wrong.any(axis=1).astype(scored.dtype).mean(),
        }

    def render(self, outputs: Float[Array, "B T O"], episode: Episode) -> str:
        """The string, its answer, and the network's."""
        names = ("string", "target", "model output")
        lines = zip(names, self.words(outputs, episode), strict=True)
        return "\n".join(f"{name:>13} {' '.join(filter(None, words))}" for name, words in lines)

    def words(self, outputs: Float[Array, "B T O"], episode: Episode) -> Words:
        """See `Describable.words`: the symbols of the string, and the scored ones of the answer."""
        inputs = np.asarray(episode.inputs[0])
        shown = np.asarray(inputs[:, :-1].any(axis=-1))
        scored = np.asarray(np.asarray(episode.extra[0]) > 0)

        def spell(rows: np.ndarray, symbols: tuple[str, ...], where: np.ndarray) -> tuple[str, ...]:
            pairs = zip(rows.argmax(axis=-1), where, strict=True)
            return tuple(symbols[number] if there else "" for number, there in pairs)

        answers = self.definition.outputs
        return Words(
            spell(inputs, self.definition.inputs, shown),
            spell(np.asarray(episode.targets[0]), answers, scored),
            spell(np.asarray(outputs[0]), answers, scored),
        )
