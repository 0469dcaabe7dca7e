"""Inverses of the incomplete gamma and beta functions: the quantiles of Gamma, StudentT and Beta.

PyTensor converts them only with a nightly build of TensorFlow Probability. PyMC draws truncated distributions with
them, and copula models hold them in the density, so that they have derivatives too: from F(x(p, a), a) = p follows
dx = (dp - dF/da da) / f(x).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc as jax_betainc
from jax.scipy.special import gammainc, gammaincc, gammaln, xlog1py, xlogy

from posterion._typing import Array


@jax.custom_jvp
def betainc(a: Array, b: Array, x: Array) -> Array:
    """Regularised incomplete beta function of float arrays of one shape, with derivatives in all three arguments.

    d/dx = x^(a-1) (1-x)^(b-1) / B(a, b); d/da and d/db by central differences with a step of eps^(1/3), whose relative
    error is about eps^(2/3): 4e-11 in float64, 2e-5 in float32.
    """
    return jax_betainc(a, b, x)


@betainc.defjvp
def _betainc_jvp(primals, tangents):
    a, b, x = primals
    value = jax_betainc(a, b, x)
    step = jnp.finfo(value.dtype).eps ** (1 / 3)
    step_a, step_b = step * jnp.minimum(a, 1.0 + jnp.sqrt(a)), step * jnp.minimum(b, 1.0 + jnp.sqrt(b))
    in_a = (jax_betainc(a + step_a, b, x) - jax_betainc(a - step_a, b, x)) / (2 * step_a)
    in_b = (jax_betainc(a, b + step_b, x) - jax_betainc(a, b - step_b, x)) / (2 * step_b)
    return value, in_a * tangents[0] + in_b * tangents[1] + jnp.exp(_log_beta_density(a, b, x)) * tangents[2]


def _log_beta_density(a, b, x):
    return xlogy(a - 1, x) + xlog1py(b - 1, -x) + gammaln(a + b) - gammaln(a) - gammaln(b)


def _solve_increasing(function: Callable, log_slope: Callable, target, low, high):
    """Solve function(t) = target within [low, high], elementwise: Newton's step where it stays inside, else the middle.

    Stops when the largest bracket or step is down to rounding, after 100 steps at most (bisection alone needs 60).
    """
    tolerance = 2 * jnp.finfo(target.dtype).eps

    def narrow(state):
        t, low, high, _, count = state
        excess = function(t) - target
        low, high = jnp.where(excess < 0, t, low), jnp.where(excess < 0, high, t)
        newton = t - excess * jnp.exp(-log_slope(t))
        inside = (newton > low) & (newton < high)
        new = jnp.where(inside, newton, 0.5 * (low + high))
        settled = (jnp.abs(new - t) <= tolerance * jnp.maximum(jnp.abs(t), 1.0)) | (excess == 0)
        return jnp.where(excess == 0, t, new), low, high, jnp.all(settled), count + 1

    def unsettled(state):
        return ~state[3] & (state[4] < 100)

    return jax.lax.while_loop(unsettled, narrow, (0.5 * (low + high), low, high, jnp.array(False), 0))[0]


def _gamma_quantile(a, p, q):
    """X with P(a, x) = p = 1 - q, found in log x. The smaller of p and q is the one that is accurate.

    Bounds: P(a, x) <= x^a / Gamma(a + 1), and 1 - P(a, a + sqrt(2 a s) + s) <= exp(-s) (Boucheron, Lugosi and Massart,
    Concentration Inequalities, theorem 2.3).
    """
    tiny = jnp.finfo(p.dtype).tiny
    surplus = -jnp.log(jnp.maximum(q, tiny))
    low = (jnp.log(jnp.maximum(p, tiny)) + gammaln(a + 1)) / a
    high = jnp.log(a + jnp.sqrt(2 * a * surplus) + surplus) + 1e-3
    use_upper = p > 0.5

    def function(t):
        x = jnp.exp(t)
        return jnp.where(use_upper, -gammaincc(a, x), gammainc(a, x))

    def log_slope(t):
        return a * t - jnp.exp(t) - gammaln(a)

    low, high = jnp.minimum(low, high) - 1e-3, jnp.maximum(low, high)
    t = _solve_increasing(function, log_slope, jnp.where(use_upper, -q, p), low, high)
    return jnp.where(p <= 0, 0.0, jnp.where(q <= 0, jnp.inf, jnp.exp(t)))


def _gamma_quantile_tangent(a, x, a_tangent, p_tangent):
    _, in_a = jax.jvp(lambda a: gammainc(a, x), (a,), (a_tangent,))
    density = jnp.exp(xlogy(a - 1, x) - x - gammaln(a))
    return (p_tangent - in_a) / density


@jax.custom_jvp
def gammaincinv(a: Array, p: Array) -> Array:
    """Inverse in x of the regularised lower incomplete gamma function P(a, x); arguments are floats of one shape."""
    return _gamma_quantile(a, p, 1 - p)


@gammaincinv.defjvp
def _gammaincinv_jvp(primals, tangents):
    x = gammaincinv(*primals)
    return x, _gamma_quantile_tangent(primals[0], x, *tangents)


@jax.custom_jvp
def gammainccinv(a: Array, q: Array) -> Array:
    """Inverse in x of the regularised upper incomplete gamma function Q(a, x); arguments are floats of one shape."""
    return _gamma_quantile(a, 1 - q, q)


@gammainccinv.defjvp
def _gammainccinv_jvp(primals, tangents):
    x = gammainccinv(*primals)
    return x, _gamma_quantile_tangent(primals[0], x, tangents[0], -tangents[1])


@jax.custom_jvp
def betaincinv(a: Array, b: Array, p: Array) -> Array:
    """Inverse in x of the regularised incomplete beta function I_x(a, b); arguments are floats of one shape.

    Found in logit x, and on the side where x is small, because 1 - x cannot be told from 1 there.
    """
    mirrored = jax_betainc(a, b, jnp.full_like(p, 0.5)) < p
    left, right = jnp.where(mirrored, b, a), jnp.where(mirrored, a, b)
    target = jnp.where(mirrored, 1 - p, p)
    low = jnp.full_like(p, jnp.log(jnp.finfo(p.dtype).tiny))
    high = jnp.full_like(p, 1e-3)

    def function(t):
        return jax_betainc(left, right, jax.nn.sigmoid(t))

    def log_slope(t):
        x = jax.nn.sigmoid(t)
        return _log_beta_density(left, right, x) + jnp.log(x) + jnp.log1p(-x)

    t = _solve_increasing(function, log_slope, target, low, high)
    x = jnp.where(target <= 0, 0.0, jax.nn.sigmoid(t))
    return jnp.where(mirrored, 1 - x, x)


@betaincinv.defjvp
def _betaincinv_jvp(primals, tangents):
    a, b, p = primals
    x = betaincinv(a, b, p)
    _, in_shapes = jax.jvp(lambda a, b: betainc(a, b, x), (a, b), tuple(tangents[:2]))
    return x, (tangents[2] - in_shapes) / jnp.exp(_log_beta_density(a, b, x))
