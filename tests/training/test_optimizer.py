"""The optimiser: RMSProp against NumPy loops, clipping and weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dncx.cli.main import main
from dncx.settings.training import OptimizerSettings
from dncx.training.optimizer import decayed_weights, learning_rates, make_optimizer

PARAMS = {
    "embedding": {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]])},
    "controller": {"layers": {0: {"kernel": np.array([[2.0, -1.0]]), "bias": np.array([4.0])}}},
    "scale": np.array([1.5, 2.5]),
}
DECAYED = {
    "embedding": {"kernel": False},
    "controller": {"layers": {0: {"kernel": True, "bias": False}}},
    "scale": False,
}
SETTINGS = {
    "everything": dict(max_grad_value=0.3, max_grad_norm=0.5, momentum=0.9, weight_decay=0.1),
    "decay only": dict(weight_decay=0.02, learning_rate_schedule="linear", warmup_iterations=2),
    "by value only": dict(max_grad_value=0.2, max_grad_norm=1e9, rmsprop_decay=0.7),
    "neither": dict(momentum=0.5, rmsprop_decay=0.99),
}


def by_hand(settings, gradients, iterations):
    """The parameters after RMSProp on these gradients, one array and one equation at a time."""
    weights, decayed = jax.tree.leaves(PARAMS), jax.tree.leaves(DECAYED)
    squares = [np.ones_like(w) for w in weights]
    moments = [np.zeros_like(w) for w in weights]
    rates = learning_rates(settings, iterations)
    for number, gradient in enumerate(gradients):
        rate, limit = float(rates(number)), settings.max_grad_value or np.inf
        clipped = [np.clip(g, -limit, limit) for g in jax.tree.leaves(gradient)]
        norm = np.sqrt(sum((g**2).sum() for g in clipped))
        clipped = [g * min(1, settings.max_grad_norm / norm) for g in clipped]
        for i, (g, w) in enumerate(zip(clipped, weights, strict=True)):
            decay = settings.rmsprop_decay
            squares[i] = decay * squares[i] + (1 - decay) * g**2
            step = rate * g / np.sqrt(squares[i] + settings.optimizer_epsilon)
            moments[i] = settings.momentum * moments[i] + step
            lost = rate * settings.weight_decay * w if decayed[i] else 0
            weights[i] = w - moments[i] - lost
    return jax.tree.unflatten(jax.tree.structure(PARAMS), weights)


@pytest.mark.parametrize("name", SETTINGS)
def test_updates_are_those_of_the_equations(name):
    settings, rng = (
        OptimizerSettings(learning_rate=0.05, **SETTINGS[name]),
        np.random.default_rng(0),
    )
    gradients = [jax.tree.map(lambda w: rng.normal(size=w.shape), PARAMS) for _ in range(5)]
    optimizer = make_optimizer(settings, 10)

    @jax.jit
    def step(params, state, gradient):
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state

    def as_float32(tree):
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)

    params = as_float32(PARAMS)
    state = optimizer.init(params)
    for gradient in gradients:
        params, state = step(params, state, as_float32(gradient))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        params,
        by_hand(settings, gradients, 10),
    )


def test_matrices_decay_except_for_embeddings():
    assert decayed_weights(PARAMS) == DECAYED


def test_what_clips_is_no_part_of_the_state():
    """So that a run may change it, and old checkpoints restore."""
    states = [
        make_optimizer(OptimizerSettings(momentum=0.9, max_grad_value=limit)).init(PARAMS)
        for limit in (0.0, 1.0)
    ]
    structures = [jax.tree.structure(state) for state in states]
    before = optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(lambda _: 0.1, momentum=0.9))
    assert structures[0] == structures[1] == jax.tree.structure(before.init(PARAMS))


@pytest.mark.parametrize(
    "flag",
    [
        "--max_grad_value=-1",
        "--max_grad_value=nan",
        "--weight_decay=-0.1",
        "--weight_decay=inf",
        "--rmsprop_decay=1",
        "--rmsprop_decay=-0.5",
        "--momentum=1",
        "--weight_average=1.5",
        "--output_dropout=1",
        "--output_dropout=-0.1",
        "--output_dropout=nan",
    ],
)
def test_numbers_out_of_range(flag, tmp_path, capsys):
    assert main(["train", "copy", flag, f"--run_dir={tmp_path / 'run'}"]) == 2
    assert flag.removeprefix("--") in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


RUN = ["train", "copy", "--model=lstm", "--hidden_size=4", "--batch_size=2", "--max_length=2"]


@pytest.mark.second_step
def test_a_run_resumes_bit_for_bit(tmp_path, capsys):
    """With weight decay, whose state is saved, and dropout.

    The limit may change within a run; the decay may not end.
    """

    def train(name, iterations, *flags):
        given = ["--weight_decay=0.1", "--max_grad_value=0.01", "--rmsprop_decay=0.8"]
        given += [
            "--output_dropout=0.3",
            "--checkpoint_interval=2",
            f"--num_training_iterations={iterations}",
        ]
        return main([*RUN, *given, f"--run_dir={tmp_path / name}", *flags])

    assert train("whole", 4) == train("cut", 2) == train("cut", 4) == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert models[0] == models[1]
    capsys.readouterr()
    assert train("cut", 6, "--weight_decay=0") == 2
    assert "weight_decay: 0.1 in the checkpoint, 0.0 asked for" in capsys.readouterr().err
    assert train("cut", 6, "--max_grad_value=0", "--weight_decay=0.2") == 0
