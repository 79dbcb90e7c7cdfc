"""Running a model and recording everything that happens inside it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array

from dncx.dnc import DNC, DNCState
from dncx.errors import UsageError
from dncx.explore.record import EpisodeTrace, Trace
from dncx.parts import cell_of
from dncx.runs.codec import to_plain
from dncx.runs.directory import load_run
from dncx.runs.hub import spelled
from dncx.runs.state import EVALUATION, stream
from dncx.sequence import unroll_with_trace
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.base import Describable, Episode, Interactive, Words
from dncx.training.batches import data_of, drawn_bucket, keys_for, sources
from dncx.training.gradient import respond

LINK_NUMBERS = 2**26  # for all episodes together (256 MiB); above this, links are left out


def trace(
    cell: Any,
    inputs: ArrayLike,
    *,
    targets: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    initial_state: DNCState | None = None,
    words: Sequence[Words] | None = None,
    title: str = "a DNC",
    about: Mapping[str, Any] | None = None,
) -> Trace:
    """Runs a DNC and records every step.

    Args:
      cell: a `DNC`, possibly with custom parts, with an embedding, or in an `nnx.RNN`.
      inputs: [batch, time, features], or [time, features] for one episode.
      targets: target outputs, with the axes of `inputs`; only for display.
      mask: [batch, time] or [time], 1 at the steps that count in the loss; only for display.
      lengths: [batch], 1 or more; by default all episodes are as long as `inputs`.
      initial_state: as in `dncx.unroll`.
      words: the steps of each episode in words.
      title, about: see `Trace`.

    Raises:
      ValueError: if shapes do not fit together.
      UsageError: if the model does not have the memory of a DNC.

    Example:
      >>> trace = explore.trace(cell, inputs)
      >>> trace[0].memory.shape  # [T, N, W]
    """
    cell = cell.cell if isinstance(cell, nnx.RNN) else cell
    given = {"inputs": inputs, "targets": targets, "mask": mask}
    arrays = {name: jnp.asarray(x) for name, x in given.items() if x is not None}
    if arrays["inputs"].ndim == 2:
        arrays, initial_state = jax.tree.map(lambda x: x[None], (arrays, initial_state))
    ends = _checked_lengths(arrays, lengths)
    if words and len(words) != len(ends):
        raise ValueError(f"words: {len(words)} episodes, but inputs have {len(ends)}")
    memory = memory_of(cell)
    links = arrays["inputs"][..., 0].size * memory.num_write_heads * memory.memory_size**2
    if not getattr(memory, "has_links", True):  # a custom access may have other links
        links = 0
    arrays |= _run(cell, arrays["inputs"], jnp.asarray(ends), initial_state, links <= LINK_NUMBERS)
    found: dict[str, Any] = {
        name: np.asarray(array.astype(jnp.float32)) for name, array in arrays.items()
    }
    episodes = tuple(
        EpisodeTrace(
            **{name: array[number, :end] for name, array in found.items()},
            words=Words(*(tuple(texts[:end]) for texts in words[number])) if words else None,
        )
        for number, end in enumerate(ends.tolist())
    )
    left_out = f"The links are left out: they have {links:,} numbers, more than {LINK_NUMBERS:,}."
    notes = (left_out,) if links > LINK_NUMBERS else ()
    return Trace(episodes, title, about or {}, notes)


def trace_run(
    run: Path | str,
    *,
    num_episodes: int = 2,
    seed: int = 1,
    checkpoint: int | None = None,
    network: str | Callable[..., Any] | None = None,
    **changes: Any,
) -> Trace:
    """Runs a trained model on fresh episodes of its task and records every step.

    Args:
      run: a run directory, the name of a model that ships with dncx, or `hf://owner/name`.
      num_episodes: number of episodes.
      seed: seed of the episodes.
      checkpoint, network: see `load_run`.
      **changes: settings of the task, or `memory_size`, that differ from training.

    Raises:
      UsageError: if there is no trained DNC, or it cannot run with these settings.
    """
    if num_episodes < 1:
        raise UsageError(f"num_episodes={num_episodes}: must be at least 1")
    loaded = load_run(run, checkpoint=checkpoint, network=network, **changes)
    about = {
        "run": spelled(run),
        "iteration": loaded.progress.iteration,
        "seed": seed,
        "task": {"name": loaded.config.task.name, **loaded.config.task.settings},
        "network": to_plain(loaded.config.network),
    }
    title = Path(run).resolve().name
    return trace_task(
        loaded.task, loaded.network, num_episodes=num_episodes, seed=seed, title=title, about=about
    )


def trace_task(
    task: Any,
    network: Any,
    *,
    num_episodes: int = 2,
    seed: int = 1,
    title: str = "a DNC",
    about: Mapping[str, Any] | None = None,
) -> Trace:
    """Runs a network on fresh episodes of a task and records every step.

    Args:
      task: a `dncx.tasks.base.Task`, or one in buckets.
      network: as in `trace`.
      num_episodes: number of episodes.
      seed: seed of the episodes.
      title, about: see `Trace`.

    Raises:
      UsageError: if the model has no memory of a DNC.
    """
    opening, outputs, judged = _episodes(task, network, num_episodes, seed)
    episode = judged
    if isinstance(task, Interactive):
        episode = _join(opening, np.asarray(task.opening_lengths(opening)), judged)
    found = trace(
        network,
        episode.inputs,
        targets=None if is_environment(task) else episode.targets,
        mask=episode.mask,
        lengths=_lengths(episode),
        title=title,
        about=about,
    )
    episodes = tuple(
        dataclasses.replace(
            one,
            words=_words(task, one, _one(episode, number)),
            scores=jax.tree.map(float, task.score(*_one((outputs, judged), number))),
        )
        for number, one in enumerate(found.episodes)
    )
    return dataclasses.replace(found, episodes=episodes)


def _episodes(task: Any, network: Any, count: int, seed: int) -> tuple[Episode, Array, Episode]:
    """Fresh episodes, the network's outputs, and the answered episodes (see `respond`).

    If the task has buckets, all come from one bucket, which the seed chooses by the shares.
    """
    graph, params = nnx.split(network)
    key = stream(seed, EVALUATION)
    bucket = int(drawn_bucket(task, key))

    @jax.jit
    def draw(params: Any, key: Array, data: Any) -> tuple[Episode, Array, Episode]:
        source = sources(task, data)[bucket]
        opening, cell = source.sample(key, count), nnx.merge(graph, params)
        keys = keys_for(opening, key)
        return opening, *respond(cell, source, opening, keys, training=False)

    return draw(params, key, data_of(task))


@functools.partial(jax.jit, static_argnames="links")
def _run(
    cell: Any, inputs: Array, lengths: Array, initial_state: DNCState | None, links: bool
) -> dict[str, Array]:
    """The arrays of `EpisodeTrace` that the model computes, with a batch axis first."""
    outputs, _, trace = unroll_with_trace(
        cell, inputs, lengths=lengths, initial_state=initial_state
    )
    state = trace.state.access_state
    linkage = state.linkage._asdict() if hasattr(state.linkage, "_asdict") else {}
    access = trace.access.interface._asdict() | trace.access._asdict()
    del access["interface"]
    kept = ["precedence_weights", "link"] if links else ["precedence_weights"]
    return {
        "outputs": outputs,
        "controller_output": trace.controller_output,
        "read_words": trace.state.access_output,
        **{name: getattr(state, name) for name in ("memory", "usage")},
        **{name: getattr(state, name) for name in ("read_weights", "write_weights")},
        **{name: linkage[name] for name in kept if name in linkage},
        # The values that this DNC does not have are None.
        **{name: x for name, x in access.items() if x is not None},
    }


def _checked_lengths(arrays: Mapping[str, Array], lengths: ArrayLike | None) -> np.ndarray:
    """The lengths of the episodes, after checking that all arrays have the same batch and time."""
    shape = arrays["inputs"].shape
    if len(shape) != 3:
        raise ValueError(f"inputs: must be [batch, time, features], got {shape}")
    for name, array in arrays.items():
        if array.shape[:2] != shape[:2]:
            raise ValueError(f"{name}: must begin with [batch, time] = {shape[:2]}; {array.shape}")
    ends = np.full(shape[0], shape[1]) if lengths is None else np.asarray(lengths)
    if ends.shape != shape[:1] or not ((ends >= 1) & (ends <= shape[1])).all():
        raise ValueError(f"lengths: must be {shape[0]} numbers from 1 to {shape[1]}, got {ends}")
    return ends


def memory_of(cell: Any) -> Any:
    """The access of a DNC."""
    dnc = cell_of(cell)
    if not isinstance(dnc, DNC):
        raise UsageError(
            f"{type(dnc).__name__} does not have the memory of a DNC, so there is nothing to show; "
            "if it contains a DNC, pass that DNC and its inputs"
        )
    if not hasattr(dnc.access, "step_with_trace"):
        raise UsageError(
            f"{type(dnc.access).__name__} has no step_with_trace, so there is nothing to show"
        )
    return dnc.access


def _one(tree: Any, number: int) -> Any:
    """One episode of a batch, as a batch."""
    return jax.tree.map(lambda array: array[number : number + 1], tree)


def _lengths(episode: Episode) -> np.ndarray:
    """The length of each sequence without padding (steps without input that do not count)."""
    used = np.asarray(episode.inputs).any(axis=-1) | (np.asarray(episode.mask) > 0)
    return used.shape[1] - used[:, ::-1].argmax(axis=1)


def _join(opening: Episode, lengths: np.ndarray, dialogue: Episode) -> Episode:
    """Each sequence's opening followed by its dialogue, with the dialogue's extra."""

    def join(first: Array, then: Array) -> Array:
        parts = zip(np.asarray(first), np.asarray(then), lengths, strict=True)
        rows = [np.concatenate([a[:end], b, a[end:] * 0]) for a, b, end in parts]
        return jnp.asarray(np.stack(rows))

    parts = zip(opening[:3], dialogue[:3], strict=True)
    return Episode(*(join(*pair) for pair in parts), extra=dialogue.extra)


def _words(task: Any, traced: EpisodeTrace, episode: Episode) -> Words | None:
    """An episode in the task's words, if it has any."""
    if not isinstance(task, Describable):
        return None
    steps = traced.num_steps
    parts = (rows[:, :steps] for rows in episode[:3])
    return task.words(jnp.asarray(traced.outputs)[None], Episode(*parts, extra=episode.extra))
