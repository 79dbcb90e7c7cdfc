"""Time to draw a batch, compared with an iteration, for every task that draws its episodes."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.measure import Report, round_robin
from dncx.networks.build import make_network
from dncx.networks.config import network_config
from dncx.runs.state import DATA, initial_state, stream
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import ModelSettings
from dncx.tasks.acting.settings import ActingSettings
from dncx.tasks.curriculum import Course, lesson_of
from dncx.tasks.registry import make_task
from dncx.training.optimizer import make_optimizer
from dncx.training.update import UpdateConfig, make_train

TASKS = tuple(  # without bAbI, whose stories come from files, and without environments
    name
    for name, settings in DEFAULTS.items()
    if name != "babi" and not isinstance(settings.task, ActingSettings)
)


def run(
    iterations: int = 10, model: ModelSettings | None = None, tasks: Iterable[str] = TASKS
) -> Report:
    """Milliseconds per batch and iteration, at each task's defaults; lessons: first and last."""
    rows = []
    for name in tasks:
        settings = DEFAULTS[name]
        task: Any = make_task(name, settings.task)
        lessons = (1, task.num_lessons) if isinstance(task, Course) else (0,)
        for lesson in lessons:
            now = lesson_of(task, lesson, mixed=True)
            rows.append(
                {"task": name, "lesson": lesson or "-"}
                | _row(now, settings, model or settings.model, iterations)
            )
    return Report("sampling", "Drawing a batch, compared with an iteration", rows)


def _row(task: Any, settings: Any, model: ModelSettings, iterations: int) -> dict[str, Any]:
    batch, key = settings.run.batch_size, stream(0, DATA)
    graph, state = nnx.split(
        make_network(network_config(model, task.input_size, task.output_size), nnx.Rngs(0))
    )
    optimizer = make_optimizer(settings.optimizer)
    step = make_train(UpdateConfig(graph, optimizer, batch), task)
    last = jnp.asarray(iterations, jnp.int32)
    params = nnx.to_pure_dict(state)

    @jax.jit
    def draw(key: jax.Array) -> Any:
        def once(total: jax.Array, number: jax.Array) -> Any:
            episode = task.sample(jax.random.fold_in(key, number), batch)
            return total + sum(x.sum() for x in (episode.inputs, episode.targets)), None

        return jax.lax.scan(once, jnp.zeros(()), jnp.arange(iterations))

    def train() -> Any:
        return step(initial_state(params, optimizer), key, last, ())

    seconds = round_robin({"draw": lambda: draw(key), "train": train}, 3, turn=0)
    return {
        "batch": batch,
        "ms per batch": 1e3 * seconds["draw"] / iterations,
        "ms per iteration": 1e3 * seconds["train"] / iterations,
        "share": seconds["draw"] / seconds["train"],
    }
