"""Iterations of `dncx train repeat-copy` at its defaults, compared with the gradient alone."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.measure import Report, round_robin
from dncx import DNC
from dncx.runs.state import DATA, initial_state, stream
from dncx.settings.training import OptimizerSettings
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.batches import keys_for
from dncx.training.gradient import loss_and_gradient
from dncx.training.optimizer import make_optimizer
from dncx.training.update import UpdateConfig, make_train


def run(iterations: int = 500, rounds: int = 5) -> Report:
    """Milliseconds per iteration (batch, gradient, update) and per gradient of a fixed batch."""
    task = RepeatCopy()
    graph, state = nnx.split(DNC(task.input_size, task.output_size, rngs=nnx.Rngs(0)))
    optimizer = make_optimizer(OptimizerSettings())
    step = make_train(UpdateConfig(graph, optimizer, batch_size=16), task)
    key, last = stream(0, DATA), jnp.asarray(iterations, jnp.int32)
    episode = task.sample(key, 16)

    @jax.jit
    def gradients(params):  # each depends on the one before, so XLA must compute all of them
        def once(_, params):
            _, gradient = loss_and_gradient(graph, params, task, episode, keys_for(episode, key))
            return jax.tree.map(lambda p, g: p - 1e-9 * g, params, gradient)

        return jax.lax.fori_loop(0, iterations, once, params)

    def whole():
        return step(initial_state(nnx.to_pure_dict(state), optimizer), key, last, ())

    params = nnx.to_pure_dict(state)
    calls = {"gradient alone": lambda: gradients(params), "iteration": whole}
    seconds = round_robin(calls, rounds, turn=0)
    rows = [
        {
            "case": name,
            "ms": 1e3 * time / iterations,
            "relative to the gradient": time / seconds["gradient alone"],
            "iterations/s": iterations / time,
        }
        for name, time in seconds.items()
    ]
    return Report("training", "dncx train repeat-copy at its defaults, per iteration", rows)
