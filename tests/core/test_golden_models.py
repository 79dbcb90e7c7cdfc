"""Whole models agree with google-deepmind/dnc: outputs, states, interface and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_relative, original_model
from flax import nnx

from dncx import AccessState, DNCState, LSTMState, TemporalLinkageState, unroll, unroll_with_trace
from dncx.interop.deepmind import to_variables

MODELS = ["a_default", "b_multiwrite", "d_tiny"]
# Where usages come within rounding of each other, slots may rightly be permuted.
ROBUST = ["d_tiny"]


def state_of(arrays):
    """The original's state, from its arrays by name."""
    s = {name: jnp.asarray(array) for name, array in arrays.items()}
    return DNCState(
        access_output=s["access_output"],
        access_state=AccessState(
            memory=s["memory"],
            read_weights=s["read_weights"],
            write_weights=s["write_weights"],
            linkage=TemporalLinkageState(s["link"], s["precedence_weights"]),
            usage=s["usage"],
        ),
        controller_state=LSTMState(s["hidden"], s["cell"]),
    )


@pytest.mark.parametrize(
    ("dtype", "implementation"),
    [(np.float64, "plain"), (np.float64, "xla"), (np.float64, None), (np.float32, None)],
)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients(name, dtype, implementation, golden, x64):
    """In every form; None is the fastest: native with one write head."""
    file = golden(name)
    arrays, cell = file.arrays, original_model(file, dtype, implementation)
    graph, params = nnx.split(cell)

    def loss(params, inputs):
        outputs, state = unroll(nnx.merge(graph, params), inputs, time_major=True)
        return jnp.sum(outputs * jnp.asarray(arrays["proj"], dtype)), (outputs, state)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, (outputs, state)), gradients = step(params, jnp.asarray(arrays["inputs"], dtype))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert outputs.dtype == dtype
    assert_relative(outputs, arrays["outputs"], tolerance, "outputs")
    assert_relative(value, arrays["loss"], 10 * tolerance, "loss")
    assert_relative(state.access_output, arrays["final/access_output"], tolerance)
    assert_relative(state.controller_state.hidden, arrays["final/hidden"], tolerance)
    assert_relative(state.controller_state.cell, arrays["final/cell"], tolerance)
    found = {f"grad/var/{k}": v for k, v in to_variables(nnx.merge(graph, gradients[0])).items()}
    found["grad/inputs"] = gradients[1]
    # the rounding of float32 scales with the largest gradients that the backward pass carries
    largest = max(np.abs(arrays[name]).max() for name in found)
    for name, gradient in found.items():
        if dtype == np.float64:
            assert_relative(gradient, arrays[name], 1e-10, name)
        else:
            np.testing.assert_allclose(gradient, arrays[name], rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("name", MODELS)
def test_trace_of_every_step(name, golden, x64):
    """The interface at every step; where slots cannot swap, the state at every step too."""
    file = golden(name)
    cell = original_model(file, np.float64)
    inputs = jnp.asarray(file.arrays["inputs"])
    outputs, state, trace = jax.jit(unroll_with_trace, static_argnames="time_major")(
        cell, inputs, time_major=True
    )
    assert_relative(outputs, file.arrays["outputs"], 1e-12)
    interface = trace.access.interface
    original_names = {
        "read_content_keys": interface.read_keys,
        "write_content_keys": interface.write_keys,
        "write_vectors": interface.write_vectors,
        "erase_vectors": interface.erase_vectors,
        "free_gate": interface.free_gate,
        "allocation_gate": interface.allocation_gate,
        "write_gate": interface.write_gate,
        "read_mode": interface.read_mode,
    }
    for part, found in original_names.items():
        assert_relative(found, file.arrays[f"interface/{part}"], 1e-12, part)
    for part in ("read", "write"):  # the original's are before softplus
        raw = file.arrays[f"interface/{part}_content_strengths"]
        assert_relative(getattr(interface, f"{part}_strengths"), jax.nn.softplus(raw), 1e-12)
    if name in ROBUST:
        access = trace.state.access_state
        found = {
            **access._asdict(),
            **access.linkage._asdict(),
            "access_output": trace.state.access_output,
        }
        steps = file.under("step/")
        assert {"memory", "link", "usage", "read_weights"} <= set(steps)
        for part in steps.keys() & found.keys():
            assert_relative(found[part], steps[part], 1e-12, part)
        for part, traced in (
            ("write_allocation_weights", trace.access.allocation_weights),
            ("write_content_weights", trace.access.write_content_weights),
            ("read_content_weights", trace.access.read_content_weights),
        ):
            assert_relative(traced, file.arrays[f"trace/{part}"], 1e-12, part)
        assert_relative(state.access_state.memory, file.arrays["final/memory"], 1e-12)


@pytest.mark.parametrize("name", ROBUST)
def test_goes_on_from_a_given_state(name, golden, x64):
    """The second half, started from the original's state at the middle, gives its outputs."""
    file = golden(name)
    cell, half = original_model(file, np.float64), 15
    start = state_of({name: array[half - 1] for name, array in file.under("step/").items()})
    outputs, state = jax.jit(unroll, static_argnames="time_major")(
        cell, jnp.asarray(file.arrays["inputs"][half:]), initial_state=start, time_major=True
    )
    assert_relative(outputs, file.arrays["outputs"][half:], 1e-12)
    final = state_of(file.under("final/"))
    jax.tree.map(lambda found, expected: assert_relative(found, expected, 1e-12), state, final)
