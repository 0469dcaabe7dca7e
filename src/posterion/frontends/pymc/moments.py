"""Mean and variance of PyMC's random variables given their parents, in closed form.

Predictions need E[y | z, x] and Var[y | z, x] for every draw of z. Where they have a closed form they replace inner
simulation. `mean_and_variance` writes both as PyTensor expressions of the variable's parameters; composed
distributions (mixtures, hurdles, truncation, censoring) follow from their components.
"""

import operator
from functools import reduce, singledispatch
from typing import Any, Literal, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions import continuous, discrete, multivariate
from pymc.distributions.censored import CensoredRV
from pymc.distributions.dist_math import i0e, i1e, normal_lcdf
from pymc.distributions.distribution import DiracDeltaRV, PartialObservedRV, SymbolicRandomVariable
from pymc.distributions.mixture import MixtureRV, _HurdleRV
from pymc.distributions.truncated import TruncatedRV
from pymc.logprob.basic import logp
from pymc.pytensorf import get_symbolic_rv_shapes
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Constant
from pytensor.tensor.random import basic as ptr
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

Kind = Literal["binary", "categorical", "numeric"]


class _Pair(NamedTuple):
    mean: Any
    variance: Any


# -------------------------------------------------------------------------------- public


def mean_and_variance(rv: TensorVariable) -> tuple[TensorVariable, TensorVariable] | None:
    """Mean and variance of a random variable given its parents, elementwise.

    Parameters
    ----------
    rv
        A variable of a PyMC model, or of a graph cloned from one.

    Returns
    -------
    tuple or None
        Two expressions of the variable's shape. For a categorical variable they have one more, last, axis: the class
        probabilities p and p (1 - p). None if this distribution has no closed form (or none is known here).

    Notes
    -----
    Where a moment does not exist the expressions say so: NaN for the mean of a StudentT with nu <= 1 and its variance;
    infinity for the variance with 1 < nu <= 2; likewise for Pareto and InverseGamma.
    """
    rv = _without_total_size(rv)
    node = rv.owner
    if node is None or not isinstance(node.op, RandomVariable | SymbolicRandomVariable):
        return None
    if isinstance(node.op, _COMPOSED):
        pair = _composed_moments(node.op, rv, *node.inputs)
    else:
        # PyTensor types the literal 20 as int8, in which 20**2 overflows.
        pair = _moments(node.op, rv, *map(_as_float, node.op.dist_params(node)))
    if pair is None:
        return None
    shape = _shape_from_parents(rv)
    mean, variance = map(_as_float, pair)
    if isinstance(node.op, ptr.CategoricalRV):
        shape = (*shape, mean.shape[-1])
    return pt.broadcast_to(mean, shape), pt.broadcast_to(variance, shape)


def kind_of(rv: TensorVariable) -> tuple[Kind, int | None]:
    """What kind of thing a random variable is, and its number of categories.

    Returns
    -------
    tuple
        ``("binary", 2)``, ``("categorical", K)`` or ``("numeric", None)``. K is None if only known at run time.
    """
    rv = _without_total_size(rv)
    node = rv.owner
    op = None if node is None else node.op
    if isinstance(op, PartialObservedRV):
        return kind_of(node.inputs[0])
    if isinstance(op, MixtureRV):
        kinds = {kind_of(component) for component in node.inputs[2:]}
        return kinds.pop() if len(kinds) == 1 else ("numeric", None)
    if isinstance(op, ptr.CategoricalRV):
        return "categorical", node.op.dist_params(node)[0].type.shape[-1]
    if isinstance(op, ptr.BernoulliRV) or rv.type.dtype == "bool":
        return "binary", 2
    return "numeric", None


# -------------------------------------------------------------------------------- reading nodes


def _without_total_size(rv: TensorVariable) -> TensorVariable:
    """The variable itself, where PyMC has wrapped it because of ``total_size``."""
    while rv.owner is not None and isinstance(rv.owner.op, MinibatchRandomVariable):
        rv = rv.owner.inputs[0]
    return rv


