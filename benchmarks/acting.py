"""Acting and learning by PPO: environment steps per second, the updates included.

The environment is repeat-previous (easy); an iteration takes a window of 51 steps in each
environment and learns from it in 4 epochs of 4 minibatches. The LSTM is a plain flax cell in the
same trainer; the DNC in eager PyTorch has its own loop (pytorch_ppo.py), which does the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.measure import Report, round_robin
from benchmarks.models import Size, make_cell
from dncx.rl.method import Acting
from dncx.runs.state import initial_state
from dncx.settings.training import OptimizerSettings
from dncx.tasks.acting.repeat_previous import RepeatPrevious
from dncx.training.optimizer import make_optimizer
from dncx.training.update import UpdateConfig


class FlaxLSTM(nnx.RNNCellBase):
    """flax's LSTM with an output layer."""

    def __init__(self, inputs: int, outputs: int, hidden: int):
        self.cell = nnx.LSTMCell(inputs, hidden, rngs=nnx.Rngs(0))
        self.output = nnx.Linear(hidden, outputs, rngs=nnx.Rngs(1))

    @property
    def num_feature_axes(self) -> int:
        return 1

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Any:
        """Zeros."""
        return self.cell.initialize_carry(input_shape, rngs)

    def __call__(self, carry: Any, inputs: jax.Array) -> tuple[Any, jax.Array]:
        """One step."""
        carry, hidden = self.cell(carry, inputs)
        return carry, self.output(hidden)


def run(sizes: dict[str, Size], batches: Sequence[int] = (16, 64), rounds: int = 3) -> Report:
    """Environment steps per second."""
    world, rows = RepeatPrevious(), []
    for name, given in sizes.items():
        size = given._replace(inputs=world.observation_size, outputs=world.num_actions + 1)
        for batch in batches:
            calls = {
                "dncx": _iteration(world, make_cell(size), batch),
                "flax LSTM": _iteration(
                    world, FlaxLSTM(size.inputs, size.outputs, size.hidden), batch
                ),
            }
            calls |= _torch(size, world, batch)
            seconds = round_robin(calls, rounds, turn=0)
            for call, time in seconds.items():
                row = {
                    "size": name,
                    "environments": batch,
                    "implementation": call,
                    "steps/s": batch * world.window_steps / time,
                }
                if "PyTorch eager" in seconds:
                    row["relative to PyTorch"] = seconds["PyTorch eager"] / time
                rows.append(row)
    return Report("acting", "PPO on repeat-previous: environment steps per second", rows)


def _iteration(world: RepeatPrevious, cell: Any, batch: int) -> Callable[[], Any]:
    """An iteration of `dncx train repeat-previous`."""
    graph, state = nnx.split(cell)
    optimizer, method = make_optimizer(OptimizerSettings()), Acting()
    config = UpdateConfig(graph, optimizer, batch_size=batch)
    params, key = nnx.to_pure_dict(state), jax.random.key(0)
    step = method.make_train(config, world)
    state = initial_state(params, optimizer)._replace(
        carried=jax.tree.map(jnp.copy, method.carried(config, params, world, key)),
        sums=jax.tree.map(jnp.copy, method.sums()),
    )
    carry = [state]

    def call() -> Any:
        carry[0] = step(carry[0], key, carry[0].iteration + 1, ())
        return carry[0].iteration

    return call


def _torch(size: Size, world: RepeatPrevious, batch: int) -> dict[str, Callable[[], Any]]:
    try:
        from benchmarks.pytorch_ppo import iteration
    except ImportError:
        return {}
    return {"PyTorch eager": iteration(size, world, batch)}
