"""The tasks by their names at the command line."""

from collections.abc import Mapping
from typing import Any

from dncx.errors import UsageError
from dncx.tasks.associative_recall import AssociativeRecall
from dncx.tasks.babi.task import Babi
from dncx.tasks.base import Judge
from dncx.tasks.copy import Copy
from dncx.tasks.graphs.inference import Inference
from dncx.tasks.graphs.shortest_path import ShortestPath
from dncx.tasks.graphs.traversal import Traversal
from dncx.tasks.repeat_copy import RepeatCopy

TASKS: dict[str, Any] = {
    task.name: task
    for task in (RepeatCopy, Copy, AssociativeRecall, Babi, Traversal, ShortestPath, Inference)
}


def make_task(name: str, settings: Mapping[str, Any]) -> Judge:
    """The task called `name`, which must be in `TASKS`.

    Raises:
      UsageError: the task rejects the settings; the message says why.
    """
    try:
        return TASKS[name](**settings)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
