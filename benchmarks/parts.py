"""Memory and time of a gradient with accumulation over parts of a batch, or truncation."""

from functools import partial
from typing import Any

import jax
from flax import nnx

from benchmarks.measure import Report, median_seconds
from benchmarks.models import SIZES, Size
from dncx import DNC, DNCConfig
from dncx.tasks.copy import Copy
from dncx.training.batches import keys_for
from dncx.training.gradient import GradientOptions, loss_and_gradient

OPTIONS = (
    GradientOptions(),
    GradientOptions(accumulation=4),
    GradientOptions(accumulation=16),
    GradientOptions(truncation=100),
    GradientOptions(accumulation=16, truncation=100),
)


def run(size: Size | None = None, variants: tuple[GradientOptions, ...] = OPTIONS) -> Report:
    """MiB of temporary memory, and milliseconds: the copy task at size M with 1,000 steps."""
    size = size or SIZES["M"]._replace(time=1000)
    task = Copy(min_length=size.time // 2, max_length=size.time // 2)
    config = DNCConfig(
        memory_size=size.slots,
        word_size=size.word,
        num_read_heads=size.reads,
        hidden_size=size.hidden,
    )
    cell = DNC(task.input_size, task.output_size, config, rngs=nnx.Rngs(0))
    graph, params = nnx.split(cell)
    params, key = nnx.to_pure_dict(params), jax.random.key(0)
    episode = task.sample(key, size.batch)
    keys, rows = keys_for(episode, key), []
    for options in variants:
        gradient = jax.jit(partial(loss_and_gradient, graph, options=options), static_argnums=1)
        compiled = gradient.lower(params, task, episode, keys).compile()
        memory: Any = compiled.memory_analysis()
        call = partial(compiled, params, episode, keys)
        rows.append(
            {
                "parts": options.accumulation,
                "truncation": options.truncation or "-",
                "MiB": memory.temp_size_in_bytes / 2**20,
                "ms": 1e3 * median_seconds(call, 3),
            }
        )
    title = f"Accumulation and truncation: {size.time} steps, batch {size.batch}"
    return Report("parts", title, rows)