def _as_float(variable) -> TensorVariable:
    return pt.as_tensor(variable).astype(pytensor.config.floatX)


def _shape_from_parents(rv: TensorVariable) -> tuple:
    """The shape of a random variable as expressions that do not contain the variable, nor any other draw."""
    if None not in rv.type.shape:
        return rv.type.shape
    (shape,) = get_symbolic_rv_shapes([rv])
    return tuple(shape[i] if length is None else length for i, length in enumerate(rv.type.shape))


@singledispatch
def _moments(op, rv, *parameters) -> _Pair | None:
    """Mean and variance of ``rv``, whose Op is ``op``, from its parameters (as floats); not yet broadcast."""
    return None


@singledispatch
def _composed_moments(op, rv, *inputs) -> _Pair | None:
    """The same for distributions made of others, from the inputs of the node."""
    return None


_COMPOSED = (MixtureRV, _HurdleRV, TruncatedRV, CensoredRV, PartialObservedRV)


# -------------------------------------------------------------------------------- on the whole line


@_moments.register(ptr.NormalRV)
def _(op, rv, mu, sigma):
    return _Pair(mu, sigma**2)


@_moments.register(ptr.LaplaceRV)
def _(op, rv, mu, b):
    return _Pair(mu, 2 * b**2)


@_moments.register(ptr.LogisticRV)
def _(op, rv, mu, s):
    return _Pair(mu, (np.pi * s) ** 2 / 3)


@_moments.register(ptr.GumbelRV)
def _(op, rv, mu, beta):
    return _Pair(mu + np.euler_gamma * beta, (np.pi * beta) ** 2 / 6)


@_moments.register(ptr.StudentTRV)
def _(op, rv, nu, mu, sigma):
    heavy = pt.switch(nu > 1, np.inf, np.nan)
    return _Pair(
        pt.switch(nu > 1, mu, np.nan),
        pt.switch(nu > 2, sigma**2 * nu / pt.switch(nu > 2, nu - 2, 1), heavy),
    )


@_moments.register(ptr.UniformRV)
def _(op, rv, lower, upper):
    return _Pair((lower + upper) / 2, (upper - lower) ** 2 / 12)


@_moments.register(ptr.TriangularRV)
def _(op, rv, lower, mode, upper):
    left, right = mode - lower, upper - mode
    return _Pair((lower + mode + upper) / 3, (left**2 + left * right + right**2) / 18)


@_moments.register(continuous.AsymmetricLaplaceRV)
def _(op, rv, b, kappa, mu):
    return _Pair(mu - (kappa - 1 / kappa) / b, (kappa**2 + 1 / kappa**2) / b**2)


@_moments.register(continuous.ExGaussianRV)
def _(op, rv, mu, sigma, nu):
    return _Pair(mu + nu, sigma**2 + nu**2)


@_moments.register(continuous.MoyalRV)
def _(op, rv, mu, sigma):
    return _Pair(mu + sigma * (np.euler_gamma + np.log(2)), (np.pi * sigma) ** 2 / 2)


@_moments.register(continuous.SkewNormalRV)
def _(op, rv, mu, sigma, alpha):
    shift = alpha * pt.sqrt(2 / (np.pi * (1 + alpha**2)))
    return _Pair(mu + sigma * shift, sigma**2 * (1 - shift**2))


@_moments.register(continuous.SkewStudentTRV)
def _(op, rv, a, b, mu, sigma):
    # Jones and Faddy (2003), equation 4.
    half = pt.gammaln(a - 0.5) + pt.gammaln(b - 0.5) - pt.gammaln(a) - pt.gammaln(b)
    first = pt.sqrt(a + b) / 2 * (a - b) * pt.exp(half)
    second = (a + b) / 4 * ((a - b) ** 2 + a + b - 2) / ((a - 1) * (b - 1))
    light = pt.and_(a > 1, b > 1)
    return _Pair(
        pt.switch(pt.and_(a > 0.5, b > 0.5), mu + sigma * first, np.nan),
        pt.switch(light, sigma**2 * (second - first**2), np.inf),
    )


