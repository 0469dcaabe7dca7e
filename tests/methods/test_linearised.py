"""Linearised Laplace: exact where the network is linear, the evidence, the last layer, predictions, files."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import posterion as po
from posterion.errors import OptionError, PosteriorFileError, UnsupportedModelError
from posterion.methods.linearised import last_layer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = X @ [1.0, -0.5, 0.2] + 0.4 * RNG.normal(size=50)
LINEAR = ({"w": np.zeros((3, 1)), "b": np.zeros(1)}, lambda p, x: x @ p["w"] + p["b"])
HIDDEN = (
    {"w": RNG.normal(size=(3, 8)), "b": np.zeros(8), "u": RNG.normal(size=(8, 1)), "c": np.zeros(1)},
    lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["u"] + p["c"],
)
DESIGN = np.c_[np.ones(50), X]


def linear(likelihood=lambda f: dist.Normal(f, 0.4), **options):
    return po.network(LINEAR, data={"x": X, "y": Y}, prior=dist.Normal(0, 1.5), likelihood=likelihood, **options)


@pytest.fixture(scope="module")
def exact():
    return po.fit(linear(), po.LinearisedLaplace(), random_seed=0, progress=False)


def test_a_linear_network_of_known_noise_has_its_exact_posterior_and_evidence(exact):
    precision = DESIGN.T @ DESIGN / 0.4**2 + np.eye(4) / 1.5**2
    covariance = np.linalg.inv(precision)
    with jax.enable_x64(True):
        params = jnp.asarray(exact.params)
        mean, found = exact.family.mean(params), exact.family.covariance(params)
        np.testing.assert_allclose(mean, covariance @ DESIGN.T @ Y / 0.4**2, rtol=1e-8)
        np.testing.assert_allclose(found, covariance, rtol=1e-6)
    evidence = stats.multivariate_normal.logpdf(Y, np.zeros(50), 1.5**2 * DESIGN @ DESIGN.T + 0.4**2 * np.eye(50))
    np.testing.assert_allclose(exact.record.extras["log_marginal_likelihood"], evidence, rtol=1e-9)
    np.testing.assert_allclose(exact.elbo, evidence, rtol=1e-6)  # the tangent of a linear network is the network
    assert exact.diagnose().trustworthy


def test_its_predictions_are_those_of_the_closed_form(exact):
    covariance = np.linalg.inv(DESIGN.T @ DESIGN / 0.4**2 + np.eye(4) / 1.5**2)
    new = np.random.default_rng(1).normal(size=(20, 3)) * 3
    design = np.c_[np.ones(20), new]
    predicted = exact.predict({"x": new}, draws=4000)
    variance = np.einsum("nd,de,ne->n", design, covariance, design)
    mean = design @ covariance @ DESIGN.T @ Y / 0.4**2
    assert np.abs((predicted.mean["y"] - mean) / np.sqrt(variance / 4000)).max() < 4.5
    np.testing.assert_allclose(predicted.epistemic["y"], variance, rtol=4.5 * np.sqrt(2 / 4000))
    np.testing.assert_allclose(predicted.aleatoric["y"], 0.4**2, rtol=1e-6)


def test_prior_scale_and_noise_maximise_the_evidence():
    """Against a numerical search of the closed form, which the prior of both is part of."""
    from scipy.optimize import minimize

    target = po.network(LINEAR, data={"x": X, "y": Y}, prior={"b": "fixed", "*": po.LearnedScalePrior()})
    fitted = po.fit(target, po.LinearisedLaplace(), random_seed=0, progress=False)

    def negative(h):
        tau, noise = np.exp(h)
        covariance = tau**2 / 3 * X @ X.T + noise**2 * np.eye(50)
        priors = stats.norm.logpdf(h[0]) + stats.norm.logpdf(h[1], -1.0)
        return -stats.multivariate_normal.logpdf(Y, np.zeros(50), covariance) - priors

    best = minimize(negative, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8})
    draws = fitted.sample_unconstrained(2000)
    slices = fitted.layout.slices
    centre = [draws[:, slices[name]].mean() for name in ("w_scale", "y_noise")]
    spread = [draws[:, slices[name]].std() for name in ("w_scale", "y_noise")]
    # Expectation maximisation stops within its tolerance; draws have their own error.
    np.testing.assert_allclose(centre, best.x, atol=0.03 + 4 * max(spread) / np.sqrt(2000))
    np.testing.assert_allclose(fitted.record.extras["log_marginal_likelihood"], -best.fun, atol=0.01)


def test_the_last_layer_is_found():
    target = po.network(HIDDEN, data={"x": X, "y": Y})
    assert last_layer(target, {"x": X, "y": Y}, target.initial_point(0)) == ("c", "u")


@pytest.mark.slow
def test_the_last_layer_alone_is_uncertain():
    target = po.network(HIDDEN, data={"x": X, "y": Y})
    fitted = po.fit(target, po.LinearisedLaplace(weights="last", turns=2), random_seed=0, progress=False)
    assert [v.name for v in fitted.layout.variables] == ["c", "u_scale", "u", "y_noise"]
    assert "9 of 41 weights" in fitted.record.sentence
    assert fitted.predict({"x": X[:4]}).std["y"].shape == (4,)


@pytest.mark.slow
def test_scales_of_weights_that_are_held_stay_where_they_start():
    """At the mode alone the first layer's scale would shrink to nothing, and the layer with it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 6))
    y = (x[:, 0] + 0.5 * x[:, 1] + rng.logistic(size=150) > 0).astype(int)
    weights = {"w": rng.normal(size=(6, 8)) / 2, "u": rng.normal(size=(8, 1)) / 3}
    net = (weights, lambda p, x: jnp.tanh(x @ p["w"]) @ p["u"])
    target = po.network(net, data={"x": x, "y": y}, likelihood="bernoulli")
    fitted = po.fit(target, po.LinearisedLaplace(weights="last"), random_seed=0, progress=False)
    assert [v.name for v in fitted.layout.variables] == ["u_scale", "u"]
    mode, slices = fitted.target.mode, target.layout.slices
    np.testing.assert_allclose(mode[slices["w_scale"]], 0.0)  # log of one
    assert fitted.predict({"x": x}, draws=200).log_score("y", y).mean() > -0.62  # nothing known: -0.69


