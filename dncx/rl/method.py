"""Learning by acting, as a method of the trainer: what an iteration does, carries and reports."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from dncx.errors import UsageError
from dncx.rl import imitation, policy_gradient, ppo
from dncx.rl.acting import Ended, ended, first_agents, play
from dncx.rl.losses import Losses
from dncx.runs.state import TrainState
from dncx.settings.training import TrainSettings
from dncx.tasks.acting.environment import KnowsOptimalActions, is_environment
from dncx.training.batches import batch_key
from dncx.training.update import UpdateConfig, attempt, of_one_seed, repeated, update


class Sums(NamedTuple):
    """Sums since the last report."""

    ended: Ended
    losses: Losses  # the mean of each iteration
    iterations: Int[Array, ""]


class Acting:
    """An actor-critic; the settings of the environment say how it learns (`ActingSettings`)."""

    def check(self, settings: TrainSettings[Any], task: Any) -> None:
        """Refuses tasks that are no environments, and options for other ways of learning."""
        if not is_environment(task):
            raise UsageError(
                f"{settings.task_name} is not an environment: it needs reset, step and the other "
                "members in dncx/tasks/acting/environment.py"
            )
        scale, run = settings.scale, settings.run
        unused = {
            "skip_spikes": (run.skip_spikes, 0),
            "truncation": (scale.truncation, 0),
            "gradient_accumulation": (scale.gradient_accumulation, 1),
            "num_devices": (scale.num_devices, 1),
            "memory_devices": (scale.memory_devices, 1),
        }
        for name, (value, default) in unused.items():
            if value != default:
                raise UsageError(f"{name}={value}: {settings.task_name} does not support it")
        if task.method == "ppo":
            if run.batch_size % task.minibatches:
                raise UsageError(
                    f"minibatches={task.minibatches}: must divide batch_size, the number of "
                    f"environments, which is {run.batch_size}"
                )
            if task.window > task.max_steps:
                raise UsageError(
                    f"window={task.window}: an episode of {settings.task_name} has at most "
                    f"{task.max_steps} steps"
                )
        if task.method == "imitation" and not isinstance(task, KnowsOptimalActions):
            raise UsageError(
                f"method=imitation: {settings.task_name} does not know its optimal actions"
            )

    def updates_per_iteration(self, task: Any) -> int:
        """One per minibatch and epoch, or one per batch of episodes."""
        return task.epochs * task.minibatches if task.method == "ppo" else 1

    def steps_per_iteration(self, task: Any, batch_size: int) -> int | None:
        """Steps in all environments together."""
        return batch_size * (task.window_steps if task.method == "ppo" else task.max_steps)

    def loss_unit(self, task: Any) -> str:
        """It has none: it is the sum of the policy's, the value's and the entropy's loss."""
        return "in all"

    def make_train(self, config: UpdateConfig, task: Any) -> Wrapped:
        """See `training.update.repeated`."""
        return repeated(lambda config: _iteration(config, task), config, one_by_one=True)

    def make_diagnosis(self, config: UpdateConfig, task: Any) -> Wrapped:
        """See `training.update.make_diagnosis`; of the first update of an iteration."""
        config = of_one_seed(config)

        @jax.jit
        def diagnose(state: TrainState, key: Array, data: Any) -> Any:
            taken = _taken(state, config, task, batch_key(key, state.iteration))
            first = jax.tree.map(lambda x: x[0], taken.parts)
            (loss, _), gradient = _loss_and_gradient(state.params, config, task, first)
            return attempt(state, config, loss, gradient).norms()

        return diagnose

    def carried(self, config: UpdateConfig, params: Any, task: Any, key: Array) -> Any:
        """Agents at the beginning of their episodes, if a window may end before an episode."""
        if task.method != "ppo":
            return ()
        return first_agents(nnx.merge(config.graph, params), task, key, config.batch_size)

    def sums(self) -> Sums:
        """Zeros."""
        number, count = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return Sums(Ended(count, number, count), Losses(number, number, number), count)

    def figures(self, state: TrainState) -> dict[str, float | None]:
        """Means since the last report: of the episodes that ended, and of the iterations."""
        (episodes, returns, lengths), losses, iterations = jax.tree.map(float, state.sums)
        return {
            "return": returns / episodes if episodes else None,
            "episode_length": lengths / episodes if episodes else None,
            "entropy": losses.entropy / iterations if iterations else None,
            "value_loss": losses.value / iterations if iterations else None,
        }


class Taken(NamedTuple):
    """What the agents of an iteration have done."""

    carried: Any
    ended: Ended
    parts: Any  # what the updates learn from, one after the other [updates, B, ...]


def _taken(state: TrainState, config: UpdateConfig, task: Any, key: Array) -> Taken:
    """Acts for an iteration, with the present parameters."""
    network = nnx.merge(config.graph, state.params)
    if task.method == "ppo":
        act_key, order_key = jax.random.split(key)
        agents, window = ppo.collect(network, task, task, state.carried, act_key, task.window_steps)
        return Taken(agents, ended(window.seen), ppo.minibatches(window, task, order_key))
    share = task.optimal_share if task.method == "imitation" else None
    seen = play(network, task, key, config.batch_size, share)
    return Taken((), ended(seen), jax.tree.map(lambda x: x[None], seen))


_LOSSES: dict[str, Callable[[Any, Any, Any], Losses]] = {
    "ppo": ppo.losses,
    "policy_gradient": policy_gradient.losses,
    "imitation": imitation.losses,
}


def _loss_and_gradient(
    params: Any, config: UpdateConfig, task: Any, part: Any
) -> tuple[tuple[Float[Array, ""], Losses], Any]:
    """The loss of a part, its own parts, and its gradient."""

    def loss(params: Any) -> tuple[Float[Array, ""], Losses]:
        losses = _LOSSES[task.method](nnx.merge(config.graph, params), part, task)
        return losses.total(task), losses

    return jax.value_and_grad(loss, has_aux=True)(params)


def _iteration(config: UpdateConfig, task: Any) -> Callable[..., TrainState]:
    """A function (state, key, data) -> state: the agents act, then the network learns from it."""

    def learn(state: TrainState, part: Any) -> tuple[TrainState, Losses]:
        (loss, losses), gradient = _loss_and_gradient(state.params, config, task, part)
        return update(state, config, loss, gradient), losses

    def step(state: TrainState, key: Array, data: Any) -> TrainState:
        taken = _taken(state, config, task, batch_key(key, state.iteration))
        after, losses = jax.lax.scan(learn, state, taken.parts)
        sums = Sums(
            ended=jax.tree.map(jnp.add, state.sums.ended, taken.ended),
            losses=jax.tree.map(lambda x, y: x + y.mean(), state.sums.losses, losses),
            iterations=state.sums.iterations + 1,
        )
        return _counted_once(state, after)._replace(carried=taken.carried, sums=sums)

    return step


def _counted_once(before: TrainState, after: TrainState) -> TrainState:
    """The state after the updates of one iteration, whose counters count it once.

    An iteration counts as skipped if all of its updates were.
    """
    updates = after.iteration - before.iteration
    skipped = after.skipped - before.skipped
    all_skipped = skipped == updates
    made = jnp.maximum(updates - skipped, 1).astype(before.loss_sum.dtype)
    loss = (after.loss_sum - before.loss_sum) / made
    return after._replace(
        iteration=before.iteration + 1,
        loss_sum=before.loss_sum + loss,
        skipped=before.skipped + all_skipped.astype(jnp.int32),
        skipped_in_a_row=jnp.where(all_skipped, before.skipped_in_a_row + 1, 0),
    )