# -------------------------------------------------------------------------------- positive, or on an interval


@_moments.register(ptr.ExponentialRV)
def _(op, rv, scale):
    return _Pair(scale, scale**2)


@_moments.register(ptr.GammaRV)
def _(op, rv, shape, scale):
    return _Pair(shape * scale, shape * scale**2)


@_moments.register(ptr.InvGammaRV)
def _(op, rv, alpha, beta):
    mean = pt.switch(alpha > 1, beta / pt.switch(alpha > 1, alpha - 1, 1), np.inf)
    return _Pair(mean, pt.switch(alpha > 2, mean**2 / pt.switch(alpha > 2, alpha - 2, 1), np.inf))


@_moments.register(ptr.HalfNormalRV)
def _(op, rv, loc, sigma):
    return _Pair(loc + sigma * np.sqrt(2 / np.pi), sigma**2 * (1 - 2 / np.pi))


@_moments.register(continuous.HalfStudentTRV)
def _(op, rv, nu, sigma):
    folded = pt.exp(pt.gammaln((nu + 1) / 2) - pt.gammaln(nu / 2)) * pt.sqrt(nu / np.pi)
    mean = pt.switch(nu > 1, 2 * sigma * folded / pt.switch(nu > 1, nu - 1, 1), np.inf)
    return _Pair(mean, pt.switch(nu > 2, sigma**2 * nu / pt.switch(nu > 2, nu - 2, 1) - mean**2, np.inf))


@_moments.register(ptr.LogNormalRV)
def _(op, rv, mu, sigma):
    mean = pt.exp(mu + sigma**2 / 2)
    return _Pair(mean, pt.expm1(sigma**2) * mean**2)


@_moments.register(continuous.WeibullBetaRV)
def _(op, rv, alpha, beta):
    log_first, log_second = pt.gammaln(1 + 1 / alpha), pt.gammaln(1 + 2 / alpha)
    mean = beta * pt.exp(log_first)
    return _Pair(mean, mean**2 * pt.expm1(log_second - 2 * log_first))


@_moments.register(ptr.ParetoRV)
def _(op, rv, alpha, scale):
    mean = pt.switch(alpha > 1, alpha * scale / pt.switch(alpha > 1, alpha - 1, 1), np.inf)
    spread = pt.switch(alpha > 2, alpha * (alpha - 2), 1)
    return _Pair(mean, pt.switch(alpha > 2, mean**2 / spread, np.inf))


@_moments.register(continuous.WaldRV)
def _(op, rv, mu, lam, shift):
    return _Pair(mu + shift, mu**3 / lam)


@_moments.register(continuous.RiceRV)
def _(op, rv, b, sigma):
    half = b**2 / 4
    mean = np.sqrt(np.pi / 2) * ((1 + 2 * half) * i0e(half) + 2 * half * i1e(half))
    return _Pair(sigma * mean, sigma**2 * (2 + b**2 - mean**2))


@_moments.register(ptr.BetaRV)
def _(op, rv, alpha, beta):
    mean = alpha / (alpha + beta)
    return _Pair(mean, mean * (1 - mean) / (alpha + beta + 1))


@_moments.register(continuous.KumaraswamyRV)
def _(op, rv, a, b):
    def raw(order):
        return pt.exp(pt.log(b) + pt.gammaln(1 + order / a) + pt.gammaln(b) - pt.gammaln(1 + order / a + b))

    return _Pair(raw(1), raw(2) - raw(1) ** 2)


# -------------------------------------------------------------------------------- discrete


@_moments.register(ptr.BernoulliRV)
def _(op, rv, p):
    return _Pair(p, p * (1 - p))


@_moments.register(ptr.CategoricalRV)
def _(op, rv, p):
    return _Pair(p, p * (1 - p))


@_moments.register(ptr.BinomialRV)
def _(op, rv, n, p):
    return _Pair(n * p, n * p * (1 - p))


