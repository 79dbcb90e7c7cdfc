"""The optimiser of a run: TensorFlow 1's RMSProp, its clipping, schedules and weight decay."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dncx.settings.training import OptimizerSettings


def make_optimizer(
    settings: OptimizerSettings, iterations: int = 1
) -> optax.GradientTransformation:
    """TensorFlow 1's RMSProp (mean square from 1, epsilon under the root) on clipped gradients.

    Weight decay is decoupled from the gradient, as in AdamW: an update also subtracts learning rate
    x weight_decay x weight, outside of RMSProp and its momentum.

    Args:
      settings: the settings of the optimiser.
      iterations: the length of the learning rate schedule.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101 (weight decay).
    """
    rates, decay = learning_rates(settings, iterations), settings.weight_decay
    rmsprop = optax.rmsprop(
        rates,
        decay=settings.rmsprop_decay,
        eps=settings.optimizer_epsilon,
        initial_scale=1.0,
        eps_in_sqrt=True,
        momentum=settings.momentum or None,
    )
    decaying = optax.add_decayed_weights(lambda count: -decay * rates(count), decayed_weights)
    return optax.chain(_clipping(settings), rmsprop, *([decaying] if decay else []))


def _clipping(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Clips by value and then by norm, in one part of the chain.

    The state therefore has the same parts with either limit, and a run may change the limits.
    """
    by_value, by_norm = optax.identity(), optax.clip_by_global_norm(settings.max_grad_norm)
    if settings.max_grad_value:
        by_value = optax.clip(settings.max_grad_value)

    def clipped(gradient: Any, params: Any) -> Any:
        for clip in (by_value, by_norm):
            gradient, _ = clip.update(gradient, optax.EmptyState(), params)
        return gradient

    return optax.stateless(clipped)


def decayed_weights(params: Any) -> Any:
    """Whether weight decay applies to each parameter: to matrices, except for embeddings.

    A bias or the scale of a layer norm multiplies nothing whose size decay could limit. Embeddings
    are left out as in Csordás and Schmidhuber 2019 (arXiv:1904.10278): a row changes only when its
    word occurs, so decay would shrink the rows of rare words.
    """

    def decays(path: Any, array: Any) -> bool:
        return array.ndim > 1 and not any(key.key == "embedding" for key in path)

    return jax.tree_util.tree_map_with_path(decays, params)


def learning_rates(settings: OptimizerSettings, iterations: int) -> optax.Schedule:
    """The learning rate as a function of the number of updates."""
    rate, warmup = settings.learning_rate, settings.warmup_iterations
    rest = max(1, iterations - warmup)
    schedules = {
        "constant": optax.constant_schedule(rate),
        "linear": optax.linear_schedule(rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(rate, rest),
    }
    schedule = schedules[settings.learning_rate_schedule]
    if warmup:
        before = optax.linear_schedule(rate / warmup, rate + rate / warmup, warmup)
        schedule = optax.join_schedules([before, schedule], [warmup])
    # A constant rate is a schedule, too: then the state of the optimiser has the same parts with
    # every schedule, and a run may change it when it resumes. optax counts in int32.
    return lambda count: schedule(jnp.asarray(count, jnp.float32))
