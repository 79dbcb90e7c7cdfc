"""The progress of a run. No JAX here."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """The best validation so far.

    Attributes:
      error: the lowest validation error, in per cent; None before the first validation.
      iteration: when it was measured.
      worse: number of validations since then, none of them better.
    """

    error: float | None = None
    iteration: int = 0
    worse: int = 0

    def after(self, error: float, iteration: int) -> "Validation":
        """The record after another validation."""
        if self.error is None or error < self.error:
            return Validation(error=error, iteration=iteration)
        return dataclasses.replace(self, worse=self.worse + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumption:
    """A point where training continued with other settings.

    Attributes:
      iteration: iteration of the checkpoint from which it continued.
      changed: one line of text per setting.
    """

    iteration: int
    changed: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a run, kept in its checkpoints and in the header of its trained model.

    Attributes:
      iteration: number of batches so far.
      lesson: the current lesson, from 1; 0 if the task has none.
      validation: the best validation; None without validation.
      resumed: the points where training continued with other settings.
    """

    iteration: int = 0
    lesson: int = 0
    validation: Validation | None = None
    resumed: tuple[Resumption, ...] = ()

    def out_of_patience(self, patience: int) -> bool:
        """Whether the last `patience` validations (0: any number) brought no improvement."""
        return self.validation is not None and 0 < patience <= self.validation.worse