@_moments.register(ptr.BetaBinomialRV)
def _(op, rv, n, alpha, beta):
    p, total = alpha / (alpha + beta), alpha + beta
    return _Pair(n * p, n * p * (1 - p) * (total + n) / (total + 1))


@_moments.register(ptr.PoissonRV)
def _(op, rv, mu):
    return _Pair(mu, mu)


@_moments.register(ptr.NegBinomialRV)
def _(op, rv, n, p):
    mean = n * (1 - p) / p
    return _Pair(mean, mean / p)


@_moments.register(ptr.GeometricRV)
def _(op, rv, p):
    return _Pair(1 / p, (1 - p) / p**2)


@_moments.register(ptr.HyperGeometricRV)
def _(op, rv, good, bad, num_drawn):
    total = good + bad
    p = good / total
    return _Pair(num_drawn * p, num_drawn * p * (1 - p) * (total - num_drawn) / pt.maximum(total - 1, 1))


@_moments.register(discrete.DiscreteUniformRV)
def _(op, rv, lower, upper):
    return _Pair((lower + upper) / 2, ((upper - lower + 1) ** 2 - 1) / 12)


@_moments.register(DiracDeltaRV)
def _(op, rv, value):
    return _Pair(value, pt.zeros_like(value))


# -------------------------------------------------------------------------------- vectors and matrices


def _diagonal(matrix: TensorVariable) -> TensorVariable:
    return pt.diagonal(matrix, axis1=-2, axis2=-1)


@_moments.register(ptr.MvNormalRV)
def _(op, rv, mu, covariance):
    return _Pair(mu, _diagonal(covariance))


@_moments.register(multivariate.MvStudentTRV)
def _(op, rv, nu, mu, scale):
    nu = nu[..., None]
    heavy = pt.switch(nu > 1, np.inf, np.nan)
    return _Pair(
        pt.switch(nu > 1, mu, np.nan),
        pt.switch(nu > 2, _diagonal(scale) * nu / pt.switch(nu > 2, nu - 2, 1), heavy),
    )


@_moments.register(multivariate.KroneckerNormalRV)
def _(op, rv, mu, sigma, *covariances):
    diagonals = [_diagonal(covariance) for covariance in covariances]
    product = reduce(lambda left, right: (left[:, None] * right[None, :]).flatten(), diagonals)
    return _Pair(mu, product + sigma**2)


@_moments.register(multivariate.MatrixNormalRV)
def _(op, rv, mu, row_cholesky, column_cholesky):
    rows, columns = pt.sum(row_cholesky**2, axis=-1), pt.sum(column_cholesky**2, axis=-1)
    return _Pair(mu, rows[..., :, None] * columns[..., None, :])


@_moments.register(ptr.DirichletRV)
def _(op, rv, a):
    total = pt.sum(a, axis=-1, keepdims=True)
    mean = a / total
    return _Pair(mean, mean * (1 - mean) / (total + 1))


@_moments.register(ptr.MultinomialRV)
def _(op, rv, n, p):
    n = n[..., None]
    return _Pair(n * p, n * p * (1 - p))


@_moments.register(multivariate.DirichletMultinomialRV)
def _(op, rv, n, a):
    n, total = n[..., None], pt.sum(a, axis=-1, keepdims=True)
    p = a / total
    return _Pair(n * p, n * p * (1 - p) * (total + n) / (total + 1))


@_moments.register(multivariate.StickBreakingWeightsRV)
def _(op, rv, alpha, num_sticks):
    # w_k = v_k prod_{j<k} (1 - v_j) with independent v ~ Beta(1, alpha); the last weight is what is left.
    alpha, num_sticks = alpha[..., None], rv.owner.op.dist_params(rv.owner)[1].squeeze()

    def raw(stick, left):
        return pt.concatenate([stick * left ** pt.arange(num_sticks), left**num_sticks], axis=-1)

    first = raw(1 / (1 + alpha), alpha / (1 + alpha))
    second = raw(2 / ((1 + alpha) * (2 + alpha)), alpha / (2 + alpha))
    return _Pair(first, second - first**2)


