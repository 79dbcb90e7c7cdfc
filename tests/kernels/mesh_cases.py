"""A DNC on two devices equals a DNC on one: prints the largest difference of each case.

Run by test_meshes.py in a process of its own, since JAX must be told of two devices before it
starts. A case is an implementation, a way to run the cell, and a way to divide the batch.

Compiling is what takes the time. Of the two implementations in JAX only those cases are computed
in which dncx itself divides the batch or changes types within a gradient; the others are traced,
which finds types that do not fit. `mesh_cases.py all` computes everything.
"""

import itertools
import json
import sys
from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dncx

CONFIG = dncx.DNCConfig(memory_size=3, word_size=2, num_read_heads=1, hidden_size=4)
X = jax.random.normal(jax.random.key(0), (4, 3, 2))
LENGTHS = jnp.array([3, 2, 1, 3])
RESETS = jnp.zeros((4, 3), bool).at[0, 1].set(True)
MANUAL = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
EXPLICIT = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))


def sequence(cell, x, lengths, resets):
    return dncx.unroll(cell, x, lengths=lengths, resets=resets)[0]


def steps(cell, x, lengths, resets):
    state = cell.initialize_carry(x[:, 0].shape)
    state, first = cell(state, x[:, 0])
    return first + cell(state, x[:, 1])[1]


def traced(cell, x, lengths, resets):
    outputs, _, trace = dncx.unroll_with_trace(cell, x, lengths=lengths, resets=resets)
    return outputs.sum(axis=1) + trace.access.interface.read_keys.sum(axis=(1, 2, 3))[:, None]


def one_device(graph, run, params, batch):
    """Outputs, and the gradient of the sum of their squares by weights and inputs."""

    def loss(params, x):
        outputs = run(nnx.merge(graph, params), x, *batch[1:])
        return jnp.sum(outputs**2), outputs

    (_, outputs), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, batch[0])
    return outputs, gradients


def shard_map(graph, run, params, batch, check_vma):
    def local(params, batch):
        outputs, (d_params, d_x) = one_device(graph, run, params, batch)
        # With check_vma JAX adds up the gradient by what is the same on all devices.
        return outputs, (d_params if check_vma else jax.lax.psum(d_params, "b"), d_x)

    here = P("b")
    return jax.shard_map(
        local,
        mesh=MANUAL,
        in_specs=(P(), here),
        out_specs=(here, (P(), here)),
        check_vma=check_vma,
    )(params, batch)


def automatic(graph, run, params, batch):
    batch = jax.lax.with_sharding_constraint(batch, NamedSharding(MANUAL, P("b")))
    return one_device(graph, run, params, batch)


def explicit(graph, run, params, batch):
    batch = jax.tree.map(lambda x: jax.sharding.reshard(x, P("b")), batch)
    found = one_device(graph, run, params, batch)
    assert jax.typeof(found[0]).sharding.spec[0] == "b"
    return found


DIVISIONS = {
    "shard_map": partial(shard_map, check_vma=False),
    "shard_map, check_vma": partial(shard_map, check_vma=True),
    "jit": automatic,
    "explicit": explicit,
}
COMPUTED_IN_JAX = {
    ("xla", "sequence", "shard_map, check_vma"),
    ("xla", "steps", "shard_map, check_vma"),
    ("xla", "sequence", "explicit"),
    ("plain", "steps", "explicit"),
}


def difference(found, expected):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def other_ways():
    """What else may be divided, or run so: name, a call on two devices, and one on one device."""
    cell = dncx.DNC(2, 2, CONFIG, implementation="native", rngs=nnx.Rngs(0))
    run = jax.jit(dncx.unroll)
    state = run(cell, X)[1]
    divided = NamedSharding(EXPLICIT, P("b"))
    by_time = NamedSharding(EXPLICIT, P(None, "b"))
    yield (
        "a state, not the inputs",
        lambda: run(cell, X, initial_state=jax.device_put(state, divided)),
        lambda: run(cell, X, initial_state=state),
    )
    yield (
        "a step's state",
        lambda: jax.jit(cell)(jax.device_put(state, divided), X[:, 0]),
        lambda: jax.jit(cell)(state, X[:, 0]),
    )
    yield (
        "the time axis",
        lambda: run(cell, jax.device_put(X[:, :2], by_time)),
        lambda: run(cell, X[:, :2]),
    )
    yield (
        "outside of jit",
        lambda: dncx.unroll(cell, jax.device_put(X, divided), lengths=LENGTHS),
        lambda: run(cell, X, lengths=LENGTHS),
    )
    lstm = nnx.LSTMCell(2, 2, rngs=nnx.Rngs(0))
    alone = jax.shard_map(
        lambda lengths: dncx.unroll(lstm, X[:2], lengths=lengths),
        mesh=MANUAL,
        in_specs=P("b"),
        out_specs=P("b"),
    )
    yield (
        "another cell, and lengths only",
        lambda: jax.jit(alone)(LENGTHS),
        lambda: run(lstm, jnp.concatenate([X[:2], X[:2]]), lengths=LENGTHS),
    )


def found_in(program, params, batch, expected, compute):
    """The largest difference; None if only traced; or the error."""
    try:
        traced = program.trace(params, batch)
        if not compute:
            return None
        return difference(traced.lower().compile()(params, batch), expected)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


def main(computed):
    batch, expected = (X, LENGTHS, RESETS), {}
    for implementation in ("native", "plain", "xla"):  # the first is compiled fastest
        cell = dncx.DNC(2, 2, CONFIG, implementation=implementation, rngs=nnx.Rngs(0))
        graph, params = nnx.split(cell)
        for run in (sequence, steps, traced):
            if run not in expected:
                one = jax.jit(partial(one_device, graph, run))
                expected[run] = jax.device_get(one(params, batch))
            for division, divided in DIVISIONS.items():
                case = implementation, run.__name__, division
                compute = implementation == "native" or case in computed
                with jax.set_mesh(EXPLICIT) if division == "explicit" else nullcontext():
                    program = jax.jit(partial(divided, graph, run))
                    found = found_in(program, params, batch, expected[run], compute)
                print(json.dumps([*case, found]), flush=True)
    for name, two, one in other_ways():
        try:
            found = difference(two(), one())
        except Exception as error:
            found = f"{type(error).__name__}: {error}"[:500]
        print(json.dumps([name, found]), flush=True)


if __name__ == "__main__":
    everything = itertools.product(("plain", "xla"), ("sequence", "steps", "traced"), DIVISIONS)
    main(set(everything) if sys.argv[1:] == ["all"] else COMPUTED_IN_JAX)
