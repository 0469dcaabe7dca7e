"""Mean and variance of PyMC's random variables given their parents, in closed form.

Predictions need E[y | z, x] and Var[y | z, x] for every draw of z. Where they have a closed form they replace inner
simulation. `mean_and_variance` writes both as PyTensor expressions of the variable's parameters; composed
distributions (mixtures, hurdles, truncation, censoring) follow from their components.
"""

from functools import singledispatch
from typing import Literal

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.censored import CensoredRV
from pymc.distributions.dist_math import normal_lcdf
from pymc.distributions.distribution import PartialObservedRV, SymbolicRandomVariable
from pymc.distributions.mixture import MixtureRV, _HurdleRV
from pymc.distributions.truncated import TruncatedRV
from pymc.logprob.basic import logp
from pymc.pytensorf import get_symbolic_rv_shapes
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Constant
from pytensor.tensor.random import basic as ptr
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

from posterion.frontends.pymc.closed_forms import Pair, elementary_moments

Kind = Literal["binary", "categorical", "numeric"]


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
    elif elementary_moments.dispatch(type(node.op)) is elementary_moments.dispatch(object):
        return None
    else:
        # PyTensor types the literal 20 as int8, in which 20**2 overflows.
        pair = elementary_moments(node.op, rv, *map(_as_float, node.op.dist_params(node)))
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
def _composed_moments(op, rv, *inputs) -> Pair | None:
    """The same for distributions made of others, from the inputs of the node."""
    return None


_COMPOSED = (MixtureRV, _HurdleRV, TruncatedRV, CensoredRV, PartialObservedRV)


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
    return Pair(mean, pt.sum(weights * (variances + (means - pt.expand_dims(mean, axis)) ** 2), axis=axis))


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
    return Pair(mean / positive, (variance + mean**2) / positive - (mean / positive) ** 2)


@_composed_moments.register(PartialObservedRV)
def _(op, rv, whole, missing):
    """The observed, or the missing, entries of a variable with missing data."""
    pair = mean_and_variance(whole)
    part = ~missing if rv.owner.outputs.index(rv) == 0 else missing
    return None if pair is None else Pair(pair[0][part], pair[1][part])


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
    return Pair(mu + sigma * first, sigma**2 * (second - first**2))