def test_the_tangent_predicts_and_not_the_network(tmp_path):
    """At draws, outputs are linear in the weights; and they are that from a file, and bound to the network again."""
    labels = (Y > 0).astype(int)
    target = po.network(HIDDEN, data={"x": X, "y": labels}, likelihood="bernoulli", prior="fan_in")
    fitted = po.fit(target, "linearised_laplace", random_seed=0, progress=False)
    tangent, data = fitted.target, {"x": X, "y": labels}
    step = 0.5 * np.random.default_rng(0).standard_normal(target.layout.size)
    with jax.enable_x64(True):
        at = jax.jit(lambda size: tangent.output(jnp.asarray(tangent.mode + size * step), data)["y"])
        there, slope = target.output(jnp.asarray(tangent.mode), data)["y"], at(1.0) - at(0.0)
        np.testing.assert_allclose(at(0.0), there, rtol=1e-10)
        np.testing.assert_allclose(at(3.0) - at(0.0), 3 * slope, rtol=1e-8)
    found = fitted.predict({"x": 3 * X[:6]})
    fitted.save(tmp_path / "tangent.posterion")
    for loaded in (po.load(tmp_path / "tangent.posterion"), po.load(tmp_path / "tangent.posterion", model=target)):
        np.testing.assert_allclose(loaded.predict({"x": 3 * X[:6]}).mean["y"], found.mean["y"], rtol=1e-4)
    other = po.network(LINEAR, data={"x": X, "y": labels}, likelihood="bernoulli", prior="fan_in")
    with pytest.raises(PosteriorFileError, match="another network"):
        po.load(tmp_path / "tangent.posterion", model=other)


