import jax
import jax.numpy as jnp
import numpy as np

from posterion.predictive.statistics import Running, start, update


def test_running_moments_equal_those_of_all_draws_at_once():
    values = np.random.default_rng(0).normal(5.0, [0.1, 10.0, 0.0], (200, 3))
    spent = np.random.default_rng(1).exponential(size=(200, 3))
    like = {"y": (jax.ShapeDtypeStruct((3,), "float64"),) * 2}
    with jax.enable_x64(True):
        state = start(like)
        for number, (value, within) in enumerate(zip(values, spent, strict=True), start=1):
            state = update(state, jnp.int32(number), {"y": (jnp.asarray(value), jnp.asarray(within))})
        mean, square, within = state["y"]
        np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(square / 200, values.var(axis=0), rtol=1e-10, atol=1e-20)
        np.testing.assert_allclose(within, spent.mean(axis=0), rtol=1e-12)


def test_a_deterministic_leaves_nothing_to_chance():
    state = start({"f": (jax.ShapeDtypeStruct((2,), "float32"), None)})
    assert isinstance(state["f"], Running)
    assert state["f"].within is None
