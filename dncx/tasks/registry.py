"""The tasks, by their names on the command line."""

import dataclasses
from typing import Any, TypeVar

from dncx.errors import UsageError
from dncx.tasks.acting.autoencode import Autoencode
from dncx.tasks.acting.concentration import Concentration
from dncx.tasks.acting.count_recall import CountRecall
from dncx.tasks.acting.gymnax import Gymnax
from dncx.tasks.acting.repeat_first import RepeatFirst
from dncx.tasks.acting.repeat_previous import RepeatPrevious
from dncx.tasks.acting.t_maze import TMaze
from dncx.tasks.associative_recall import AssociativeRecall
from dncx.tasks.babi.task import Babi
from dncx.tasks.base import Objective
from dncx.tasks.chomsky.task import Chomsky
from dncx.tasks.copy import Copy
from dncx.tasks.graphs.inference import Inference
from dncx.tasks.graphs.shortest_path import ShortestPath
from dncx.tasks.graphs.traversal import Traversal
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.tasks.shrdlu.task import MiniShrdlu

SettingsT = TypeVar("SettingsT")

TASKS: dict[str, Any] = {
    task.name: task
    for task in (
        *(RepeatCopy, Copy, AssociativeRecall, Babi, Traversal, ShortestPath, Inference, Chomsky),
        *(MiniShrdlu, RepeatPrevious, RepeatFirst, Autoencode, CountRecall, Concentration, TMaze),
        Gymnax,
    )
}


def make_task(name: str, settings: Any) -> Objective:
    """The task called `name`, which must be in `TASKS`.

    Args:
      name: the name of the task.
      settings: a dataclass with the fields of the task's class, or those fields by name.

    Raises:
      UsageError: if the task rejects the settings.
    """
    if dataclasses.is_dataclass(settings):
        fields = dataclasses.fields(settings)
        settings = {field.name: getattr(settings, field.name) for field in fields}
    try:
        return TASKS[name](**settings)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def resolved(settings: SettingsT, task: Objective) -> SettingsT:
    """The settings with the values that the task filled in itself, such as words from its data.

    config.json holds these, so that evaluation and resuming use the same values.
    """
    kind: Any = settings
    filled = {field.name: getattr(task, field.name) for field in dataclasses.fields(kind)}
    return dataclasses.replace(kind, **filled)
