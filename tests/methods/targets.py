"""Targets for tests of methods: posteriors in closed form, and ones that have something wrong with them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from numpyro.distributions import constraints

import posterion as po

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)) @ np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.3], [0.0, 0.0, 1.0]])
Y = X @ np.array([1.0, -0.5, 0.2]) + RNG.normal(size=50)
PRIOR_SD = 10.0


def fit(target, method, **options):
    return po.fit(target, method, progress=False, **{"random_seed": 1, **options})


@cache
def regression(scales=(1.0, 1.0, 1.0)):
    """y ~ N(x w, 1), w ~ N(0, 10): a Gaussian posterior with correlations. ``scales`` change the columns' units.

    Made once, so that its programs are compiled once.
    """
    return proper_regression(X, Y, np.asarray(scales))


def proper_regression(x, y, scales):
    """As `regression`, of any columns."""
    x = x * scales
    return po.log_density(
        log_prior=lambda p: jnp.sum(stats.norm.logpdf(p["w"], 0.0, PRIOR_SD / scales)),
        log_likelihood=lambda p, d: stats.norm.logpdf(d["y"], d["x"] @ p["w"], 1.0),
        predict_mean=lambda p, d: d["x"] @ p["w"],
        initial={"w": np.zeros(x.shape[1])},
        data={"x": x, "y": y},
    )


def exact(scales=(1.0, 1.0, 1.0)):
    """Mean, covariance and log evidence of `regression`."""
    y, scales = Y, np.asarray(scales)
    x, prior = X * scales, np.diag((scales / PRIOR_SD) ** 2)
    covariance = np.linalg.inv(x.T @ x + prior)
    marginal = np.eye(len(y)) + x @ np.linalg.inv(prior) @ x.T
    evidence = -0.5 * (y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(2 * np.pi * marginal)[1])
    return covariance @ x.T @ y, covariance, evidence


def flat_regression(x, y):
    """The same without a prior."""
    return po.log_density(
        log_likelihood=lambda p, d: stats.norm.logpdf(d["y"], d["x"] @ p["w"], 1.0),
        initial={"w": np.zeros(x.shape[1])},
        data={"x": x, "y": y},
    )


def separated_classes():
    """A logistic regression without a prior, on classes that a line separates: improper."""
    return po.log_density(
        log_likelihood=lambda p, d: -jax.nn.softplus(jnp.where(d["y"] == 1, -1, 1) * (d["x"] @ p["w"])),
        initial={"w": np.zeros(2)},
        data={"x": X[:, 1:], "y": (X[:, 1] > 0).astype(int)},
    )


def gamma_posterior():
    """rate ~ Gamma(2, 1), 20 Poisson counts: the posterior is Gamma(2 + sum, 21), skewed, in one positive variable."""
    counts = np.array([3, 1, 0, 2, 4, 1, 1, 2, 0, 3, 2, 2, 1, 5, 0, 1, 2, 3, 1, 2])
    target = po.log_density(
        lambda p, d: stats.gamma.logpdf(p["rate"], 2.0) + jnp.sum(stats.poisson.logpmf(d["y"], p["rate"])),
        initial={"rate": 1.0},
        data={"y": counts},
        supports={"rate": constraints.positive},
    )
    return target, 2.0 + counts.sum(), 21.0


def schools(*, centred):
    """Eight schools, whose centred form has no mode: its density is infinite where tau is zero."""
    y, s = np.array([28, 8, -3, 7, -1, 1, 18, 12.0]), np.array([15, 10, 16, 11, 9, 11, 10, 18.0])

    def log_density(p):
        hyper = stats.norm.logpdf(p["mu"], 0, 5) + stats.cauchy.logpdf(p["tau"], 0, 5)
        if centred:
            schools = stats.norm.logpdf(p["theta"], p["mu"], p["tau"])
            return hyper + jnp.sum(schools) + jnp.sum(stats.norm.logpdf(y, p["theta"], s))
        theta = p["mu"] + p["tau"] * p["theta"]
        return hyper + jnp.sum(stats.norm.logpdf(p["theta"])) + jnp.sum(stats.norm.logpdf(y, theta, s))

    return po.log_density(
        log_density, initial={"mu": 0.0, "tau": 1.0, "theta": np.zeros(8)}, supports={"tau": constraints.positive}
    )
