"""Moments against PyMC's own draws (within Monte Carlo error), PyMC's means and SciPy's variances."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pymc")

from posterion.frontends.pymc import dispatch, moments

# isort: split
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.moments import mean as pymc_mean
from pymc.distributions.shape_utils import change_dist_size
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.link.jax.dispatch import jax_funcify

ROWS = np.array([0.5, 1.0, 2.5])
WEIGHTS = np.array([0.2, 0.5, 0.3])
COVARIANCE = np.array([[1.0, 0.3], [0.3, 2.0]])


def three(dist, *args, **kwargs):
    return dist.dist(*args, shape=(3,), **kwargs)


CASES = {
    "normal": lambda: three(pm.Normal, ROWS, 2 * ROWS),
    "normal of small integers": lambda: three(pm.Normal, 3, 20),
    "student": lambda: three(pm.StudentT, nu=9.0, mu=ROWS, sigma=2.0),
    "laplace": lambda: three(pm.Laplace, ROWS, 2.0),
    "asymmetric laplace": lambda: three(pm.AsymmetricLaplace, b=ROWS, kappa=0.7, mu=1.0),
    "logistic": lambda: three(pm.Logistic, ROWS, 2.0),
    "gumbel": lambda: three(pm.Gumbel, ROWS, 2.0),
    "uniform": lambda: three(pm.Uniform, -ROWS, 2.0),
    "triangular": lambda: three(pm.Triangular, lower=-1.0, c=ROWS, upper=3.0),
    "ex-gaussian": lambda: three(pm.ExGaussian, mu=ROWS, sigma=0.5, nu=2.0),
    "moyal": lambda: three(pm.Moyal, ROWS, 0.5),
    "skew normal": lambda: three(pm.SkewNormal, mu=ROWS, sigma=2.0, alpha=[-3.0, 0.0, 5.0]),
    "skew student": lambda: three(pm.SkewStudentT, a=6.0 + ROWS, b=8.0, mu=1.0, sigma=2.0),
    "exponential": lambda: three(pm.Exponential, lam=ROWS),
    "gamma": lambda: three(pm.Gamma, alpha=2.0, beta=ROWS),
    "inverse gamma": lambda: three(pm.InverseGamma, alpha=9.0, beta=ROWS),
    "half normal": lambda: three(pm.HalfNormal, sigma=ROWS),
    "half student": lambda: three(pm.HalfStudentT, nu=9.0, sigma=ROWS),
    "log normal": lambda: three(pm.LogNormal, mu=ROWS, sigma=0.4),
    "weibull": lambda: three(pm.Weibull, alpha=1.0 + ROWS, beta=2.0),
    "pareto": lambda: three(pm.Pareto, alpha=9.0, m=ROWS),
    "wald": lambda: three(pm.Wald, mu=ROWS, lam=4.0, alpha=1.0),
    "rice": lambda: three(pm.Rice, b=ROWS, sigma=2.0),
    "beta": lambda: three(pm.Beta, alpha=ROWS, beta=2.0),
    "kumaraswamy": lambda: three(pm.Kumaraswamy, a=ROWS, b=2.0),
    "bernoulli": lambda: three(pm.Bernoulli, p=WEIGHTS),
    "bernoulli of logits": lambda: three(pm.Bernoulli, logit_p=ROWS),
    "binomial": lambda: three(pm.Binomial, n=[5, 50, 100], p=WEIGHTS),
    "beta binomial": lambda: three(pm.BetaBinomial, n=20, alpha=ROWS, beta=2.0),
    "poisson": lambda: three(pm.Poisson, ROWS),
    "negative binomial": lambda: three(pm.NegativeBinomial, mu=ROWS, alpha=np.float64(3.0)),
    "geometric": lambda: three(pm.Geometric, WEIGHTS),
    "hypergeometric": lambda: three(pm.HyperGeometric, N=50, k=np.array([10, 20, 30]), n=12),
    "discrete uniform": lambda: three(pm.DiscreteUniform, lower=-3, upper=[4, 5, 100]),
    "constant": lambda: three(pm.DiracDelta, 4),
    "multivariate normal": lambda: pm.MvNormal.dist(mu=ROWS[:2], cov=COVARIANCE, shape=(3, 2)),
    "multivariate student": lambda: pm.MvStudentT.dist(nu=9.0, mu=ROWS[:2], scale=COVARIANCE, shape=(3, 2)),
    "kronecker normal": lambda: pm.KroneckerNormal.dist(
        mu=np.arange(4.0), covs=[COVARIANCE, 2 * COVARIANCE], sigma=0.5
    ),
    "matrix normal": lambda: pm.MatrixNormal.dist(mu=np.ones((2, 3)), rowcov=COVARIANCE, colcov=np.diag(ROWS) + 0.2),
    "zero-sum normal": lambda: pm.ZeroSumNormal.dist(sigma=2.0, shape=(3, 4)),
    "zero-sum normal on two axes": lambda: pm.ZeroSumNormal.dist(sigma=2.0, n_zerosum_axes=2, shape=(2, 3, 4)),
    "dirichlet": lambda: pm.Dirichlet.dist(ROWS, shape=(2, 3)),
    "multinomial": lambda: pm.Multinomial.dist(n=[3, 20], p=WEIGHTS, shape=(2, 3)),
    "dirichlet multinomial": lambda: pm.DirichletMultinomial.dist(n=[3, 20], a=ROWS, shape=(2, 3)),
    "stick breaking": lambda: pm.StickBreakingWeights.dist(alpha=ROWS, K=4),
    "mixture of one vector": lambda: pm.Mixture.dist(WEIGHTS, pm.Normal.dist(4 * ROWS, ROWS), shape=(4,)),
    "mixture of several": lambda: pm.Mixture.dist(
        WEIGHTS,
        [pm.Normal.dist(ROWS, 1.0), pm.Laplace.dist(5.0, 1.0), pm.StudentT.dist(nu=9.0, mu=-3.0, sigma=2.0)],
        shape=(3,),
    ),
    "normal mixture": lambda: pm.NormalMixture.dist(w=WEIGHTS, mu=ROWS, sigma=[0.1, 2.0, 1.0], shape=(2,)),
    "mixture of vectors": lambda: pm.Mixture.dist(
        WEIGHTS[:2] / WEIGHTS[:2].sum(),
        [pm.MvNormal.dist(ROWS[:2], COVARIANCE), pm.MvNormal.dist(-3 * ROWS[:2], 2 * COVARIANCE)],
        shape=(3, 2),
    ),
    "zero-inflated poisson": lambda: pm.ZeroInflatedPoisson.dist(psi=0.6, mu=ROWS, shape=(3,)),
    "zero-inflated binomial": lambda: pm.ZeroInflatedBinomial.dist(psi=0.6, n=9, p=WEIGHTS, shape=(3,)),
    "zero-inflated negative binomial": lambda: pm.ZeroInflatedNegativeBinomial.dist(psi=0.6, mu=ROWS, alpha=3.0),
    "hurdle poisson": lambda: pm.HurdlePoisson.dist(psi=0.6, mu=ROWS, shape=(3,)),
    "hurdle negative binomial": lambda: pm.HurdleNegativeBinomial.dist(psi=0.6, mu=ROWS, alpha=3.0, shape=(3,)),
    "hurdle gamma": lambda: pm.HurdleGamma.dist(psi=0.6, alpha=2.0, beta=ROWS, shape=(3,)),
    "hurdle log normal": lambda: pm.HurdleLogNormal.dist(psi=0.6, mu=ROWS, sigma=0.5, shape=(3,)),
    "zero-truncated poisson": lambda: pm.Truncated.dist(pm.Poisson.dist(ROWS), lower=1, shape=(3,)),
    "truncated normal": lambda: three(pm.TruncatedNormal, mu=ROWS, sigma=2.0, lower=-1.0, upper=2.0),
    "normal truncated below": lambda: three(pm.TruncatedNormal, mu=[-9.0, 0.0, 9.0], sigma=1.0, lower=0.5),
    "normal truncated above": lambda: pm.Truncated.dist(pm.Normal.dist(ROWS, 2.0), upper=0.0, shape=(3,)),
    "censored normal": lambda: pm.Censored.dist(pm.Normal.dist(ROWS, 2.0), lower=-1.0, upper=[1.0, 2.0, 9.0]),
    "normal censored above": lambda: pm.Censored.dist(pm.Normal.dist(ROWS, 2.0), lower=None, upper=0.5, shape=(3,)),
}


def evaluate(*variables):
    """Values by way of JAX, as the engine gets them.

    Floats become arguments: PyTensor folds constants with a reciprocal in float32 (pytensor issue 2430).
    """
    found = {v for v in ancestors(variables) if isinstance(v, Constant) and getattr(v.type, "dtype", "") == "float64"}
    floats = {v: v.type() for v in found}
    fgraph = FunctionGraph(list(floats.values()), clone_replace(list(variables), floats), clone=False)
    pytensor.compile.mode.get_mode("JAX").optimizer.rewrite(fgraph)
    with jax.enable_x64(True), dispatch.repaired():
        return [np.asarray(v) for v in jax_funcify(fgraph)(*(jax.numpy.asarray(v.data) for v in floats))]


@functools.cache
def moments_of(case):
    """Mean and variance of a case, evaluated once for all tests."""
    return evaluate(*moments.mean_and_variance(CASES[case]()))


REJECTION_SAMPLED = {"hurdle poisson", "hurdle negative binomial", "zero-truncated poisson"}  # slowly


@pytest.mark.parametrize("case", [case for case in CASES if case not in REJECTION_SAMPLED])
def test_moments_agree_with_draws(case):
    rv = CASES[case]()
    mean, variance = moments_of(case)
    num_draws = 10_000
    batch = change_dist_size(rv, num_draws, expand=True)
    draws = pm.draw(batch, random_seed=20240517, mode="FAST_COMPILE").astype(float)
    assert mean.shape == variance.shape == draws.shape[1:]
    assert mean.dtype == variance.dtype == np.float64
    # Standard errors of mean and variance from the draws themselves; 5 of them over some 400 comparisons.
    centred = draws - draws.mean(0)
    error_of_mean = draws.std(0) / np.sqrt(num_draws)
    error_of_variance = (centred**2).std(0) / np.sqrt(num_draws)
    np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 5 * error_of_mean + 1e-12)
    np.testing.assert_array_less(np.abs(draws.var(0) - variance), 5 * error_of_variance + 1e-12)


@pytest.mark.parametrize(
    "case",
    [*sorted(REJECTION_SAMPLED), "zero-inflated binomial", "geometric", "beta binomial"],
)
def test_moments_agree_with_sums_over_the_probabilities(case):
    rv = CASES[case]()
    mean, variance = moments_of(case)
    counts = np.arange(200)[:, None] * np.ones(3, int)
    batch = change_dist_size(rv, 200, expand=True)
    probability = np.exp(pm.logp(batch, counts).eval(mode=pytensor.compile.mode.Mode("py", None)))
    np.testing.assert_allclose(mean, (counts * probability).sum(0), rtol=1e-6)
    np.testing.assert_allclose(variance, ((counts - mean) ** 2 * probability).sum(0), rtol=1e-6)


WITHOUT_PYMC_MEAN = {
    "hurdle poisson", "hurdle negative binomial", "hurdle gamma", "hurdle log normal", "zero-truncated poisson",
    "truncated normal", "normal truncated below", "normal truncated above", "censored normal", "normal censored above",
    "zero-sum normal", "zero-sum normal on two axes",
}  # fmt: skip


@pytest.mark.parametrize("case", [case for case in CASES if case not in WITHOUT_PYMC_MEAN])
def test_means_agree_with_pymcs(case):
    mean, _ = moments_of(case)
    expected = pymc_mean(CASES[case]()).eval(mode=pytensor.compile.mode.Mode("py", None))
    np.testing.assert_allclose(mean, np.broadcast_to(expected, mean.shape), rtol=2e-7)  # theirs is folded in float32


SCIPY = {
    "student": [stats.t(9.0, m, 2.0) for m in ROWS],
    "asymmetric laplace": [stats.laplace_asymmetric(0.7, 1.0, 1 / b) for b in ROWS],
    "gumbel": [stats.gumbel_r(m, 2.0) for m in ROWS],
    "triangular": [stats.triang((c + 1) / 4, -1.0, 4.0) for c in ROWS],
    "moyal": [stats.moyal(m, 0.5) for m in ROWS],
    "skew normal": [stats.skewnorm(a, m, 2.0) for a, m in zip([-3.0, 0.0, 5.0], ROWS, strict=True)],
    "skew student": [stats.jf_skew_t(a, 8.0, 1.0, 2.0) for a in 6.0 + ROWS],
    "inverse gamma": [stats.invgamma(9.0, scale=b) for b in ROWS],
    "log normal": [stats.lognorm(0.4, scale=np.exp(m)) for m in ROWS],
    "weibull": [stats.weibull_min(1 + a, scale=2.0) for a in ROWS],
    "pareto": [stats.pareto(9.0, scale=m) for m in ROWS],
    "wald": [stats.invgauss(m / 4.0, 1.0, 4.0) for m in ROWS],
    "rice": [stats.rice(b, scale=2.0) for b in ROWS],
    "beta": [stats.beta(a, 2.0) for a in ROWS],
    "beta binomial": [stats.betabinom(20, a, 2.0) for a in ROWS],
    "negative binomial": [stats.nbinom(3.0, 3.0 / (3.0 + m)) for m in ROWS],
    "hypergeometric": [stats.hypergeom(50, k, 12) for k in (10, 20, 30)],
    "truncated normal": [stats.truncnorm((-1 - m) / 2, (2 - m) / 2, m, 2.0) for m in ROWS],
    "normal truncated below": [stats.truncnorm(0.5 - m, np.inf, m, 1.0) for m in (-9.0, 0.0, 9.0)],
}


@pytest.mark.parametrize("case", SCIPY)
def test_moments_agree_with_scipys(case):
    mean, variance = moments_of(case)
    np.testing.assert_allclose(mean, [d.mean() for d in SCIPY[case]], rtol=1e-9)
    np.testing.assert_allclose(variance, [d.var() for d in SCIPY[case]], rtol=1e-8)


def test_truncated_normal_far_in_the_tail():
    # For a bound t standard deviations out the distribution is nearly exponential: mean t + 1/t, variance 1/t^2.
    far = np.array([10.0, 20.0, 30.0])
    mean, variance = evaluate(*moments.mean_and_variance(pm.TruncatedNormal.dist(0.0, 1.0, lower=far)))
    np.testing.assert_allclose(mean, far + 1 / far - 2 / far**3, rtol=1e-4)
    np.testing.assert_allclose(variance, 1 / far**2 - 6 / far**4, rtol=1e-2)


def test_rice_with_a_strong_signal():
    mean, variance = evaluate(*moments.mean_and_variance(pm.Rice.dist(b=60.0, sigma=1.0)))
    np.testing.assert_allclose([mean, variance], [60 + 1 / 120, 1.0], rtol=1e-3)


# --------------------------------------------------------------------------------------------- no moments


@pytest.mark.parametrize(
    ("variable", "mean", "variance"),
    [
        (lambda: pm.StudentT.dist(nu=[0.9, 1.0, 1.5, 2.0, 4.0], mu=3.0, sigma=1.0),
         [np.nan, np.nan, 3, 3, 3], [np.nan, np.nan, np.inf, np.inf, 2]),
        (lambda: pm.InverseGamma.dist(alpha=[0.5, 1.5, 3.0], beta=2.0), [np.inf, 4, 1], [np.inf, np.inf, 1]),
        (lambda: pm.Pareto.dist(alpha=[0.5, 1.5, 3.0], m=2.0), [np.inf, 6, 3], [np.inf, np.inf, 3]),
        (lambda: pm.HalfStudentT.dist(nu=[0.5, 1.5], sigma=1.0), [np.inf, None], [np.inf, np.inf]),
    ],
)  # fmt: skip
def test_moments_that_do_not_exist(variable, mean, variance):
    found = evaluate(*moments.mean_and_variance(variable()))
    for values, expected in zip(found, (mean, variance), strict=True):
        known = [k for k, v in enumerate(expected) if v is not None]
        np.testing.assert_allclose(values[known], np.array([expected[k] for k in known], float))


NONE = {
    "von mises": lambda: pm.VonMises.dist(0.0, 1.0),
    "cauchy": lambda: pm.Cauchy.dist(0.0, 1.0),
    "half cauchy": lambda: pm.HalfCauchy.dist(1.0),
    "censored gamma": lambda: pm.Censored.dist(pm.Gamma.dist(2.0, 1.0), lower=1.0, upper=None),
    "truncated gamma": lambda: pm.Truncated.dist(pm.Gamma.dist(2.0, 1.0), lower=1.0),
    "poisson from 3 on": lambda: pm.Truncated.dist(pm.Poisson.dist(2.0), lower=3),
    "hurdle of them": lambda: pm.Mixture.dist(WEIGHTS, [pm.Normal.dist(), pm.Cauchy.dist(0.0, 1.0), pm.Normal.dist()]),
    "custom": lambda: pm.CustomDist.dist(0.0, logp=lambda value, mu: -((value - mu) ** 2)),
    "custom by a graph": lambda: pm.CustomDist.dist(0.0, dist=lambda mu, size: pm.Normal.dist(mu, 1.0, size=size) ** 2),
    "autoregression": lambda: pm.AR.dist([0.5], init_dist=pm.Normal.dist(), steps=3),
    "correlation": lambda: pm.LKJCorr.dist(n=3, eta=2.0),
    "random walk": lambda: pm.GaussianRandomWalk.dist(init_dist=pm.Normal.dist(), steps=3),
    "not a random variable": lambda: pt.exp(pm.Normal.dist()),
    "a constant": lambda: pt.constant(1.0),
}


@pytest.mark.parametrize("case", NONE)
def test_none_where_there_is_no_closed_form(case):
    assert moments.mean_and_variance(NONE[case]()) is None


# --------------------------------------------------------------------------------------------- categories and wrappers


@pytest.mark.parametrize("shape", [(), (4,), (2, 4)])
def test_categories_have_their_own_axis(shape):
    p = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]])
    p = p[0] if shape == () else p
    rv = pm.Categorical.dist(p=p, shape=shape)
    mean, variance = evaluate(*moments.mean_and_variance(rv))
    assert mean.shape == (*shape, 3)
    np.testing.assert_allclose(mean, np.broadcast_to(p, (*shape, 3)))
    np.testing.assert_allclose(variance, np.broadcast_to(p * (1 - p), (*shape, 3)), rtol=1e-13)
    assert moments.kind_of(rv) == ("categorical", 3)


@pytest.mark.parametrize("dist", [pm.OrderedLogistic, pytest.param(pm.OrderedProbit, marks=pytest.mark.slow)])
def test_ordered_outcomes_are_categorical(dist):
    eta = np.array([-1.0, 0.5])
    with pm.Model() as model:
        dist("y", eta=eta, cutpoints=[-1.0, 0.0, 2.0], compute_p=False, observed=[0, 3])
    cdf = stats.logistic.cdf if dist is pm.OrderedLogistic else stats.norm.cdf
    cumulative = np.concatenate(
        [np.zeros((2, 1)), cdf(np.array([-1.0, 0.0, 2.0]) - eta[:, None]), np.ones((2, 1))], axis=1
    )
    mean, _ = evaluate(*moments.mean_and_variance(model["y"]))
    np.testing.assert_allclose(mean, np.diff(cumulative), rtol=1e-6)
    assert moments.kind_of(model["y"]) == ("categorical", 4)


def test_total_size_is_looked_through():
    with pm.Model() as model:
        pm.Bernoulli("y", p=[0.2, 0.7], observed=[0, 1], total_size=100)
    mean, variance = evaluate(*moments.mean_and_variance(model["y"]))
    np.testing.assert_allclose(mean, [0.2, 0.7])
    np.testing.assert_allclose(variance, [0.16, 0.21])
    assert moments.kind_of(model["y"]) == ("binary", 2)


def test_the_observed_part_of_incomplete_data():
    with pm.Model() as model, pytest.warns(match="imputed|masked|missing"):
        pm.MvNormal("y", mu=[1.0, 2.0], cov=COVARIANCE, observed=np.array([[0.1, np.nan], [0.3, 0.4]]))
    mean, variance = evaluate(*moments.mean_and_variance(model["y_observed"]))
    np.testing.assert_allclose(mean, [1, 1, 2])
    np.testing.assert_allclose(variance, [1, 1, 2])
    assert moments.kind_of(model["y_observed"]) == ("numeric", None)


def test_kinds():
    p = pt.matrix("p")
    assert moments.kind_of(pm.Categorical.dist(p=p)) == ("categorical", None)
    assert moments.kind_of(pm.Poisson.dist(2.0)) == ("numeric", None)
    assert moments.kind_of(pm.Mixture.dist([0.3, 0.7], [pm.Bernoulli.dist(0.2), pm.Bernoulli.dist(0.9)])) == (
        "binary",
        2,
    )
    assert moments.kind_of(pt.vector("not random")) == ("numeric", None)


def test_expressions_depend_on_the_parents():
    mu = pt.vector("mu", shape=(3,))
    sigma = pt.scalar("sigma")
    mean, variance = moments.mean_and_variance(pm.Normal.dist(mu, sigma))
    fgraph = FunctionGraph([mu, sigma], [mean, variance], clone=True)
    with jax.enable_x64(True), dispatch.repaired():
        found = jax.jit(jax_funcify(fgraph))(ROWS, 3.0)
    np.testing.assert_allclose(found, [ROWS, [9.0, 9.0, 9.0]])
