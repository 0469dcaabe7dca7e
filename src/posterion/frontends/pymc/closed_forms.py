"""Mean and variance of the elementary distributions, from their parameters.

One line or two for each, in the parametrisation of PyMC's Ops, which is not always that of its constructors (Gamma and
Exponential hold scales here). Where a moment does not exist the expressions give infinity or NaN.
"""

import operator
from functools import reduce, singledispatch
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
from pymc.distributions import continuous, discrete, multivariate
from pymc.distributions.dist_math import i0e, i1e
from pymc.distributions.distribution import DiracDeltaRV
from pytensor.tensor.random import basic as ptr
from pytensor.tensor.variable import TensorVariable


class Pair(NamedTuple):
    """Mean and variance, not yet broadcast to the shape of the variable."""

    mean: Any
    variance: Any


@singledispatch
def elementary_moments(op, rv, *parameters) -> Pair | None:
    """Mean and variance of ``rv``, whose Op is ``op``, from its parameters as floats; None if none are known here."""
    return None


# -------------------------------------------------------------------------------- on the whole line


@elementary_moments.register(ptr.NormalRV)
def _(op, rv, mu, sigma):
    return Pair(mu, sigma**2)


@elementary_moments.register(ptr.LaplaceRV)
def _(op, rv, mu, b):
    return Pair(mu, 2 * b**2)


@elementary_moments.register(ptr.LogisticRV)
def _(op, rv, mu, s):
    return Pair(mu, (np.pi * s) ** 2 / 3)


@elementary_moments.register(ptr.GumbelRV)
def _(op, rv, mu, beta):
    return Pair(mu + np.euler_gamma * beta, (np.pi * beta) ** 2 / 6)


@elementary_moments.register(ptr.StudentTRV)
def _(op, rv, nu, mu, sigma):
    heavy = pt.switch(nu > 1, np.inf, np.nan)
    return Pair(
        pt.switch(nu > 1, mu, np.nan),
        pt.switch(nu > 2, sigma**2 * nu / pt.switch(nu > 2, nu - 2, 1), heavy),
    )


@elementary_moments.register(ptr.UniformRV)
def _(op, rv, lower, upper):
    return Pair((lower + upper) / 2, (upper - lower) ** 2 / 12)


@elementary_moments.register(ptr.TriangularRV)
def _(op, rv, lower, mode, upper):
    left, right = mode - lower, upper - mode
    return Pair((lower + mode + upper) / 3, (left**2 + left * right + right**2) / 18)


@elementary_moments.register(continuous.AsymmetricLaplaceRV)
def _(op, rv, b, kappa, mu):
    return Pair(mu - (kappa - 1 / kappa) / b, (kappa**2 + 1 / kappa**2) / b**2)


@elementary_moments.register(continuous.ExGaussianRV)
def _(op, rv, mu, sigma, nu):
    return Pair(mu + nu, sigma**2 + nu**2)


@elementary_moments.register(continuous.MoyalRV)
def _(op, rv, mu, sigma):
    return Pair(mu + sigma * (np.euler_gamma + np.log(2)), (np.pi * sigma) ** 2 / 2)


@elementary_moments.register(continuous.SkewNormalRV)
def _(op, rv, mu, sigma, alpha):
    shift = alpha * pt.sqrt(2 / (np.pi * (1 + alpha**2)))
    return Pair(mu + sigma * shift, sigma**2 * (1 - shift**2))


@elementary_moments.register(continuous.SkewStudentTRV)
def _(op, rv, a, b, mu, sigma):
    # Jones and Faddy (2003), equation 4.
    half = pt.gammaln(a - 0.5) + pt.gammaln(b - 0.5) - pt.gammaln(a) - pt.gammaln(b)
    first = pt.sqrt(a + b) / 2 * (a - b) * pt.exp(half)
    second = (a + b) / 4 * ((a - b) ** 2 + a + b - 2) / ((a - 1) * (b - 1))
    light = pt.and_(a > 1, b > 1)
    return Pair(
        pt.switch(pt.and_(a > 0.5, b > 0.5), mu + sigma * first, np.nan),
        pt.switch(light, sigma**2 * (second - first**2), np.inf),
    )


