"""A batch divided among devices, in every way that JAX has, equals the batch on one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dncx.kernels.meshes import batch_division, vary_alike

CASES = Path(__file__).with_name("mesh_cases.py")


@pytest.mark.second_step
def test_two_devices_equal_one():
    """Values and gradients of sequences, steps and traces, by each implementation."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(CASES)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 3 * 3 * 4 + 5
    assert [case for case in found if isinstance(case[-1], str)] == []
    computed = [case for case in found if case[-1] is not None]
    assert len(computed) == 3 * 4 + 4 + 5
    assert [case for case in computed if not case[-1] < 1e-5] == []


def test_a_type_names_what_divides_the_batch():
    mesh = jax.make_mesh((1, 1), ("b", "m"), axis_types=(AxisType.Explicit, AxisType.Auto))
    x = jax.device_put(jnp.ones((2, 3, 4)), NamedSharding(mesh, P(None, "b")))
    division = batch_division(x, slice(1, 2))
    assert division is not None
    assert division.spec == P("b")
    assert batch_division(x, slice(0, 1)) is None
    assert batch_division(jnp.ones((2, 3)), slice(2)) is None


def test_arrays_vary_along_the_same_axes():
    mesh = jax.make_mesh((1,), ("b",), axis_types=(AxisType.Auto,))

    def check(x):
        for array in vary_alike((jnp.ones(2), jax.random.key(0)), x):
            assert jax.typeof(array).manual_axis_type.varying == {"b"}
        return x

    jax.eval_shape(jax.shard_map(check, mesh=mesh, in_specs=P("b"), out_specs=P("b")), jnp.ones(2))
    tree = {"a": jnp.ones(2), "b": nnx.Rngs(0)}
    assert vary_alike(tree) is tree