def test_the_curvature_is_the_hessian_of_the_tangent():
    """For classes, whose likelihood curves with the output, against automatic second derivatives."""
    from posterion.methods.ggn import Rows
    from posterion.target.linearised import LinearisedTarget

    net = (HIDDEN[0] | {"u": RNG.normal(size=(8, 3)), "c": np.zeros(3)}, HIDDEN[1])
    data = {"x": X, "y": RNG.integers(0, 3, 50)}
    target = po.network(net, data=data, likelihood="categorical", prior="fan_in")
    z = target.initial_point(0)
    tangent = LinearisedTarget(target, z, tuple(v.name for v in target.layout.variables))
    with jax.enable_x64(True):
        arrays = target.as_arrays(data)
        rows = Rows(target, arrays, np.arange(len(z)))
        found = jax.jit(rows.curvature(full=True))(jnp.asarray(z), rows.blocks)
        diagonal = jax.jit(rows.curvature(full=False))(jnp.asarray(z), rows.blocks)
        likelihood = lambda z: jnp.sum(tangent.joint_terms(z, arrays).log_likelihood["y"])
        expected = -jax.jit(jax.hessian(likelihood))(jnp.asarray(z))
        np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
        np.testing.assert_allclose(diagonal, np.diag(expected), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(rows.prior_precision(jnp.asarray(z))[:3], 1.0)  # biases


PAIRS = np.c_[Y, X @ [0.3, 0.0, -1.0] + 0.4 * RNG.normal(size=50)]


@pytest.mark.parametrize("outputs_first", [False, True])
def test_kronecker_factors_are_exact_for_gaussian_noise(outputs_first):
    """Two outputs of one dense layer, its matrix either way round: the closed form, evidence included."""
    weights = {"b": np.zeros(2), "w": np.zeros((2, 3) if outputs_first else (3, 2))}
    net = (weights, lambda p, x: x @ (p["w"].T if outputs_first else p["w"]) + p["b"])
    likelihood = po.Likelihood(lambda f: dist.Normal(f, 0.4), columns=1)
    prior = {"b": dist.Normal(0, 3.0), "w": dist.Normal(0, 1.5)}
    target = po.network(net, data={"x": X, "y": PAIRS}, prior=prior, likelihood=likelihood)
    fitted = po.fit(target, po.LinearisedLaplace(curvature="kronecker"), random_seed=0, progress=False)
    assert "Kronecker-factored" in fitted.record.sentence
    before = np.diag([3.0, 1.5, 1.5, 1.5]) ** 2
    covariance = np.linalg.inv(DESIGN.T @ DESIGN / 0.4**2 + np.linalg.inv(before))
    with jax.enable_x64(True):
        params = jnp.asarray(fitted.params)
        mean, found = (np.asarray(f(params)) for f in (fitted.family.mean, fitted.family.covariance))
    # The first output's bias and weights, in the order of the layout: b, then w.
    first = [0, 2, 3, 4] if outputs_first else [0, 2, 4, 6]
    np.testing.assert_allclose(found[np.ix_(first, first)], covariance, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found[0, 1], 0.0, atol=1e-12)
    np.testing.assert_allclose(mean[first], covariance @ DESIGN.T @ Y / 0.4**2, rtol=1e-7, atol=1e-9)
    marginal = DESIGN @ before @ DESIGN.T + 0.4**2 * np.eye(50)
    evidence = sum(stats.multivariate_normal.logpdf(y, np.zeros(50), marginal) for y in PAIRS.T)
    np.testing.assert_allclose(fitted.record.extras["log_marginal_likelihood"], evidence, rtol=1e-9)


@pytest.mark.slow
def test_kronecker_factors_of_classes_are_the_product_of_means():
    labels = np.argmax(X + 0.5 * RNG.normal(size=X.shape), axis=1)
    net = ({"b": np.zeros(3), "w": np.zeros((3, 3))}, LINEAR[1])
    target = po.network(net, data={"x": X, "y": labels}, prior=dist.Normal(0, 1.5), likelihood="categorical")
    method = po.LinearisedLaplace(curvature="kronecker")
    fitted = po.fit(target, method, random_seed=0, progress=False, precision="float64")
    mode = fitted.target.mode
    logits = X @ mode[3:].reshape(3, 3) + mode[:3]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    curves = np.einsum("nf,fg->nfg", p, np.eye(3)) - np.einsum("nf,ng->nfg", p, p)
    factors = np.kron(DESIGN.T @ DESIGN, curves.sum(axis=0)) / 50
    with jax.enable_x64(True):
        found = np.asarray(fitted.family.covariance(jnp.asarray(fitted.params)))
    np.testing.assert_allclose(found, np.linalg.inv(factors + np.eye(12) / 1.5**2), rtol=1e-5, atol=1e-9)
    # And what it says of the outputs' spread is the covariance's own, row by row.
    new = fitted.predict({"x": X[:5]}, draws=200)
    whole = po.fit(target, po.LinearisedLaplace(curvature="full"), random_seed=0, progress=False, precision="float64")
    np.testing.assert_allclose(new.mean["y"], whole.predict({"x": X[:5]}, draws=200).mean["y"], atol=0.1)


@pytest.mark.slow
def test_kronecker_factors_learn_prior_and_noise_as_the_whole_matrix_does():
    """With Gaussian noise both are the same posterior, so that the hyperparameters are too."""
    target = po.network(LINEAR, data={"x": X, "y": Y}, prior=po.LearnedScalePrior())
    found = {
        kind: po.fit(target, po.LinearisedLaplace(curvature=kind), random_seed=0, progress=False, precision="float64")
        for kind in ("full", "kronecker")
    }
    evidence = [fitted.record.extras["log_marginal_likelihood"] for fitted in found.values()]
    np.testing.assert_allclose(evidence[0], evidence[1], rtol=1e-6)
    np.testing.assert_allclose(found["full"].params, found["kronecker"].params, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_kronecker_factors_need_one_dense_layer_and_a_prior_alike_for_all_outputs():
    net = (HIDDEN[0] | {"u": RNG.normal(size=(8, 2)), "c": np.zeros(2)}, HIDDEN[1])
    target = po.network(net, data={"x": X, "y": PAIRS}, prior="fan_in")
    with pytest.raises(OptionError, match="of one dense last layer"):
        po.fit(target, po.LinearisedLaplace(curvature="kronecker", weights=("w", "u")), progress=False)
    uneven = {"c": dist.Normal(0, np.array([1.0, 2.0])), "*": dist.Normal(0, 1)}
    target = po.network(net, data={"x": X, "y": PAIRS}, prior=uneven)
    with pytest.raises(OptionError, match="the same for all outputs"):
        po.fit(target, po.LinearisedLaplace(curvature="kronecker"), progress=False)


def test_what_it_cannot_do_it_says():
    with pytest.raises(OptionError, match="curvature must be"):
        po.LinearisedLaplace(curvature="kron")
    with pytest.raises(UnsupportedModelError, match=r"posterion.network\(...\)"):
        po.fit(po.log_density(lambda p: -(p**2), initial=0.0), po.LinearisedLaplace(), progress=False)
    with pytest.raises(OptionError, match="names no weights; there are 'b', 'w'"):
        po.fit(linear(), po.LinearisedLaplace(weights="layers.3"), progress=False)
