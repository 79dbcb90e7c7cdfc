"""The contents of a trace: every array of every step, by name, with its shape and its meaning."""

import dataclasses
import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, ClassVar, get_args

import numpy as np
from jaxtyping import Float32, jaxtyped

from dncx.tasks.base import Words


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class EpisodeTrace:
    """One sequence, with the DNC's internal arrays at each of its T steps.

    All arrays are float32. Letters and names are those of `dncx.glossary`. Weightings, gates,
    modes and usage have no unit and lie between 0 and 1; strengths are at least 0; memory, keys
    and vectors are in the model's own units. `read_weights[t]` is the read weighting of step t,
    `memory[t]` the memory after step t, and `usage[t]` the usage before its write.

    Raises:
      ValueError: if an array has the wrong shape, or the words have the wrong number of steps.
    """

    __no_type_check__: ClassVar = True  # the checks below give clearer messages

    inputs: Float32[np.ndarray, "T F"]
    """Inputs of the network (before an embedding)."""
    outputs: Float32[np.ndarray, "T O"]
    """Outputs of the network."""
    targets: Float32[np.ndarray, "T Y"] | None = None
    """Target outputs, if known."""
    mask: Float32[np.ndarray, " T"] | None = None
    """1 at the steps that count in the loss."""

    memory: Float32[np.ndarray, "T N W"]
    """Contents after the write."""
    usage: Float32[np.ndarray, "T N"]
    """Usage of each slot before the write: 0 free, 1 in use."""
    write_gate: Float32[np.ndarray, "T M"]
    """Strength of each head's write: 0 no write, 1 full write."""
    allocation_gate: Float32[np.ndarray, "T M"]
    """Whether the write went to free slots (1) or by content (0)."""
    write_strengths: Float32[np.ndarray, "T M"]
    """Sharpness of the write's content lookup."""
    write_weights: Float32[np.ndarray, "T M N"]
    """Write weighting: how much of the write went to each slot."""
    allocation_weights: Float32[np.ndarray, "T M N"]
    """Allocation weighting over the free slots."""
    write_content_weights: Float32[np.ndarray, "T M N"]
    """Content weighting: similarity of the slots to the write key."""
    write_keys: Float32[np.ndarray, "T M W"]
    """Key of the write's content lookup."""
    erase_vectors: Float32[np.ndarray, "T M W"]
    """Share of each number that the write erased, 0 to 1."""
    write_vectors: Float32[np.ndarray, "T M W"]
    """Vector that was written."""

    free_gate: Float32[np.ndarray, "T R"]
    """Share by which the slots read at the previous step were freed."""
    read_strengths: Float32[np.ndarray, "T R"]
    """Sharpness of the read's content lookup."""
    read_weights: Float32[np.ndarray, "T R N"]
    """Read weighting: how much of the read came from each slot."""
    read_content_weights: Float32[np.ndarray, "T R N"]
    """Content weighting: similarity of the slots to the read key."""
    forward_weights: Float32[np.ndarray, "T R L N"]
    """The slots written after those read at the previous step; L is M, or 0 without links."""
    backward_weights: Float32[np.ndarray, "T R L N"]
    """The slots written before those read at the previous step."""
    read_mode: Float32[np.ndarray, "T R 1+2*L"]
    """Shares of the ways of reading: backward x L, forward x L, content."""
    read_keys: Float32[np.ndarray, "T R W"]
    """Key of the read's content lookup."""
    read_words: Float32[np.ndarray, "T R W"]
    """Vector that was read."""

    retention: Float32[np.ndarray, "T N"] | None = None
    """Share of each slot's content that is kept before the write; missing unless freed content is
    wiped."""
    read_masks: Float32[np.ndarray, "T R K"] | None = None
    """How much each number of a word counts in the read's content lookup, 0 to 1, before
    `least_mask` is applied; missing without masks."""
    write_masks: Float32[np.ndarray, "T M K"] | None = None
    """The same for the write's content lookup."""
    forward_sharpness: Float32[np.ndarray, "T R M"] | None = None
    """Power to which the forward weights are raised, at least 1; missing if links are not
    sharpened."""
    backward_sharpness: Float32[np.ndarray, "T R M"] | None = None
    """The same for the backward weights."""
    precedence_weights: Float32[np.ndarray, "T M N"] | None = None
    """Degree to which each slot was the last one written; missing if the linkage does not keep
    it."""
    link: Float32[np.ndarray, "T M N N"] | None = None
    """link[t, m, i, j]: degree to which slot i was written right after slot j; missing without
    links, or if the trace is long and the memory large."""
    controller_output: Float32[np.ndarray, "T H"]
    """h, the controller's output."""

    words: Words | None = None
    """The sequence in the task's own words."""
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Shares of errors by name, 0 to 1: 0 is perfect."""

    def __post_init__(self) -> None:
        with jaxtyped("context"):  # letters stand for the same sizes throughout
            for name, kinds in KINDS.items():
                array = getattr(self, name)
                if not isinstance(array, kinds):
                    found = f"{getattr(array, 'dtype', '')} {getattr(array, 'shape', array)}"
                    raise ValueError(
                        f"{name}: must be float32 [{AXES[name]}], with the same sizes as the "
                        f"arrays before it; got {found}"
                    )
        if self.num_directions not in (0, self.num_write_heads):
            raise ValueError(
                f"forward_weights: must have {self.num_write_heads} directions per read head, one "
                f"per write head, or none; got {self.num_directions}"
            )
        if not self.num_steps:
            raise ValueError("inputs: an episode must have at least one step")
        if self.words and {len(said) for said in self.words} != {self.num_steps}:
            raise ValueError(f"words: must have {self.num_steps} steps each")
        if self.words and not all(isinstance(word, str) for said in self.words for word in said):
            raise ValueError("words: must be strings")
        if not all(isinstance(score, int | float) for score in self.scores.values()):
            raise ValueError("scores: must be a mapping of numbers")

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

    @property
    def num_directions(self) -> int:
        """L: forward (or backward) weightings of a read head; 0 without links."""
        return self.forward_weights.shape[2]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are present, by name."""
        found = {name: getattr(self, name) for name in KINDS}
        return {name: array for name, array in found.items() if array is not None}


