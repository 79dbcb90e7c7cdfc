"""The task, its loss and the optimiser agree with google-deepmind/dnc's training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_relative
from flax import nnx

from dncx import unroll
from dncx.interop.deepmind import from_variables, to_variables
from dncx.runs.state import initial_state
from dncx.settings.training import OptimizerSettings
from dncx.tasks.base import Episode
from dncx.tasks.bits import masked_cross_entropy
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training.optimizer import make_optimizer
from dncx.training.update import UpdateConfig, batch_gradient, update


def to_float32(value):
    """The original rounds its optimiser's constants to float32 even when it runs in float64."""
    return float(np.float32(value))


@pytest.mark.parametrize("run", ["train", "train_clipped"])
def test_training_steps(run, golden, x64):
    """Loss, gradient norm and variables through RMSProp steps of the whole training step."""
    file = golden("train_steps")
    parameters = file.info["arrays"][f"{run} (parameters)"]
    cell = from_variables(
        file.under("var0/"),
        memory_size=16, word_size=16, num_read_heads=4, num_write_heads=1, clip_value=20,
    )  # fmt: skip
    graph, params = nnx.split(cell)
    task = RepeatCopy()
    optimizer = make_optimizer(
        OptimizerSettings(
            max_grad_norm=parameters["max_grad_norm"],
            learning_rate=to_float32(parameters["learning_rate"]),
            optimizer_epsilon=to_float32(parameters["epsilon"]),
            momentum=parameters["momentum"],
            rmsprop_decay=to_float32(parameters["decay"]),
        )
    )
    state = initial_state(nnx.to_pure_dict(params), optimizer)
    recipe = UpdateConfig(graph, optimizer, batch_size=16)

    @jax.jit
    def step(state, episode):
        found = batch_gradient(state.params, recipe, task, episode, jax.random.key(0))
        return update(state, recipe, *found)

    losses, norms = file.arrays[f"{run}/losses"], file.arrays[f"{run}/global_norms"]
    for number, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        batch = file.under(f"batch/{number}/")
        episode = Episode(
            *(
                jnp.asarray(np.moveaxis(batch[name], 0, 1), jnp.float64)
                for name in ("observations", "target", "mask")
            )
        )
        if run == "train" and number == 0:
            outputs, _ = unroll(cell, episode.inputs)
            expected = np.moveaxis(file.arrays["train/outputs_step0"], 0, 1)
            assert_relative(outputs, expected, 1e-12)
        state = step(
            state._replace(loss_sum=state.loss_sum * 0, grad_norm_max=jnp.zeros(())), episode
        )
        assert_relative(state.loss_sum, loss, 1e-12, f"loss {number}")
        assert_relative(state.grad_norm_max, norm, 1e-10, f"norm {number}")
    assert int(state.iteration) == len(losses)
    for name, value in to_variables(nnx.merge(graph, state.params)).items():
        assert_relative(value, file.arrays[f"{run}/var_end/{name}"], 1e-12, name)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("default", {"num_bits": 4, "max_length": 2, "max_repeats": 2}),
        ("longer", {"num_bits": 6, "max_length": 6, "max_repeats": 4, "norm_max": 7}),
    ],
)
def test_episodes_have_the_originals_layout(kind, settings, golden):
    """The original's batches, made again from their patterns, lengths and repeats."""
    file, task = golden("repeat_copy"), RepeatCopy(**settings)
    batches = {name.split("/")[1] for name in file.arrays if name.startswith(kind)}
    assert batches
    for batch in batches:
        expected = file.under(f"{kind}/{batch}/")
        time = expected["observations"].shape[0]
        for row, (length, repeats) in enumerate(expected["length_repeats"]):
            pattern = np.full((task.max_length, task.num_bits), 7, np.float32)  # 7: not used
            pattern[:length] = expected["observations"][1 : length + 1, row, : task.num_bits]
            episode = task.episode(jnp.asarray(pattern), jnp.asarray(length), jnp.asarray(repeats))
            for name, found in zip(("observations", "target", "mask"), episode[:3], strict=True):
                np.testing.assert_allclose(found[:time], expected[name][:, row], 1e-6, err_msg=name)
                assert not np.any(found[time:])


@pytest.mark.parametrize("time_average", [False, True])
@pytest.mark.parametrize("in_bits", [False, True])
def test_loss(time_average, in_bits, golden, x64):
    arrays = golden("repeat_copy").under("cost/")
    expected = golden("repeat_copy").under(
        f"cost/time_average={int(time_average)},bits={int(in_bits)}/"
    )
    # the original computes bits in float32 only
    dtype, tolerance = (jnp.float32, 1e-6) if in_bits else (jnp.float64, 1e-12)
    logits, target, mask = (
        jnp.asarray(np.moveaxis(arrays[name], 0, 1), dtype) for name in ("logits", "target", "mask")
    )
    loss, gradient = jax.value_and_grad(masked_cross_entropy)(
        logits, target, mask, time_average=time_average, in_bits=in_bits
    )
    assert_relative(loss, expected["loss"], tolerance)
    assert_relative(np.moveaxis(gradient, 1, 0), expected["grad_logits"], 10 * tolerance)
