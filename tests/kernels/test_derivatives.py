"""Second derivatives of the implementations that have them, and errors for those that do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dncx import DNC, DNCConfig, unroll
from dncx.controllers import clip_gradient
from dncx.kernels import chunks

SIZES = {"memory_size": 3, "word_size": 2, "num_read_heads": 1, "hidden_size": 4}


def make_loss(config, implementation, dtype=jnp.float32):
    cell = DNC(2, 2, config, implementation=implementation, rngs=nnx.Rngs(0), param_dtype=dtype)
    return lambda x: jnp.sum(unroll(cell, x)[0] ** 2)


@pytest.mark.second_step
def test_second_derivatives(x64, monkeypatch):
    """Products with the Hessian, by forward and by reverse mode, through chunks of a sequence.

    With two write heads and the limit of the controller's gradient, which does not bite here: where
    it does, the two modes differ, since the gradient is then not that of a function.
    """
    monkeypatch.setattr(chunks, "_WORTH_CHUNKS", 4)  # 4 steps are 2 chunks
    config = DNCConfig.nature(**SIZES, num_write_heads=2)
    x, v = jax.random.normal(jax.random.key(0), (2, 4, 2), jnp.float64)
    xla, plain = (jax.grad(make_loss(config, form, jnp.float64)) for form in ("xla", "plain"))
    expected = jax.jit(lambda x, v: jax.jvp(plain, (x,), (v,))[1])
    forward = jax.jit(lambda x, v: jax.jvp(xla, (x,), (v,))[1])
    reverse = jax.jit(jax.grad(lambda x, v: jnp.vdot(xla(x), v)))
    for along in (v, jnp.ones_like(v)):  # the second one is `grad` of the sum of `grad`
        wanted = expected(x, along)
        assert np.any(wanted)
        for found in (forward(x, along), reverse(x, along)):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


X = jnp.ones((3, 2))
FORWARDS = {
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "jvp in jit": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
    "jvp of jit": lambda f: jax.jvp(jax.jit(f), (X,), (X,)),
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "jacfwd of jit": lambda f: jax.jacfwd(jax.jit(f))(X),
    "linearize": lambda f: jax.linearize(f, X)[1](X),
}


def refused(implementation, preset):
    return pytest.param(implementation, preset, id=f"{implementation}, {preset.__name__}")


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize(
    ("implementation", "preset"),
    [
        refused("xla", DNCConfig.deepmind),
        refused("native", DNCConfig.deepmind),
        refused("plain", DNCConfig.nature),
    ],
)
def test_forward_mode_names_what_has_it(forward, implementation, preset):
    loss = make_loss(preset(**SIZES), implementation)
    with pytest.raises(NotImplementedError) as caught:
        FORWARDS[forward](loss)
    assert "implementation='plain'" in str(caught.value)
    assert "controller_gradient_clip=None" in str(caught.value)


@pytest.mark.second_step
def test_forward_mode_of_the_plain_equations():
    """Also of the paper's, without the limit of the controller's gradient."""
    config = DNCConfig.nature(**SIZES, controller_gradient_clip=None)
    loss = make_loss(config, "plain")
    _, along = jax.jit(lambda x: jax.jvp(loss, (x,), (x,)))(X)
    np.testing.assert_allclose(along, jnp.vdot(jax.jit(jax.grad(loss))(X), X), rtol=1e-4)


@pytest.mark.parametrize(
    "derivative",
    [
        lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x)))(X),
        lambda f: jax.jvp(jax.grad(f), (X,), (X,)),
        lambda f: jax.hessian(f)(X),
        lambda f: jax.jit(jax.hessian(f))(X),
    ],
)
def test_the_native_kernel_names_what_has_second_derivatives(derivative):
    with pytest.raises(NotImplementedError, match="implementation='xla' or 'plain'"):
        derivative(make_loss(DNCConfig(**SIZES), "native"))


def test_a_clipped_gradient():
    """Number by number, under vmap and in a second derivative as well."""
    x = jnp.array([-3.0, 0.5, 2.0])

    def loss(x):
        return jnp.sum(clip_gradient(x, 2) ** 2)

    np.testing.assert_array_equal(jax.grad(loss)(x), jnp.array([-2.0, 1, 2]))
    np.testing.assert_array_equal(jax.vmap(jax.grad(loss))(x), jnp.array([-2.0, 1, 2]))
    second = jax.grad(lambda x: jnp.sum(jax.grad(loss)(x)))(x)
    np.testing.assert_array_equal(second, jnp.array([0.0, 2, 0]))
    assert clip_gradient(x, None) is x
