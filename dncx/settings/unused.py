"""Flags that the chosen network or task does not use. No JAX here.

Such a flag is refused when it is given: a person who sets a memory size expects it to matter.
"""

from collections.abc import Collection, Mapping
from typing import Any

from dncx.errors import UsageError
from dncx.settings.commands import EvalSettings, ExploreSettings, ExportSettings, ProbeSettings
from dncx.settings.training import MEMORY_RNN, NO_MEMORY, TrainSettings
from dncx.tasks.babi.settings import BabiSettings

_MEMORY = ("memory_size", "word_size", "num_read_heads", "num_write_heads")
# Options of a DNC's memory.
_VARIANTS = ("interface_norm", "content_mask", "least_mask", "wipe_freed", "sharpen_links")
# Options of a controller other than its width.
_LAYERS = ("num_layers", "controller_norm", "controller_dtype", "equations")


def refuse_unused(settings: Any, given: Collection[str], kind: str | None = None) -> None:
    """Refuses flags that have no effect.

    Args:
      settings: the settings from the command line.
      given: the names of the flags on the command line.
      kind: the kind of a trained network (`NetworkConfig.kind`), for the commands about a run.

    Raises:
      UsageError: if a given flag has no effect; the message gives the reason.
    """
    for flag, reason in unused_flags(settings, kind).items():
        if flag in given:
            raise UsageError(f"--{flag}: {reason}; leave it out")


def unused_flags(settings: Any, kind: str | None = None) -> Mapping[str, str]:
    """The flags that have no effect with these settings, and why; see `refuse_unused`."""
    if isinstance(settings, TrainSettings):
        return _in_training(settings) | _by_task(settings.task)
    of_task = isinstance(settings, EvalSettings | ExploreSettings | ProbeSettings)
    found = _by_task(settings.task) if of_task else {}
    if (of_task or isinstance(settings, ExportSettings)) and kind in NO_MEMORY:
        found["memory_size"] = f"this model has no memory: its kind is {kind}"
    if isinstance(settings, EvalSettings | ProbeSettings):
        reason = "it affects training only"
        found |= dict.fromkeys(getattr(settings.task, "training_only", ()), reason)
    if isinstance(settings, EvalSettings):
        if getattr(settings.task, "has_test_set", False):
            reason = "this task is always measured on its complete test set"
            found |= dict.fromkeys(("num_episodes", "seed"), reason)
        if not getattr(settings.task, "lists_wrong_answers", False):
            found["show_errors"] = "this task does not list its errors"
    if isinstance(settings, ExploreSettings) and settings.run_dir.suffix == ".npz":
        for name in ("num_episodes", "seed", "memory_size"):
            found[name] = f"{settings.run_dir} already contains the episodes"
    return found


def _in_training(settings: TrainSettings[Any]) -> dict[str, str]:
    model, found = settings.model, {}
    if model.network:
        found["model"] = "the custom network replaces it"
    if model.model in NO_MEMORY:
        reason = f"model={model.model} has no memory"
        found |= dict.fromkeys((*_MEMORY, *_VARIANTS, "controller"), reason)
        found["clip_value"] = f"model={model.model} does not clip"
    if model.model == "gru":
        found |= dict.fromkeys(_LAYERS, "model=gru is a single layer of flax's GRU")
    if model.model == "ntm":
        found |= dict.fromkeys(_VARIANTS, "model=ntm does not have the memory access of a DNC")
    if model.model in MEMORY_RNN:
        heads, reason = _MEMORY[2:], f"model={model.model} is an RNN of one layer with one memory"
        found |= dict.fromkeys((*heads, *_VARIANTS, *_LAYERS, "controller", "clip_value"), reason)
    if model.model != "dnc":
        found["linkage"] = f"model={model.model} has no links"
        found["implementation"] = f"model={model.model} has a single implementation"
    return found


def _by_task(task: Any) -> dict[str, str]:
    """Flags of a task that others of its flags make useless."""
    found = {}
    fixed = getattr(task, "graph", "random") != "random" or getattr(task, "graph_file", None)
    if fixed and getattr(task, "path_length", 0):
        found["last_lesson"] = "the graph and path_length are fixed, so lessons change nothing"
    if isinstance(task, BabiSettings):
        if "valid" in task.language:
            found["validation_seed"] = "these data have files for validation"
        if task.validation_share == 0:
            found["validation_seed"] = "validation_share is 0"
        if not task.auxiliary_loss:
            found["auxiliary_word"] = "auxiliary_loss is 0"
        if len(task.tasks) == 1:
            found["task_sampling"] = "there is one task"
    return found
