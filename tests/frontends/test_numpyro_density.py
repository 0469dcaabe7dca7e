"""Densities of NumPyro models: equal to NumPyro's own, site by site, with their gradients, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import constrain_fn, potential_energy

from posterion.frontends.numpyro import from_numpyro
from tests.frontends.numpyro_cases import CASES, PARAMETERS, X, imputed

SUBSAMPLED = ("subsampled", "subsampled_by_number")  # NumPyro draws rows there: compared with all of them


def target_of(name):
    case = CASES[name]
    return from_numpyro(case.model, case.args, case.kwargs)


def points(target, number=3):
    return np.random.default_rng(1).standard_normal((number, target.layout.size))


def evaluate(name):
    """Ours and NumPyro's log density, gradient and constrained values at random points: one program per model."""
    case, target = CASES[name], target_of(name)
    kwargs = {**case.kwargs, "batch": None} if name in SUBSAMPLED else dict(case.kwargs)

    def both(z, data):
        args = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, case.args)
        free = target.layout.unravel
        ours = jax.value_and_grad(target.log_density)(z, data)
        theirs = jax.value_and_grad(lambda z: -potential_energy(case.model, args, kwargs, free(z)))(z)
        constrained = target.constrain(z, data)
        expected = constrain_fn(case.model, args, kwargs, free(z), return_deterministic=True)
        return ours, theirs, target.named_terms(z, data), constrained, expected

    with jax.enable_x64(True):
        program, data = jax.jit(both), target.as_arrays(target.data)
        return target, [jax.device_get(program(z, data)) for z in points(target)]


@pytest.mark.parametrize("name", PARAMETERS)
def test_densities_gradients_and_values_are_numpyros(name):
    target, found = evaluate(name)
    for (value, gradient), (expected, expected_gradient), terms, constrained, expected_constrained in found:
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-8, atol=1e-10)
        if name != "scaled":  # terms are those of the rows at hand
            np.testing.assert_allclose(sum(terms.values()), value, rtol=1e-10)
        assert {v.name for v in target.layout.variables} <= set(terms)
        assert set(constrained) == set(expected_constrained)
        for variable, theirs in expected_constrained.items():
            np.testing.assert_allclose(constrained[variable], theirs, rtol=1e-10)
        for variable in target.layout.variables:
            assert constrained[variable.name].shape == variable.value_shape


@pytest.mark.parametrize("name", ["radon", "correlated"])
def test_single_precision_agrees(name):
    target = target_of(name)
    found = {}
    for x64 in (False, True):
        with jax.enable_x64(x64):
            z = jnp.asarray(points(target), float)
            data = target.as_arrays(target.data)
            value = jax.jit(jax.vmap(target.log_density, (0, None)))(z, data)
            assert value.dtype == (jnp.float64 if x64 else jnp.float32)
            found[x64] = np.asarray(value)
    np.testing.assert_allclose(found[False], found[True], rtol=2e-5)


def test_missing_entries_have_their_own_distribution():
    """With obs_mask the entries that are known get a proper density of their own, and NumPyro's no other change."""
    case = CASES["masked"]
    target = from_numpyro(imputed, case.args)
    with jax.enable_x64(True):
        z = jnp.asarray(points(target, 1)[0])
        data = target.as_arrays(target.data)
        value = jax.jit(target.log_density)(z, data)
        free = target.layout.unravel(z)
        theirs = -potential_energy(imputed, tuple(map(jnp.asarray, case.args)), {}, free)
        known = case.args[1]
        errors = (np.asarray(free["y_unobserved"]) - float(free["slope"]) * X[:, 0])[known]
        value, theirs = float(value), float(theirs)
    extra = np.sum(-0.5 * (errors / 0.5) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(value, theirs + extra, rtol=1e-10)