def _kinds() -> dict[str, tuple[Any, ...]]:
    """The types that each array may have."""
    given = {n: get_args(hint) or (hint,) for n, hint in EpisodeTrace.__annotations__.items()}
    return {name: kinds for name, kinds in given.items() if hasattr(kinds[0], "dim_str")}


KINDS = _kinds()
AXES = {name: kinds[0].dim_str.strip() for name, kinds in KINDS.items()}
OPTIONAL = {name for name, kinds in KINDS.items() if NoneType in kinds}


@dataclasses.dataclass(frozen=True, repr=False)
class Trace:
    """Episodes of one model. `trace[0]` is the first; a notebook shows a trace as its page.

    Attributes:
      episodes: one or more.
      title: the name of the model.
      about: details of the model, as plain JSON; for a run "run", "seed", and "task" and "model"
        as in config.json.
      notes: sentences about parts that were left out.

    Raises:
      ValueError: if there is no episode, or `about` is not plain JSON.
    """

    episodes: tuple[EpisodeTrace, ...]
    title: str = "a DNC"
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.episodes:
            raise ValueError("a trace must have at least one episode")
        try:
            plain = json.loads(json.dumps([self.title, dict(self.about), self.notes]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"about: must be a mapping of plain JSON; {error}") from error
        if plain != [self.title, self.about, [*self.notes]] or not isinstance(self.title, str):
            raise ValueError("title must be a string, and about a mapping of plain JSON")
        if not isinstance(self.about.get("task", {}), dict):
            raise ValueError("about: 'task' must be a mapping of settings")

    def __repr__(self) -> str:
        return f"<Trace of {self.title}: {[*self.episodes]}>"

    def __getitem__(self, number: int) -> EpisodeTrace:
        return self.episodes[number]

    def __len__(self) -> int:
        return len(self.episodes)
