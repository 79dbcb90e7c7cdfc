"""Several networks trained in one program, compared with one after the other."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.measure import Report, round_robin
from dncx import DNC
from dncx.runs.state import DATA, TrainState, initial_state, stream
from dncx.settings.training import OptimizerSettings
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.optimizer import make_optimizer
from dncx.training.update import UpdateConfig, make_train


def run(counts: tuple[int, ...] = (1, 2, 4, 8), iterations: int = 200, rounds: int = 5) -> Report:
    """Milliseconds per iteration and seed: repeat copy at its defaults."""
    task, optimizer = RepeatCopy(), make_optimizer(OptimizerSettings())
    last = jnp.asarray(iterations, jnp.int32)

    def fresh(seed: int) -> tuple[nnx.GraphDef, TrainState]:
        graph, params = nnx.split(DNC(task.input_size, task.output_size, rngs=nnx.Rngs(seed)))
        return graph, initial_state(nnx.to_pure_dict(params), optimizer)

    def training(count: int):
        graph, states = fresh(0)[0], [fresh(seed)[1] for seed in range(count)]
        keys = [stream(seed, DATA) for seed in range(count)]
        state = states[0] if count == 1 else jax.tree.map(lambda *x: jnp.stack(x), *states)
        key = keys[0] if count == 1 else jnp.stack(keys)
        train = make_train(UpdateConfig(graph, optimizer, batch_size=16, num_seeds=count), task)
        return lambda: train(jax.tree.map(jnp.copy, state), key, last, ())

    seconds = round_robin({str(count): training(count) for count in counts}, rounds, turn=0)
    one = seconds[str(counts[0])] / counts[0]
    rows = [
        {
            "seeds": count,
            "ms per iteration and seed": 1e3 * seconds[str(count)] / count / iterations,
            "speedup": one / (seconds[str(count)] / count),
        }
        for count in counts
    ]
    return Report("seeds", "Seeds trained together: repeat copy at its defaults", rows)
