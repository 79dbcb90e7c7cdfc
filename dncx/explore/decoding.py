"""Interpretation of a trace: the write that each read returns to, and the lifetimes of contents.

A slot counts as written or read if its weight is above a threshold, one half by default. A
weighting sums to at most 1, so a sharp head has one such slot and a blurred head has none.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from dncx.explore.record import EpisodeTrace

THRESHOLD = 0.5
Way = Literal["backward", "forward", "content"]


class Write(NamedTuple):
    """A write to one slot; `weight` is the share of the write that went there."""

    step: int
    head: int
    slot: int
    weight: float


class Free(NamedTuple):
    """A slot freed: a head's free gate removed `share` of its usage, one step after a read."""

    step: int
    head: int
    slot: int
    share: float


class Read(NamedTuple):
    """A read of one slot.

    Attributes:
      step: the step.
      head: the read head.
      slot: the slot.
      weight: the share of the read that came from the slot.
      written: the step of the slot's last write; None: no earlier write was above the threshold.
      way: the mode with the largest share: the slot's similarity to the key (content), or the links
        from the slots read at the previous step (forward, backward).
      share: the part of `weight` from this mode.
    """

    step: int
    head: int
    slot: int
    weight: float
    written: int | None
    way: Way
    share: float


class Lifetime(NamedTuple):
    """The time from one write to a slot until its content is freed or overwritten.

    Attributes:
      slot: the slot.
      written: the step of the write.
      head: the write head.
      read: the steps of reads, by any head.
      ended: the step of its end; T if it lasts to the end of the episode.
      end: the way in which it ended.
    """

    slot: int
    written: int
    head: int
    read: tuple[int, ...]
    ended: int
    end: Literal["freed", "overwritten", "kept"]


def writes(episode: EpisodeTrace, threshold: float = THRESHOLD) -> list[Write]:
    """Every write to a slot above the threshold, in the order of steps."""
    weights = episode.write_weights
    return [Write(*place, float(weights[place])) for place in _above(weights, threshold)]


def frees(episode: EpisodeTrace, threshold: float = THRESHOLD) -> list[Free]:
    """Every slot freed by a head above the threshold, f_t w^r_{t-1}, in the order of steps."""
    before = np.zeros_like(episode.read_weights)
    before[1:] = episode.read_weights[:-1]
    shares = episode.free_gate[..., None] * before
    return [Free(*place, float(shares[place])) for place in _above(shares, threshold)]


def reads(episode: EpisodeTrace, threshold: float = THRESHOLD) -> list[Read]:
    """Every read of a slot above the threshold, with the write that it returns to."""
    last = last_write(episode, threshold)
    ways = read_ways(episode)
    names: tuple[Way, ...] = ("backward", "forward", "content")
    found = []
    for step, head, slot in _above(episode.read_weights, threshold):
        way = int(ways[:, step, head, slot].argmax())
        found.append(
            Read(
                step=step,
                head=head,
                slot=slot,
                weight=float(episode.read_weights[step, head, slot]),
                written=int(last[step, slot]) if last[step, slot] >= 0 else None,
                way=names[way],
                share=float(ways[way, step, head, slot]),
            )
        )
    return found


def read_ways(episode: EpisodeTrace) -> np.ndarray:
    """The parts of the read weights [3, T, R, N]: backward, forward, content; their sum is w^r.

    Source: Methods, "Read weighting".
    """
    many = episode.num_directions
    backward, forward, content = np.split(episode.read_mode, [many, 2 * many], axis=-1)
    # Not np.einsum: without links m is 0, and its result is then memory that nobody has set.
    return np.stack(
        [
            (backward[..., None] * episode.backward_weights).sum(axis=-2),
            (forward[..., None] * episode.forward_weights).sum(axis=-2),
            content * episode.read_content_weights,
        ]
    )


def last_write(episode: EpisodeTrace, threshold: float = THRESHOLD) -> Int[np.ndarray, "T N"]:
    """The step of each slot's last write, up to and including each step; -1: not yet written."""
    last = np.full((episode.num_steps, episode.num_slots), -1)
    for write in writes(episode, threshold):
        last[write.step :, write.slot] = write.step
    return last


def lifetimes(episode: EpisodeTrace, threshold: float = THRESHOLD) -> list[Lifetime]:
    """All lifetimes of the slots, in the order of writing.

    A lifetime ends with the next write to the slot, or when the slot is freed. A read in the last
    step no longer belongs to it.
    """
    ends = [(free.step, 0, free.slot, "freed") for free in frees(episode, threshold)]
    begins = [(write.step, 1, write.slot, write.head) for write in writes(episode, threshold)]
    open_: dict[int, Lifetime] = {}
    done = []
    for step, _, slot, what in sorted(ends + begins, key=lambda event: event[:3]):
        if slot in open_:
            end = "freed" if what == "freed" else "overwritten"
            done.append(open_.pop(slot)._replace(ended=step, end=end))
        if what != "freed":
            open_[slot] = Lifetime(slot, step, int(what), (), episode.num_steps, "kept")
    done = sorted([*done, *open_.values()], key=lambda life: (life.written, life.slot))
    read = {(found.step, found.slot) for found in reads(episode, threshold)}
    return [
        life._replace(
            read=tuple(t for t in range(life.written, life.ended) if (t, life.slot) in read)
        )
        for life in done
    ]


def successors(
    episode: EpisodeTrace, threshold: float = THRESHOLD
) -> Int[np.ndarray, "T M N"] | None:
    """The slot written right after each slot, by the links; -1: none.

    None if the trace has no links.
    """
    if episode.link is None:
        return None
    to = episode.link.argmax(axis=-2)  # of the columns: link[i, j] leads from j to i
    strength = episode.link.max(axis=-2)
    return np.where(strength > threshold, to, -1)


def chains(successors: Int[np.ndarray, " N"]) -> list[list[int]]:
    """Slots in the order of writing, one list per chain of links.

    A closed chain begins at its lowest slot.
    """
    following = [int(slot) for slot in successors]
    led_to = {slot for slot in following if slot >= 0}
    starts = [slot for slot in range(len(following)) if slot not in led_to]
    found, seen = [], set()
    for start in [*starts, *range(len(following))]:
        chain, slot = [], start
        while slot >= 0 and slot not in seen:
            seen.add(slot)
            chain.append(slot)
            slot = following[slot]
        if len(chain) > 1:
            found.append(chain)
    return found


def item(episode: EpisodeTrace, step: int | None) -> str:
    """The input of a step in the task's words, most likely what was written at that step."""
    if step is None or episode.words is None:
        return ""
    return episode.words.inputs[step]


def _above(weights: np.ndarray, threshold: float) -> list[tuple[int, int, int]]:
    """The indices (step, head, slot) of the weights above the threshold."""
    return [tuple(int(i) for i in place) for place in np.argwhere(weights > threshold)]  # pyright: ignore[reportReturnType]
