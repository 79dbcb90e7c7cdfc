"""What is kept and said of a run that ends because its updates are not finite."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dncx.errors import TrainingError
from dncx.runs import checkpoints, processes
from dncx.runs.config import FAILURE
from dncx.runs.directory import flat
from dncx.runs.files import set_aside
from dncx.runs.population import Population
from dncx.runs.state import TrainState
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import RunSettings
from dncx.training.compilation import Programs

_NORMS = {"gradient": "gradients", "updated": "parameters after the update"}
_NAMED = 5  # parameters in a message


def keep_failure(
    run: RunSettings,
    population: Population,
    programs: Programs,
    state: TrainState,
    description: dict[str, Any],
) -> str:
    """Saves the state before the first of the updates skipped in a row, and says what they were.

    It is saved as a checkpoint is, in failure/ in the run directory of each network; its
    configuration has what was seen under "failure".
    """
    said = []
    for seed, folder, one in zip(
        population.seeds, population.folders, population.split(state), strict=True
    ):
        before = one._replace(
            iteration=one.iteration - one.skipped_in_a_row,
            skipped_in_a_row=jnp.zeros_like(one.skipped_in_a_row),
        )
        seen = by_name(programs.diagnose(before, seed))
        config = population.one_of(description, seed) | {FAILURE: seen}
        said.append(f"{_what(one, seen)}. {_saved(folder, before, config)}")
    others = f"; so it is with all {len(said)} seeds, of which this is the first" * (len(said) > 1)
    return (
        f"{said[0]}{others}; {checkpoints.last_saved(run.checkpoints)}. Try a smaller "
        "--learning_rate or --max_grad_norm, a larger --optimizer_epsilon, or another --seed."
    )


def _what(state: TrainState, seen: dict[str, Any]) -> str:
    number, last = int(state.skipped_in_a_row), state.reached
    which = f"{number} updates in a row are" if number > 1 else "the update is"
    when = f"in iterations {last - number + 1} to {last}" if number > 1 else f"in iteration {last}"
    return (
        f"{which} not finite, {when}. At the first the loss is {seen['loss']:.4g}; {_which(seen)}"
    )


def _saved(run_dir: Path, state: TrainState, config: dict[str, Any]) -> str:
    """Saves a state, and says where, or why not."""
    try:
        processes.in_first(lambda: set_aside(run_dir, [FAILURE]))
        path = checkpoints.save(run_dir.resolve() / FAILURE, state, config, checkpoints.ALL)
    except Exception as error:  # the disk, or another process is gone; what was seen is said
        if not (isinstance(error, TrainingError | OSError) or processes.of_a_loss(error)):
            raise
        reason = str(error).partition("\n")[0].partition(";")[0]
        return f"The state before it could not be saved ({reason})"
    command = "dncx" if config["task"]["name"] in DEFAULTS else "python your_task.py"
    return (
        f"The state before it is {path}, and `{command} debug {run_dir}` looks for the operation "
        "that went wrong"
    )


def by_name(norms: dict[str, Any]) -> dict[str, Any]:
    """What `Attempt.norms` gives, as plain JSON."""
    parts = {what: flat(norms[what]) for what in _NORMS}
    return jax.tree.map(float, {"loss": norms["loss"], **parts})


def _which(seen: dict[str, Any]) -> str:
    """The parameters with a gradient that is not finite; where there is none, those updated so."""
    for what, words in _NORMS.items():
        norms = {name: norm for name, norm in seen[what].items() if not math.isfinite(norm)}
        if norms:
            named = [f"{name} ({norm})" for name, norm in [*norms.items()][:_NAMED]]
            named += [f"{len(norms) - _NAMED} more"] if len(norms) > _NAMED else []
            return f"norms of {words} that are not finite: {', '.join(named)}"
    return "all its gradients and parameters are finite one by one, but not their norm together"
