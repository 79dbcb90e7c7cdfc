"""The settings of Mini-SHRDLU, in their own module so that `--help` need not load JAX."""

import dataclasses
from typing import ClassVar, Literal

from dncx.tasks.acting.settings import ActingSettings

Reward = Literal["change", "every_move", "end"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniShrdluSettings(ActingSettings):
    """Hear several goals, then move blocks until the one that is asked for is reached."""

    name: ClassVar[str] = "mini-shrdlu"
    training_only: ClassVar[tuple[str, ...]] = tuple(
        field.name for field in dataclasses.fields(ActingSettings)
    )

    last_lesson: int = 26
    """Last of the paper's 26 lessons to train, and to evaluate."""
    num_goals: int = 0
    """Goals of an episode, up to 26; 0: as in the lesson."""
    num_blocks: int = 0
    """Blocks on the board, 2 to 6; 0: as in the lesson."""
    num_constraints: int = 0
    """Constraints drawn for a goal, 1 to 6; 0: as in the lesson."""
    num_moves: int = 0
    """Fewest moves to a goal, 1 to 7; 0: as in the lesson."""
    spare_moves: int = 6
    """Moves that are allowed beyond the fewest; 6 in the paper."""
    reward: Reward = "change"
    """When a satisfied constraint counts: if that changes, or at the given times."""
    invalid_cost: float = 0.05
    """Cost of a move that is not possible."""
    undo_cost: float = 1.0
    """Cost of leaving a goal that was reached."""
    shuffle_constraints: bool = False
    """Tell the constraints of all goals in random order, not goal by goal."""
    board_while_told: bool = True
    """Show the board while the goals are told."""
    repeat_cue: bool = False
    """Show the go cue and its letter at every move, not only at the first."""