@_moments.register(multivariate.ZeroSumNormalRV)
def _(op, rv, sigma, support_shape):
    kept = reduce(operator.mul, (1 - 1 / support_shape[i] for i in range(op.ndim_supp)))
    return _Pair(0.0, sigma**2 * kept)


# -------------------------------------------------------------------------------- composed distributions


@_composed_moments.register(MixtureRV)
@_composed_moments.register(_HurdleRV)
def _mixture(op, rv, rng, weights, *components):
    """Law of total variance: Var = sum_k w_k (Var_k + Mean_k^2) - Mean^2, about the mean to avoid cancellation."""
    if any(isinstance(component.owner.op, ptr.CategoricalRV) for component in components):
        return None
    pairs = [mean_and_variance(component) for component in components]
    if any(pair is None for pair in pairs):
        return None
    num_core = op.ndim_supp
    axis = -num_core - 1
    if len(pairs) == 1:
        means, variances = pairs[0]
    else:
        means = pt.stack([pair[0] for pair in pairs], axis=axis)
        variances = pt.stack([pair[1] for pair in pairs], axis=axis)
    weights = pt.shape_padright(weights, num_core)
    mean = pt.sum(weights * means, axis=axis)
    return _Pair(mean, pt.sum(weights * (variances + (means - pt.expand_dims(mean, axis)) ** 2), axis=axis))


@_moments.register(continuous.TruncatedNormalRV)
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
    return _Pair(mu + sigma * pt.switch(mirrored, -shift, shift), sigma**2 * pt.maximum(variance, 0.0))


@_composed_moments.register(TruncatedRV)
def _(op, rv, *inputs):
    """Counts without zero, as in the hurdle models: E[g(x) | x > 0] = E[g(x)] / (1 - P(0)) for g(0) = 0."""
    *base_inputs, lower, upper = inputs
    counts = isinstance(op.base_rv_op, ptr.PoissonRV | ptr.NegBinomialRV | ptr.BinomialRV | ptr.BetaBinomialRV)
    if not (counts and _is_constant(lower, 1) and _is_constant(upper, np.inf)):
        return None
    base = op.base_rv_op.make_node(*base_inputs).default_output()
    mean, variance = mean_and_variance(base)
    positive = -pt.expm1(logp(base, pt.zeros_like(mean)))
    return _Pair(mean / positive, (variance + mean**2) / positive - (mean / positive) ** 2)


@_composed_moments.register(PartialObservedRV)
def _(op, rv, whole, missing):
    """The observed, or the missing, entries of a variable with missing data."""
    pair = mean_and_variance(whole)
    part = ~missing if rv.owner.outputs.index(rv) == 0 else missing
    return None if pair is None else _Pair(pair[0][part], pair[1][part])


def _is_constant(variable: TensorVariable, value: float | int) -> bool:
    return isinstance(variable, Constant) and bool(np.all(np.asarray(variable.data) == value))


@_composed_moments.register(CensoredRV)
def _(op, rv, base, lower, upper):
    """The normal distribution with its tails heaped at the bounds (Tobit); others have no closed form here."""
    if not isinstance(base.owner.op, ptr.NormalRV):
        return None
    mu, sigma = map(_as_float, base.owner.op.dist_params(base.owner))
    a, b = (lower - mu) / sigma, (upper - mu) / sigma
    below, above = pt.exp(normal_lcdf(0.0, 1.0, a)), pt.exp(normal_lcdf(0.0, 1.0, -b))

    def finite(t):
        return pt.switch(pt.isinf(t), 0.0, t)

    def density(t):
        return pt.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)

    a_finite, b_finite = finite(a), finite(b)
    first = a_finite * below + b_finite * above + density(a) - density(b)
    second = (
        a_finite**2 * below + b_finite**2 * above + (1 - below - above) + a_finite * density(a) - b_finite * density(b)
    )
    return _Pair(mu + sigma * first, sigma**2 * (second - first**2))
