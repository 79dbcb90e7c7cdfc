"""The files and the report of a run that ends because of non-finite updates."""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dncx.errors import TrainingError
from dncx.runs import checkpoints, processes
from dncx.runs.codec import finite_or_name
from dncx.runs.config import RunConfig
from dncx.runs.directory import flat
from dncx.runs.files import set_aside
from dncx.runs.manifest import NonFinite
from dncx.runs.paths import FAILURE
from dncx.runs.population import Population
from dncx.runs.progress import Progress
from dncx.runs.state import TrainState
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import RunSettings
from dncx.tasks.acting.environment import is_environment
from dncx.tasks.registry import TASKS
from dncx.training.compilation import Programs

_NAMED = 5  # parameters in a message


def keep_failure(
    run: RunSettings,
    population: Population,
    programs: Programs,
    state: TrainState,
    config: RunConfig,
    progress: Progress,
) -> str:
    """Saves the state before the first of the consecutive skipped updates, and describes them.

    The state is saved as a checkpoint in failure/ in the run directory of each network.
    """
    described = []
    for seed, folder, one in zip(
        population.seeds, population.folders, population.split(state), strict=True
    ):
        before = one._replace(
            iteration=one.iteration - one.skipped_in_a_row,
            skipped_in_a_row=jnp.zeros_like(one.skipped_in_a_row),
        )
        seen = seen_of(programs.diagnose(before, seed))
        own = config.of_seed(seed) if len(population.seeds) > 1 else config
        described.append(f"{_what(one, seen)}. {_save(folder, before, own, progress, seen)}")
    others = ""
    if len(described) > 1:
        others = f"; all {len(described)} seeds failed in this way, and this is the first"
    return (
        f"{described[0]}{others}; {checkpoints.last_saved(run.checkpoints)}. Try a smaller "
        "--learning_rate or --max_grad_norm, a larger --optimizer_epsilon, or another --seed."
    )


def seen_of(norms: dict[str, Any]) -> NonFinite:
    """The result of `Attempt.norms` as a record."""

    def by_name(tree: Any) -> dict[str, float | str]:
        return {name: finite_or_name(float(norm)) for name, norm in flat(tree).items()}

    return NonFinite(
        loss=finite_or_name(float(norms["loss"])),
        gradient=by_name(norms["gradient"]),
        updated=by_name(norms["updated"]),
    )


def _what(state: TrainState, seen: NonFinite) -> str:
    number, last = int(state.skipped_in_a_row), state.reached
    which = f"the update in iteration {last} is not finite"
    if number > 1:
        which = (
            f"{number} updates in a row are not finite, in iterations {last - number + 1} to {last}"
        )
    return f"{which}. At the first the loss is {float(seen.loss):.4g}; {_which(seen)}"


def _which(seen: NonFinite) -> str:
    """The parameters with non-finite gradients or, without any, with non-finite new values."""
    for norms, words in (
        (seen.gradient, "gradients"),
        (seen.updated, "parameters after the update"),
    ):
        bad = {name: norm for name, norm in norms.items() if not math.isfinite(float(norm))}
        if bad:
            named = [f"{name} ({norm})" for name, norm in [*bad.items()][:_NAMED]]
            if len(bad) > _NAMED:
                named.append(f"{len(bad) - _NAMED} more")
            return f"non-finite norms of {words}: {', '.join(named)}"
    return "each gradient and parameter is finite, but the norm of all of them is not"


def _save(
    run_dir: Path, state: TrainState, config: RunConfig, progress: Progress, seen: NonFinite
) -> str:
    """Saves a state; returns a sentence with the path, or the reason why it was not saved."""
    folder = run_dir.resolve() / FAILURE
    try:
        processes.on_primary(lambda: set_aside(run_dir, [FAILURE]))
        path = checkpoints.save(folder, state, config, progress, checkpoints.ALL, failure=seen)
    except Exception as error:  # the disk, or a lost process; the description is still valid
        if not (isinstance(error, TrainingError | OSError) or processes.of_a_loss(error)):
            raise
        reason = str(error).partition("\n")[0].partition(";")[0]
        return f"The state before it could not be saved ({reason})"
    if is_environment(TASKS[config.task.name]):
        return f"The state before it is in {path}"
    command = "dncx" if config.task.name in DEFAULTS else "python your_task.py"
    return (
        f"The state before it is in {path}; to find the operation that failed first, run "
        f"`{command} debug {run_dir}`"
    )
