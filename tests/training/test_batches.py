"""How a batch is drawn: from one bucket, or in parts that each have their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_relative
from flax import nnx

from dncx.config import DNCConfig
from dncx.networks.lstm import LSTMNetwork
from dncx.runs.state import initial_state
from dncx.tasks.babi.buckets import Stories
from dncx.tasks.babi.scoring import BabiScoring
from dncx.tasks.babi.task import Bucket
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.batches import data_of, drawn_bucket, keys_for, part_keys, sources
from dncx.training.gradient import GradientOptions, loss_and_gradient
from dncx.training.update import UpdateConfig, drawn_gradient, make_diagnosis, make_train

WORDS = ("-", ".", "?", "yes", "no")


def bucket(width, seed):
    """Five stories of random words, with an answer at the last step."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 5, (5, width)).astype(np.int16)
    answers = np.full((5, width), -1, np.int16)
    tokens[:, -1], answers[:, -1] = 0, rng.integers(3, 5, 5)
    stories = Stories(np.ones(5, np.int32), tokens, answers)
    return Bucket(stories=jax.tree.map(jnp.asarray, stories), vocabulary=WORDS)


class TwoLengths(BabiScoring):
    """Stories of 4 and of 9 steps."""

    tokens = WORDS
    shares = (0.25, 0.75)

    def __init__(self):
        self.buckets = (bucket(4, seed=0), bucket(9, seed=1))


TASK = TwoLengths()


@pytest.fixture(scope="module")
def network():
    return nnx.split(LSTMNetwork(5, 5, DNCConfig(hidden_size=4), rngs=nnx.Rngs(0)))


def config_of(network, accumulation):
    options = GradientOptions(accumulation=accumulation)
    return UpdateConfig(network[0], optax.sgd(0.1), batch_size=8, gradient=options)


def buckets_of(key, parts):
    return [int(drawn_bucket(TASK, one)) for one in part_keys(TASK, key, parts)]


MIXED = jax.random.key(3)  # its four parts are of both buckets


def test_the_gradient_is_the_mean_over_the_parts(network):
    parts = 4
    assert set(buckets_of(MIXED, parts)) == {0, 1}
    graph, params = network[0], nnx.to_pure_dict(network[1])
    config = config_of(network, parts)
    found = jax.jit(lambda params, data: drawn_gradient(params, config, TASK, data, MIXED))(
        params, data_of(TASK)
    )
    by_hand = []
    for key in part_keys(TASK, MIXED, parts):
        source = sources(TASK, data_of(TASK))[int(drawn_bucket(TASK, key))]
        episode = source.sample(key, 8 // parts)
        gradient = jax.jit(partial(loss_and_gradient, graph, task=source))
        by_hand.append(gradient(params, episode=episode, keys=keys_for(episode, key)))
    expected = jax.tree.map(lambda *values: sum(values) / parts, *by_hand)
    jax.tree.map(partial(assert_relative, tolerance=1e-5), found, expected)


def test_parts_draw_their_buckets_independently():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(
        jax.vmap(lambda key: jax.vmap(partial(drawn_bucket, TASK))(part_keys(TASK, key, 2)))(keys)
    )
    pairs = np.bincount(2 * drawn[:, 0] + drawn[:, 1], minlength=4) / 4000
    expected = np.outer(TASK.shares, TASK.shares).ravel()
    np.testing.assert_allclose(pairs, expected, atol=5 * np.sqrt(0.25 / 4000))


def test_a_batch_in_one_part_has_its_own_key():
    """So runs of earlier versions resume with the same batches."""
    for task, parts in ((TASK, 1), (RepeatCopy(), 1), (RepeatCopy(), 4)):
        (key,) = part_keys(task, MIXED, parts)
        assert (jax.random.key_data(key) == jax.random.key_data(MIXED)).all()
    keys = jax.random.key_data(part_keys(TASK, MIXED, 4)).tolist()
    assert len(set(map(tuple, keys))) == 4


def test_calls_do_not_change_what_is_drawn(network):
    """Three iterations at once, and one after the other, bit for bit; the diagnosis is of these."""
    config, data = config_of(network, 2), data_of(TASK)
    train, key = make_train(config, TASK), jax.random.key(5)

    def trained(*stops):
        state = initial_state(nnx.to_pure_dict(network[1]), config.optimizer)
        for stop in stops:
            state = train(state, key, jnp.int32(stop), data)
        return state

    at_once, in_turn, once = trained(3), trained(1, 2, 3), trained(1)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), at_once, in_turn))
    norms = make_diagnosis(config, TASK)(trained(0), key, data)
    assert_relative(norms["loss"], once.loss_sum, 1e-5)
    assert_relative(optax.tree.norm(norms["gradient"]), once.grad_norm_max, 1e-5)
