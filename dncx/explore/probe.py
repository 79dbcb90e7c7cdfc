"""`dncx probe`: is the first move of a plan in memory when its goal was told?

Source: Nature 2016, Mini-SHRDLU. The paper reports that the first action can be decoded from memory
when the goal is written: in 89 % of 800 episodes, and in 17 % by the frequencies of the actions. It
leaves points open that decide what such a number means. Here they are answered as follows:

* The features are the content of the goal that is asked for later, right after its last constraint
  was told (see `goal_contents`). The go cue comes later, so the agent cannot know yet which goal
  that is. The classifier sees W numbers, not the whole memory.
* The target is the agent's own first move after the go cue, whether or not it is a good one.
* The classifier is multinomial logistic regression. Every episode is predicted by one that was
  fitted to other episodes (see `classifier`).
* The baseline always predicts the move that is most frequent in those other episodes.

Three controls are the same classifier on other features or targets:

* "another goal": the content of a goal of the same episode that is not asked for. It contains what
  the network stores of the board, from which some moves are impossible.
* "observations": the mean observation at the steps at which the goal was told, with its constraints
  and the board. If these predict the move as well, the memory need not contain a plan.
* "shuffled": the moves of other episodes.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dncx.explore.classifier import held_out_predictions, most_frequent
from dncx.explore.goal_contents import GoalContents, goal_contents
from dncx.runs.codec import to_json
from dncx.runs.directory import load_run
from dncx.runs.files import check_new_file, write_whole
from dncx.runs.hub import spelled
from dncx.settings.commands import ProbeSettings
from dncx.settings.training import fields_of
from dncx.tasks.shrdlu.boards import NUM_ACTIONS
from dncx.text import table

_FEWEST = 100  # episodes of a step or of a number of goals; with fewer, an accuracy means little
_SHOWN_STEPS = 4  # before and after the last constraint, in the report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Shares of episodes, 0 to 1, whose first move was predicted.

    Attributes:
      num_goals: the number of goals of these episodes; None: any.
      num_episodes: the number of episodes.
      content: by the content of the goal that is asked for, right after it was told.
      most_frequent: by the frequencies of the moves.
      another_goal, observations, shuffled: by the controls.
    """

    num_goals: int | None
    num_episodes: int
    content: float
    most_frequent: float
    another_goal: float
    observations: float
    shuffled: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtStep:
    """The same at another step of the episodes that have this step before the go cue.

    Attributes:
      step: counted from the last constraint of the goal that is asked for; before 0, the goal was
        not told completely.
      num_episodes: the number of episodes.
      content: by the content of the goal that is asked for, at this step.
      most_frequent: by the frequencies of the moves.
    """

    step: int
    num_episodes: int
    content: float
    most_frequent: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """How well the first move is predicted before the go cue.

    Attributes:
      run: the run as its user names it.
      iteration: how far it is trained.
      seed: the seed of the episodes.
      task: its name and its settings.
      memory_size: slots; None for a custom network that does not state them.
      solved: the share of the episodes in which the goal was reached.
      moves: how often each of the 7 actions was the first move.
      accuracies: of all episodes, then by the number of goals.
      steps: in order, around the last constraint of the goal that is asked for.
    """

    run: str
    iteration: int
    seed: int
    task: Mapping[str, Any]
    memory_size: int | None
    solved: float
    moves: tuple[int, ...]
    accuracies: tuple[Accuracies, ...]
    steps: tuple[AtStep, ...]


def probe(settings: ProbeSettings[Any]) -> Iterator[str]:
    """Measures a run of mini-shrdlu, and yields the results for people.

    Raises:
      UsageError: if there is no such run, it has another task, its network has no memory of a DNC,
        or a file would be overwritten; nothing is written then.
    """
    settings.check()
    if settings.out:
        check_new_file(settings.out, "out")
    result = probe_run(
        settings.run_dir,
        num_episodes=settings.num_episodes,
        seed=settings.seed,
        checkpoint=settings.checkpoint,
        network=settings.network,
        memory_size=settings.memory_size,
        **fields_of(settings.task),
    )
    yield report(result)
    if settings.out:
        write_whole(settings.out, to_json(result))
        yield f"all its numbers: {settings.out}"


