"""What a trace is: every array of every step, by name, with its shape and its meaning."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, get_args

import numpy as np
from jaxtyping import Float32, jaxtyped

from dncx.tasks.base import Words


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class EpisodeTrace:
    """One sequence, and all that happened inside the DNC at each of its T steps.

    All arrays are float32. Letters and names are those of `dncx.glossary`. Weightings, gates,
    modes and usage have no unit and lie between 0 and 1; strengths are at least 0; memory, keys
    and vectors are in the model's own units. What a step computed stands beside the state that it
    left: `read_weights[t]` is where step t read, `usage[t]` what it found before writing.

    Raises:
      ValueError: an array of another shape, or the words of another number of steps.
    """

    __no_type_check__: ClassVar = True  # its own checks, below, say more than a checker's

    inputs: Float32[np.ndarray, "T F"]
    """What the network saw (before an embedding)."""
    outputs: Float32[np.ndarray, "T O"]
    """What it gave out."""
    targets: Float32[np.ndarray, "T O"] | None = None
    """What it should have, where that is known."""
    mask: Float32[np.ndarray, " T"] | None = None
    """1 at the steps that counted."""

    memory: Float32[np.ndarray, "T N W"]
    """Contents after the write."""
    usage: Float32[np.ndarray, "T N"]
    """How far each slot was in use when the step chose where to write."""
    write_gate: Float32[np.ndarray, "T M"]
    """How far each head wrote at all."""
    allocation_gate: Float32[np.ndarray, "T M"]
    """How far to free slots (1), or by content (0)."""
    write_strengths: Float32[np.ndarray, "T M"]
    """Sharpness of the write's content lookup."""
    write_weights: Float32[np.ndarray, "T M N"]
    """Where it wrote."""
    allocation_weights: Float32[np.ndarray, "T M N"]
    """The free slots it could have written to."""
    write_content_weights: Float32[np.ndarray, "T M N"]
    """The slots like the write key."""
    write_keys: Float32[np.ndarray, "T M W"]
    """What the write looked for."""
    erase_vectors: Float32[np.ndarray, "T M W"]
    """How far each number of the slots written to was erased, 0 to 1."""
    write_vectors: Float32[np.ndarray, "T M W"]
    """What was written."""

    free_gate: Float32[np.ndarray, "T R"]
    """How far the slots that the step before had read were freed."""
    read_strengths: Float32[np.ndarray, "T R"]
    """Sharpness of the read's content lookup."""
    read_mode: Float32[np.ndarray, "T R 1+2*M"]
    """Shares of the ways of reading: backward x M, forward x M, content."""
    read_weights: Float32[np.ndarray, "T R N"]
    """Where it read."""
    read_content_weights: Float32[np.ndarray, "T R N"]
    """The slots like the read key."""
    forward_weights: Float32[np.ndarray, "T R M N"]
    """The slots written after those that the step before had read."""
    backward_weights: Float32[np.ndarray, "T R M N"]
    """The slots written before those that the step before had read."""
    read_keys: Float32[np.ndarray, "T R W"]
    """What the read looked for."""
    read_words: Float32[np.ndarray, "T R W"]
    """What was read."""

    precedence_weights: Float32[np.ndarray, "T M N"] | None = None
    """How far each slot was the last one written to; of a linkage of one's own, none."""
    link: Float32[np.ndarray, "T M N N"] | None = None
    """link[t, m, i, j]: how far slot i was written right after slot j; left out of long traces of
    large memories."""
    controller_output: Float32[np.ndarray, "T H"]
    """h, what the controller gave out."""

    words: Words | None = None
    """The sequence in the task's own words."""
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """How wrong the outputs were, shares by name: 0 is perfect."""

    def __post_init__(self) -> None:
        with jaxtyped("context"):  # letters stand for the same sizes throughout
            for name, kinds in KINDS.items():
                array = getattr(self, name)
                if not isinstance(array, kinds):
                    found = f"{getattr(array, 'dtype', '')} {getattr(array, 'shape', array)}"
                    raise ValueError(
                        f"{name}: must be float32 [{AXES[name]}], with the sizes that the arrays "
                        f"before it have; got {found}"
                    )
        if not self.num_steps:
            raise ValueError("inputs: an episode has at least one step")
        if self.words and {len(said) for said in self.words} != {self.num_steps}:
            raise ValueError(f"words: must be of {self.num_steps} steps each")
        if self.words and not all(isinstance(word, str) for said in self.words for word in said):
            raise ValueError("words: must be texts")
        if not all(isinstance(score, int | float) for score in self.scores.values()):
            raise ValueError("scores: must be numbers by name")

    def __repr__(self) -> str:
        return (
            f"<EpisodeTrace: {self.num_steps} steps, {self.num_slots} slots, "
            f"{self.num_read_heads} read heads, {self.num_write_heads} write heads>"
        )

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.inputs)

    @property
    def num_slots(self) -> int:
        """N."""
        return self.usage.shape[1]

    @property
    def num_read_heads(self) -> int:
        """R."""
        return self.read_weights.shape[1]

    @property
    def num_write_heads(self) -> int:
        """M."""
        return self.write_weights.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Those that are there, by name."""
        found = {name: getattr(self, name) for name in KINDS}
        return {name: array for name, array in found.items() if array is not None}


def _kinds() -> dict[str, tuple[Any, ...]]:
    """What each array may be."""
    given = {n: get_args(hint) or (hint,) for n, hint in EpisodeTrace.__annotations__.items()}
    return {name: kinds for name, kinds in given.items() if hasattr(kinds[0], "dim_str")}


KINDS = _kinds()
AXES = {name: kinds[0].dim_str.strip() for name, kinds in KINDS.items()}
OPTIONAL = {name for name, kinds in KINDS.items() if NoneType in kinds}


@dataclasses.dataclass(frozen=True, repr=False)
class Trace:
    """Episodes of one model. `trace[0]` is the first; in a notebook a trace shows itself.

    Attributes:
      episodes: at least one.
      title: whose they are.
      about: what else is to say, as plain JSON; of a run "run", "seed", and "task" and "model" as
        in config.json.
      notes: what was left out, in words.

    Raises:
      ValueError: there is no episode, or `about` is not plain JSON.
    """

    episodes: tuple[EpisodeTrace, ...]
    title: str = "a DNC"
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.episodes:
            raise ValueError("a trace has at least one episode")
        try:
            plain = json.loads(json.dumps([self.title, dict(self.about), self.notes]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"about: must be plain JSON by name; {error}") from error
        if plain != [self.title, self.about, [*self.notes]] or not isinstance(self.title, str):
            raise ValueError("title, about: must be a text, and plain JSON by name")
        if not isinstance(self.about.get("task", {}), dict):
            raise ValueError("about: its task must be settings by name")

    def __repr__(self) -> str:
        return f"<Trace of {self.title}: {[*self.episodes]}>"

    def __getitem__(self, number: int) -> EpisodeTrace:
        return self.episodes[number]

    def __len__(self) -> int:
        return len(self.episodes)

    def save(self, path: Path | str, *, force: bool = False) -> Path:
        """Writes trace.npz (see `dncx.explore.archive`), whole or not at all.

        Raises:
          UsageError: there is such a file, and no `force`.
        """
        from dncx.explore.archive import save

        return save(self, Path(path), force)

    def page(
        self, path: Path | str, *, compared: "Trace | None" = None, force: bool = False
    ) -> Path:
        """Writes the explorer, one HTML file that needs nothing else.

        Args:
          path: where to.
          compared: another trace, to see beside this one.
          force: whether to replace a file that is there.

        Raises:
          UsageError: there is such a file, and no `force`.
        """
        from dncx.explore.page import write

        return write(Path(path), self, compared, force)

    def _repr_html_(self) -> str:
        from dncx.explore.page import frame

        return frame(self)