@elementary_moments.register(continuous.TruncatedNormalRV)
def _(op, rv, mu, sigma, lower, upper):
    # The interval is mirrored so that its nearer end is a, |a| <= b. With Z = Phi(b) - Phi(a) and the scaled
    # complementary error function, phi(a) / Z = sqrt(2 / pi) / (erfcx(a / sqrt 2) - r erfcx(b / sqrt 2)) and
    # phi(b) / Z = r phi(a) / Z for r = exp((a^2 - b^2) / 2) <= 1: nothing underflows, however far out the interval is.
    left, right = (pt.clip((bound - mu) / sigma, -1e9, 1e9) for bound in (lower, upper))
    mirrored = left + right < 0
    a, b = pt.switch(mirrored, -right, left), pt.switch(mirrored, -left, right)
    exponent = (a - b) * (a + b) / 2
    near = np.sqrt(2 / np.pi) / (pt.erfcx(a / np.sqrt(2)) - pt.exp(exponent) * pt.erfcx(b / np.sqrt(2)))
    shift = -pt.expm1(exponent) * near
    variance = 1 + (a - b * pt.exp(exponent)) * near - shift**2
    return Pair(mu + sigma * pt.switch(mirrored, -shift, shift), sigma**2 * pt.maximum(variance, 0.0))


# -------------------------------------------------------------------------------- positive, or on an interval


@elementary_moments.register(ptr.ExponentialRV)
def _(op, rv, scale):
    return Pair(scale, scale**2)


@elementary_moments.register(ptr.GammaRV)
def _(op, rv, shape, scale):
    return Pair(shape * scale, shape * scale**2)


@elementary_moments.register(ptr.InvGammaRV)
def _(op, rv, alpha, beta):
    mean = pt.switch(alpha > 1, beta / pt.switch(alpha > 1, alpha - 1, 1), np.inf)
    return Pair(mean, pt.switch(alpha > 2, mean**2 / pt.switch(alpha > 2, alpha - 2, 1), np.inf))


@elementary_moments.register(ptr.HalfNormalRV)
def _(op, rv, loc, sigma):
    return Pair(loc + sigma * np.sqrt(2 / np.pi), sigma**2 * (1 - 2 / np.pi))


@elementary_moments.register(continuous.HalfStudentTRV)
def _(op, rv, nu, sigma):
    folded = pt.exp(pt.gammaln((nu + 1) / 2) - pt.gammaln(nu / 2)) * pt.sqrt(nu / np.pi)
    mean = pt.switch(nu > 1, 2 * sigma * folded / pt.switch(nu > 1, nu - 1, 1), np.inf)
    return Pair(mean, pt.switch(nu > 2, sigma**2 * nu / pt.switch(nu > 2, nu - 2, 1) - mean**2, np.inf))


@elementary_moments.register(ptr.LogNormalRV)
def _(op, rv, mu, sigma):
    mean = pt.exp(mu + sigma**2 / 2)
    return Pair(mean, pt.expm1(sigma**2) * mean**2)


@elementary_moments.register(continuous.WeibullBetaRV)
def _(op, rv, alpha, beta):
    log_first, log_second = pt.gammaln(1 + 1 / alpha), pt.gammaln(1 + 2 / alpha)
    mean = beta * pt.exp(log_first)
    return Pair(mean, mean**2 * pt.expm1(log_second - 2 * log_first))


@elementary_moments.register(ptr.ParetoRV)
def _(op, rv, alpha, scale):
    mean = pt.switch(alpha > 1, alpha * scale / pt.switch(alpha > 1, alpha - 1, 1), np.inf)
    spread = pt.switch(alpha > 2, alpha * (alpha - 2), 1)
    return Pair(mean, pt.switch(alpha > 2, mean**2 / spread, np.inf))


@elementary_moments.register(continuous.WaldRV)
def _(op, rv, mu, lam, shift):
    return Pair(mu + shift, mu**3 / lam)


@elementary_moments.register(continuous.RiceRV)
def _(op, rv, b, sigma):
    half = b**2 / 4
    mean = np.sqrt(np.pi / 2) * ((1 + 2 * half) * i0e(half) + 2 * half * i1e(half))
    return Pair(sigma * mean, sigma**2 * (2 + b**2 - mean**2))


@elementary_moments.register(ptr.BetaRV)
def _(op, rv, alpha, beta):
    mean = alpha / (alpha + beta)
    return Pair(mean, mean * (1 - mean) / (alpha + beta + 1))


@elementary_moments.register(continuous.KumaraswamyRV)
def _(op, rv, a, b):
    def raw(order):
        return pt.exp(pt.log(b) + pt.gammaln(1 + order / a) + pt.gammaln(b) - pt.gammaln(1 + order / a + b))

    return Pair(raw(1), raw(2) - raw(1) ** 2)


# -------------------------------------------------------------------------------- discrete


@elementary_moments.register(ptr.BernoulliRV)
def _(op, rv, p):
    return Pair(p, p * (1 - p))


@elementary_moments.register(ptr.CategoricalRV)
def _(op, rv, p):
    return Pair(p, p * (1 - p))


