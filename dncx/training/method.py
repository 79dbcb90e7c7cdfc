"""The part of training that depends on how a network learns: from targets, or by acting."""

from typing import Any, Protocol

from jax.stages import Wrapped
from jaxtyping import Array

from dncx.errors import UsageError
from dncx.runs.state import TrainState
from dncx.settings.training import TrainSettings
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.base import Objective
from dncx.training import update
from dncx.training.update import UpdateConfig


class Method(Protocol):
    """How a network learns a task."""

    def check(self, settings: TrainSettings[Any], task: Objective) -> None:
        """Refuses settings or a task that the method cannot use, by a `UsageError`."""
        ...

    def updates_per_iteration(self, task: Objective) -> int:
        """Updates of the optimiser in an iteration."""
        ...

    def steps_per_iteration(self, task: Objective, batch_size: int) -> int | None:
        """Steps by which speed is measured; None: by iterations."""
        ...

    def loss_unit(self, task: Objective) -> str:
        """The unit of the loss that training minimises."""
        ...

    def make_train(self, config: UpdateConfig, task: Objective) -> Wrapped:
        """See `update.make_train`; the states have `carried` and `sums`."""
        ...

    def make_diagnosis(self, config: UpdateConfig, task: Objective) -> Wrapped:
        """See `update.make_diagnosis`."""
        ...

    def carried(self, config: UpdateConfig, params: Any, task: Objective, key: Array) -> Any:
        """What the first iteration takes over in addition to the parameters; a tree of arrays."""
        ...

    def sums(self) -> Any:
        """Zeros for `TrainState.sums`."""
        ...

    def figures(self, state: TrainState) -> dict[str, float | None]:
        """The method's own figures for a report, by name; None: not known."""
        ...


class FromTargets:
    """Learning from the targets of drawn batches."""

    def check(self, settings: TrainSettings[Any], task: Objective) -> None:
        """Refuses environments."""
        if is_environment(task):
            raise UsageError(f"{settings.task_name} is an environment: train it with dncx.rl.train")

    def updates_per_iteration(self, task: Objective) -> int:
        """1."""
        return 1

    def steps_per_iteration(self, task: Objective, batch_size: int) -> int | None:
        """None."""
        return None

    def loss_unit(self, task: Objective) -> str:
        """The task's own."""
        return task.loss_unit

    def make_train(self, config: UpdateConfig, task: Objective) -> Wrapped:
        """See `update.make_train`."""
        return update.make_train(config, task)

    def make_diagnosis(self, config: UpdateConfig, task: Objective) -> Wrapped:
        """See `update.make_diagnosis`."""
        return update.make_diagnosis(config, task)

    def carried(self, config: UpdateConfig, params: Any, task: Objective, key: Array) -> Any:
        """Nothing."""
        return ()

    def sums(self) -> Any:
        """Nothing."""
        return ()

    def figures(self, state: TrainState) -> dict[str, float | None]:
        """No figures of its own."""
        return {}
