"""Generalised advantage estimation against its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from dncx.rl.advantages import generalised_advantages


def by_hand(rewards, values, ends, last_value, discount, gae_lambda):
    """The sum over all later errors, written as the paper defines it."""
    following = [*values[1:], last_value]
    errors = [
        r + (0 if end else discount * after) - v
        for r, v, end, after in zip(rewards, values, ends, following, strict=True)
    ]
    advantages = []
    for t in range(len(rewards)):
        total, weight = 0.0, 1.0
        for later in range(t, len(rewards)):
            total += weight * errors[later]
            weight *= discount * gae_lambda
            if ends[later]:
                break
        advantages.append(total)
    return advantages


@pytest.mark.parametrize("gae_lambda", [0.0, 0.75, 1.0])
def test_equals_its_definition(gae_lambda):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 9))
    ends, last = rng.random((3, 9)) < 0.3, rng.normal(size=3)
    assert ends.any()
    assert not ends[:, -1].all()
    found = generalised_advantages(
        *map(jnp.asarray, (rewards, values, ends, last)), discount=0.9, gae_lambda=gae_lambda
    )
    for row in range(3):
        wanted = by_hand(rewards[row], values[row], ends[row], last[row], 0.9, gae_lambda)
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-6)


def test_lambda_1_is_the_return_minus_the_value():
    rewards = jnp.asarray([[1.0, 2.0, 4.0]])
    found = generalised_advantages(
        rewards,
        jnp.asarray([[3.0, 3.0, 3.0]]),
        jnp.asarray([[False, False, True]]),
        jnp.asarray([100.0]),
        discount=0.5,
        gae_lambda=1.0,
    )
    np.testing.assert_allclose(found, [[3.0 - 3, 4.0 - 3, 4.0 - 3]])