@elementary_moments.register(ptr.BinomialRV)
def _(op, rv, n, p):
    return Pair(n * p, n * p * (1 - p))


@elementary_moments.register(ptr.BetaBinomialRV)
def _(op, rv, n, alpha, beta):
    p, total = alpha / (alpha + beta), alpha + beta
    return Pair(n * p, n * p * (1 - p) * (total + n) / (total + 1))


@elementary_moments.register(ptr.PoissonRV)
def _(op, rv, mu):
    return Pair(mu, mu)


@elementary_moments.register(ptr.NegBinomialRV)
def _(op, rv, n, p):
    mean = n * (1 - p) / p
    return Pair(mean, mean / p)


@elementary_moments.register(ptr.GeometricRV)
def _(op, rv, p):
    return Pair(1 / p, (1 - p) / p**2)


@elementary_moments.register(ptr.HyperGeometricRV)
def _(op, rv, good, bad, num_drawn):
    total = good + bad
    p = good / total
    return Pair(num_drawn * p, num_drawn * p * (1 - p) * (total - num_drawn) / pt.maximum(total - 1, 1))


@elementary_moments.register(discrete.DiscreteUniformRV)
def _(op, rv, lower, upper):
    return Pair((lower + upper) / 2, ((upper - lower + 1) ** 2 - 1) / 12)


@elementary_moments.register(DiracDeltaRV)
def _(op, rv, value):
    return Pair(value, pt.zeros_like(value))


# -------------------------------------------------------------------------------- vectors and matrices


def _diagonal(matrix: TensorVariable) -> TensorVariable:
    return pt.diagonal(matrix, axis1=-2, axis2=-1)


@elementary_moments.register(ptr.MvNormalRV)
def _(op, rv, mu, covariance):
    return Pair(mu, _diagonal(covariance))


@elementary_moments.register(multivariate.MvStudentTRV)
def _(op, rv, nu, mu, scale):
    nu = nu[..., None]
    heavy = pt.switch(nu > 1, np.inf, np.nan)
    return Pair(
        pt.switch(nu > 1, mu, np.nan),
        pt.switch(nu > 2, _diagonal(scale) * nu / pt.switch(nu > 2, nu - 2, 1), heavy),
    )


@elementary_moments.register(multivariate.KroneckerNormalRV)
def _(op, rv, mu, sigma, *covariances):
    diagonals = [_diagonal(covariance) for covariance in covariances]
    product = reduce(lambda left, right: (left[:, None] * right[None, :]).flatten(), diagonals)
    return Pair(mu, product + sigma**2)


@elementary_moments.register(multivariate.MatrixNormalRV)
def _(op, rv, mu, row_cholesky, column_cholesky):
    rows, columns = pt.sum(row_cholesky**2, axis=-1), pt.sum(column_cholesky**2, axis=-1)
    return Pair(mu, rows[..., :, None] * columns[..., None, :])


@elementary_moments.register(ptr.DirichletRV)
def _(op, rv, a):
    total = pt.sum(a, axis=-1, keepdims=True)
    mean = a / total
    return Pair(mean, mean * (1 - mean) / (total + 1))


@elementary_moments.register(ptr.MultinomialRV)
def _(op, rv, n, p):
    n = n[..., None]
    return Pair(n * p, n * p * (1 - p))


@elementary_moments.register(multivariate.DirichletMultinomialRV)
def _(op, rv, n, a):
    n, total = n[..., None], pt.sum(a, axis=-1, keepdims=True)
    p = a / total
    return Pair(n * p, n * p * (1 - p) * (total + n) / (total + 1))


@elementary_moments.register(multivariate.StickBreakingWeightsRV)
def _(op, rv, alpha, num_sticks):
    # w_k = v_k prod_{j<k} (1 - v_j) with independent v ~ Beta(1, alpha); the last weight is what is left.
    alpha, num_sticks = alpha[..., None], rv.owner.op.dist_params(rv.owner)[1].squeeze()

    def raw(stick, left):
        return pt.concatenate([stick * left ** pt.arange(num_sticks), left**num_sticks], axis=-1)

    first = raw(1 / (1 + alpha), alpha / (1 + alpha))
    second = raw(2 / ((1 + alpha) * (2 + alpha)), alpha / (2 + alpha))
    return Pair(first, second - first**2)


@elementary_moments.register(multivariate.ZeroSumNormalRV)
def _(op, rv, sigma, support_shape):
    kept = reduce(operator.mul, (1 - 1 / support_shape[i] for i in range(op.ndim_supp)))
    return Pair(0.0, sigma**2 * kept)
