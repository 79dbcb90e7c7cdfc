"""A linear classifier, measured on examples that it was not fitted to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

NUM_FOLDS = 5
# The weight of |w|²/2 next to the sum of the examples' log losses, as in a Gaussian prior of
# variance 1. Features are standardised, so their scale does not matter. A fixed value leaves
# nothing to choose, so no held-out example has any influence on the fit.
_PENALTY = 1.0
_ITERATIONS = 50  # L-BFGS converges in about 20


def held_out_predictions(
    features: Float32[np.ndarray, "E F"],
    classes: Int[np.ndarray, " E"],
    num_classes: int,
    present: Bool[np.ndarray, " E"] | None = None,
) -> Int32[np.ndarray, " E"]:
    """Predicts the class of each example by a classifier that was fitted to other examples.

    Example i is in fold i mod 5. For each fold, multinomial logistic regression with an L2 penalty
    is fitted to the other folds; their means and deviations standardise the features.

    Args:
      features: of E examples.
      classes: the class of each example, from 0.
      num_classes: the number of classes.
      present: which examples there are; None: all. Predictions of the others mean nothing.

    Returns:
      The most likely class of each example.
    """
    fitted = _fitted_to(len(classes), present)
    return np.asarray(
        _predict(jnp.asarray(features), jnp.asarray(classes, jnp.int32), fitted, num_classes)
    )


def most_frequent(
    classes: Int[np.ndarray, " E"],
    num_classes: int,
    present: Bool[np.ndarray, " E"] | None = None,
) -> Int32[np.ndarray, " E"]:
    """The baseline of `held_out_predictions`: the most frequent class of the other folds."""
    of_class = np.eye(num_classes, dtype=np.float32)[classes]
    counts = _fitted_to(len(classes), present) @ of_class
    return counts.argmax(axis=1).astype(np.int32)[np.arange(len(classes)) % NUM_FOLDS]


def _fitted_to(
    num_examples: int, present: Bool[np.ndarray, " E"] | None
) -> Float32[np.ndarray, "folds E"]:
    """1 for each example that the classifier of a fold is fitted to."""
    others = np.arange(num_examples) % NUM_FOLDS != np.arange(NUM_FOLDS)[:, None]
    return (others if present is None else others & present).astype(np.float32)


@functools.partial(jax.jit, static_argnames="num_classes")
def _predict(
    features: Float[Array, "E F"],
    classes: Int[Array, " E"],
    fitted: Float[Array, "folds E"],
    num_classes: int,
) -> Int[Array, " E"]:
    """The prediction for each example by the classifier of its fold."""

    def of_fold(counts: Float[Array, " E"]) -> Int[Array, " E"]:
        inputs = _standardised(features, counts)
        return _fit(inputs, classes, counts, num_classes).argmax(axis=1).astype(jnp.int32)

    examples = jnp.arange(len(classes))
    return jax.vmap(of_fold)(fitted)[examples % NUM_FOLDS, examples]


def _standardised(features: Float[Array, "E F"], counts: Float[Array, " E"]) -> Float[Array, "E F"]:
    """Features whose mean is 0 and deviation 1 on the examples that count; constant ones are 0."""
    total = jnp.maximum(counts.sum(), 1)
    shifted = features - (counts @ features / total)[None]
    deviation = jnp.sqrt(counts @ shifted**2 / total)[None]
    return jnp.where(deviation > 0, shifted / jnp.where(deviation > 0, deviation, 1), 0)


def _fit(
    features: Float[Array, "E F"],
    classes: Int[Array, " E"],
    counts: Float[Array, " E"],
    num_classes: int,
) -> Float[Array, "E classes"]:
    """The logits of all examples after a fit to those that count."""

    def logits(params: tuple[Array, Array]) -> Array:
        kernel, bias = params
        return features @ kernel + bias[None]

    def loss(params: tuple[Array, Array]) -> Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(params), classes)
        return counts @ losses + _PENALTY * 0.5 * (params[0] ** 2).sum()

    optimizer, value_and_grad = optax.lbfgs(), optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=loss
        )
        return (optax.apply_updates(params, updates), state), None

    start = jnp.zeros((features.shape[1], num_classes)), jnp.zeros(num_classes)
    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=_ITERATIONS)
    return logits(params)