def probe_run(run: Path | str, *, num_episodes: int = 800, seed: int = 1, **changes: Any) -> Probe:
    """Measures a run of mini-shrdlu on fresh episodes.

    Args:
      run: a run directory, or `hf://owner/name`.
      num_episodes: number of episodes.
      seed: seed of the episodes.
      **changes: further arguments of `load_run`.

    Raises:
      UsageError: if there is no trained DNC, or it cannot run with these settings.
    """
    loaded = load_run(run, **{name: x for name, x in changes.items() if x is not None})
    contents = goal_contents(loaded.task, loaded.network, num_episodes, seed)
    return Probe(
        run=spelled(run),
        iteration=loaded.progress.iteration,
        seed=seed,
        task={"name": loaded.config.task.name, **loaded.config.task.settings},
        memory_size=loaded.config.network.memory_size,
        solved=float(contents.solved.mean()),
        moves=tuple(np.bincount(contents.first_move, minlength=NUM_ACTIONS).tolist()),
        accuracies=accuracies(contents, seed),
        steps=accuracy_by_step(contents),
    )


def accuracies(contents: GoalContents, seed: int) -> tuple[Accuracies, ...]:
    """The accuracies of all episodes, then by the number of goals if there are several.

    Args:
      contents: of the episodes.
      seed: seed of the order in which moves are shuffled.
    """
    moves, written = contents.first_move, contents.at(contents.written)
    shuffled = np.random.default_rng(seed).permutation(moves)
    right = {
        "content": _predicted(written, moves) == moves,
        "most_frequent": most_frequent(moves, NUM_ACTIONS) == moves,
        "another_goal": _predicted(contents.other, moves) == moves,
        "observations": _predicted(contents.observed, moves) == moves,
        "shuffled": _predicted(written, shuffled) == shuffled,
    }

    def among(episodes: Bool[np.ndarray, " E"], num_goals: int | None) -> Accuracies:
        shares = {name: float(found[episodes].mean()) for name, found in right.items()}
        return Accuracies(num_goals=num_goals, num_episodes=int(episodes.sum()), **shares)

    numbers, counts = np.unique(contents.num_goals, return_counts=True)
    groups = [number for number, count in zip(numbers, counts, strict=True) if count >= _FEWEST]
    everywhere = among(np.ones(len(moves), bool), None)
    if len(numbers) == 1:
        return (everywhere,)
    return everywhere, *(among(contents.num_goals == n, int(n)) for n in groups)


def accuracy_by_step(contents: GoalContents) -> tuple[AtStep, ...]:
    """The accuracy at each step before the go cue that enough episodes have."""
    longest = contents.content.shape[1]
    at = {step: contents.written + step for step in range(1 - longest, longest)}
    present = {step: (x >= 0) & (x < contents.num_told) for step, x in at.items()}
    return tuple(
        _at_step(contents, step, np.where(there, at[step], 0), there)
        for step, there in present.items()
        if there.sum() >= _FEWEST
    )


def _at_step(
    contents: GoalContents,
    step: int,
    at: Int[np.ndarray, " E"],
    present: Bool[np.ndarray, " E"],
) -> AtStep:
    moves = contents.first_move
    content = _predicted(contents.at(at), moves, present) == moves
    frequent = most_frequent(moves, NUM_ACTIONS, present) == moves
    return AtStep(
        step=step,
        num_episodes=int(present.sum()),
        content=float(content[present].mean()),
        most_frequent=float(frequent[present].mean()),
    )


def _predicted(
    features: Float[np.ndarray, "E F"],
    moves: Int[np.ndarray, " E"],
    present: Bool[np.ndarray, " E"] | None = None,
) -> Int[np.ndarray, " E"]:
    return held_out_predictions(features, moves, NUM_ACTIONS, present)


def report(result: Probe) -> str:
    """A measurement for people."""
    names = [field.name for field in dataclasses.fields(Accuracies)][2:]
    header = ["goals", "episodes", *(name.replace("_", " ") for name in names)]
    rows = [
        [
            "any" if found.num_goals is None else str(found.num_goals),
            f"{found.num_episodes:,}",
            *(f"{getattr(found, name):.1%}" for name in names),
        ]
        for found in result.accuracies
    ]
    rows.append(["(paper", "800", "89%", "17%)", *[""] * (len(names) - 2)])
    episodes = sum(result.moves)
    lines = [
        f"{result.run}, iteration {result.iteration:,}: lesson {result.task['last_lesson']}, "
        f"{episodes:,} episodes, {result.solved:.1%} solved",
        "the first move, predicted from what was written when its goal was told:",
        table(header, rows),
    ]
    near = [found for found in result.steps if -_SHOWN_STEPS <= found.step <= _SHOWN_STEPS]
    if near:
        lines.append("the same by steps, counted from the last constraint of the goal:")
        cells = [[f"{found.content:.1%}" for found in near]]
        lines.append(table([f"{found.step:+}" for found in near], cells))
    if max(result.moves) == episodes:
        lines.append("The agent always makes the same first move, so there is nothing to predict.")
    return "\n".join(lines)
