"""Samplers in JAX for the random variables whose conversion PyTensor lacks.

Each entry follows PyTensor's protocol for ``jax_sample_fn``: from an Op and its node it makes a function
``(key, size, dtype, *parameters) -> draws``, where ``size`` is a tuple or None (then the parameters' common shape).
They answer only within `posterion.frontends.pymc.dispatch.repaired`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytensor.tensor.random.basic as ptr
from jax import random
from pymc.distributions import continuous, discrete, multivariate

SAMPLERS: dict[type, Callable] = {}
"""Class of random variable to its sampler in PyTensor's protocol."""


def _elementwise(op_class: type) -> Callable[[Callable], Callable]:
    """Enter ``draw(key, shape, *parameters)`` for a scalar distribution; parameters arrive as floats of that shape."""

    def enter(draw: Callable) -> Callable:
        def convert(op, node):
            def sample(key, size, dtype, *parameters):
                float_type = jnp.result_type(float)
                arrays = [jnp.asarray(p, dtype=float_type) for p in parameters]
                shape = jnp.broadcast_shapes(*(a.shape for a in arrays)) if size is None else tuple(size)
                return draw(key, shape, *(jnp.broadcast_to(a, shape) for a in arrays))

            return sample

        SAMPLERS[op_class] = convert
        return draw

    return enter


def _core(op_class: type) -> Callable[[Callable], Callable]:
    """Enter ``draw(node, key, size, *parameters)`` for a distribution over vectors or matrices."""

    def enter(draw: Callable) -> Callable:
        def convert(op, node):
            def sample(key, size, dtype, *parameters):
                float_type = jnp.result_type(float)
                size = None if size is None else tuple(size)
                return draw(node, key, size, *(jnp.asarray(p, dtype=float_type) for p in parameters))

            return sample

        SAMPLERS[op_class] = convert
        return draw

    return enter


# -------------------------------------------------------------------------------- continuous


def inverse_log_ndtr(log_p: jax.Array) -> jax.Array:
    """Solve log Phi(x) = log_p, also where Phi(x) itself underflows.

    ``ndtri(exp(log_p))`` while that is accurate; below, Newton's iteration from the tail's expansion. log Phi is
    concave and increasing, so that the iteration converges from one side, quadratically.
    """
    in_tail = log_p < -10.0
    tail = jnp.where(in_tail, log_p, -20.0)
    x = -jnp.sqrt(-2.0 * tail - jnp.log(-4.0 * jnp.pi * tail))
    for _ in range(4):
        log_cdf = jax.scipy.special.log_ndtr(x)
        log_pdf = -0.5 * x**2 - 0.5 * jnp.log(2.0 * jnp.pi)
        x = x - (log_cdf - tail) * jnp.exp(log_cdf - log_pdf)
    body = jax.scipy.special.ndtri(jnp.exp(jnp.where(in_tail, -1.0, log_p)))
    return jnp.where(in_tail, x, body)


@_elementwise(continuous.TruncatedNormalRV)
def _truncated_normal(key, shape, mu, sigma, lower, upper):
    # jax.random.truncated_normal inverts erf, which is 1 from 4 (float32) or 6 (float64) standard deviations on.
    # Here the interval is mirrored to the side where Phi is small, and Phi is inverted from its logarithm.
    a, b = (lower - mu) / sigma, (upper - mu) / sigma
    mirror = a > -b
    low, high = jnp.where(mirror, -b, a), jnp.where(mirror, -a, b)
    u = random.uniform(key, shape, dtype=mu.dtype, minval=jnp.finfo(mu.dtype).tiny)
    log_low, log_high = jax.scipy.special.log_ndtr(low), jax.scipy.special.log_ndtr(high)
    x = inverse_log_ndtr(jnp.logaddexp(jnp.log1p(-u) + log_low, jnp.log(u) + log_high))
    x = jnp.clip(x, low, high)
    return mu + sigma * jnp.where(mirror, -x, x)


@_elementwise(continuous.SkewNormalRV)
def _skew_normal(key, shape, mu, sigma, alpha):
    first, second = random.normal(key, (2, *shape), dtype=mu.dtype)
    delta = alpha / jnp.sqrt(1.0 + alpha**2)
    return mu + sigma * (delta * jnp.abs(first) + jnp.sqrt(1.0 - delta**2) * second)


@_elementwise(continuous.SkewStudentTRV)
def _skew_student_t(key, shape, a, b, mu, sigma):
    # Jones and Faddy (2003): t = sqrt(a + b) (2 B - 1) / (2 sqrt(B (1 - B))), B ~ Beta(a, b), with B = U / (U + V).
    key_a, key_b = random.split(key)
    u = random.gamma(key_a, a, shape, dtype=mu.dtype)
    v = random.gamma(key_b, b, shape, dtype=mu.dtype)
    return mu + sigma * jnp.sqrt(a + b) * (u - v) / (2.0 * jnp.sqrt(u * v))


@_elementwise(ptr.WeibullRV)
def _weibull(key, shape, concentration):
    return random.exponential(key, shape, dtype=concentration.dtype) ** (1.0 / concentration)


@_elementwise(ptr.TriangularRV)
def _triangular(key, shape, lower, mode, upper):
    u = random.uniform(key, shape, dtype=lower.dtype)
    rising = lower + jnp.sqrt(u * (upper - lower) * (mode - lower))
    falling = upper - jnp.sqrt((1.0 - u) * (upper - lower) * (upper - mode))
    return jnp.where(u * (upper - lower) < mode - lower, rising, falling)


@_elementwise(continuous.RiceRV)
def _rice(key, shape, b, sigma):
    first, second = random.normal(key, (2, *shape), dtype=b.dtype)
    return sigma * jnp.hypot(first + b, second)


@_elementwise(continuous.MoyalRV)
def _moyal(key, shape, mu, sigma):
    return mu - 2.0 * sigma * jnp.log(jnp.abs(random.normal(key, shape, dtype=mu.dtype)))


@_elementwise(continuous.WaldRV)
def _wald(key, shape, mu, lam, shift):
    # Michael, Schucany and Haas (1976). The smaller root is written without the difference of large numbers.
    key_normal, key_uniform = random.split(key)
    w = mu * random.normal(key_normal, shape, dtype=mu.dtype) ** 2 / lam
    x = mu / (1.0 + 0.5 * w + jnp.sqrt(w + 0.25 * w**2))
    u = random.uniform(key_uniform, shape, dtype=mu.dtype)
    return jnp.where(u * (mu + x) <= mu, x, mu**2 / x) + shift


@_elementwise(ptr.HalfCauchyRV)
def _half_cauchy(key, shape, loc, scale):
    return loc + scale * jnp.abs(random.cauchy(key, shape, dtype=loc.dtype))


@_elementwise(ptr.TruncExponentialRV)
def _truncated_exponential(key, shape, upper, loc, scale):
    u = random.uniform(key, shape, dtype=loc.dtype)
    return loc - scale * jnp.log1p(u * jnp.expm1(-upper))


@_core(continuous.InterpolatedRV)
def _interpolated(node, key, size, x, pdf, cdf):
    # The density is linear between knots, so the distribution function is quadratic there: solve it in the cell found.
    batch = jnp.broadcast_shapes(x.shape[:-1], pdf.shape[:-1], cdf.shape[:-1]) if size is None else size
    p = random.uniform(key, batch, dtype=x.dtype)
    x, pdf, cdf = (jnp.broadcast_to(v, (*batch, v.shape[-1])) for v in (x, pdf, cdf))
    cell = jnp.sum(cdf[..., 1:-1] <= p[..., None], axis=-1, keepdims=True)

    def left(v):
        return jnp.take_along_axis(v, cell, axis=-1)[..., 0]

    def right(v):
        return jnp.take_along_axis(v, cell + 1, axis=-1)[..., 0]

    slope = (right(pdf) - left(pdf)) / (right(x) - left(x))
    rest = p - left(cdf)
    # (-f + sqrt(f^2 + 2 s r)) / s, written so that s = 0 needs no case of its own.
    root = jnp.sqrt(jnp.maximum(left(pdf) ** 2 + 2.0 * slope * rest, 0.0))
    denominator = left(pdf) + root
    step = jnp.where(denominator > 0, 2.0 * rest / jnp.where(denominator > 0, denominator, 1.0), 0.0)
    return left(x) + step


# -------------------------------------------------------------------------------- discrete


@_elementwise(discrete.DiscreteUniformRV)
def _discrete_uniform(key, shape, lower, upper):
    integer = jnp.result_type(int)
    return random.randint(key, shape, lower.astype(integer), upper.astype(integer) + 1, dtype=integer)


@_elementwise(ptr.HyperGeometricRV)
def _hypergeometric(key, shape, good, bad, num_drawn):
    # The urn itself: one ball after the other, as many rounds as the largest number drawn.
    def draw_one(i, state):
        good_left, bad_left, hits = state
        drawing = i < num_drawn
        u = random.uniform(random.fold_in(key, i), shape, dtype=good.dtype)
        hit = drawing & (u * (good_left + bad_left) < good_left)
        miss = drawing & ~hit
        return good_left - hit, bad_left - miss, hits + hit

    rounds = jnp.max(num_drawn, initial=0).astype(int)
    return jax.lax.fori_loop(0, rounds, draw_one, (good, bad, jnp.zeros_like(good)))[2]


# -------------------------------------------------------------------------------- vectors and matrices


@_core(multivariate.StickBreakingWeightsRV)
def _stick_breaking_weights(node, key, size, alpha, num_sticks):
    num_weights = node.outputs[1].type.shape[-1]
    if num_weights is None:
        raise NotImplementedError("The number of sticks of StickBreakingWeights must be a constant.")
    batch = alpha.shape if size is None else size
    shape = (*batch, num_weights - 1)
    # 1 - Beta(1, alpha) = U^(1 / alpha)
    log_left = -random.exponential(key, shape, dtype=alpha.dtype) / jnp.broadcast_to(alpha, batch)[..., None]
    log_before = jnp.cumsum(log_left, axis=-1) - log_left
    weights = jnp.exp(log_before) * -jnp.expm1(log_left)
    return jnp.concatenate([weights, jnp.exp(jnp.sum(log_left, axis=-1, keepdims=True))], axis=-1)


@_core(multivariate.MatrixNormalRV)
def _matrix_normal(node, key, size, mu, row_cholesky, column_cholesky):
    batch = (
        jnp.broadcast_shapes(mu.shape[:-2], row_cholesky.shape[:-2], column_cholesky.shape[:-2])
        if size is None
        else size
    )
    shape = (*batch, row_cholesky.shape[-1], column_cholesky.shape[-1])
    noise = random.normal(key, shape, dtype=mu.dtype)
    return jnp.broadcast_to(mu, shape) + row_cholesky @ noise @ jnp.swapaxes(column_cholesky, -1, -2)


@_core(multivariate.CARRV)
def _conditional_autoregression(node, key, size, mu, adjacency, alpha, tau, adjacency_is_valid):
    # Precision Q = tau (D - alpha W) = L L'; mu + L'^-1 noise has covariance Q^-1, as in PyMC's density. PyMC's own
    # draws (6.4) solve with both factors and have covariance Q^-2.
    adjacency = adjacency.reshape(adjacency.shape[-2:])
    alpha, tau = alpha.reshape(()), tau.reshape(())
    precision = tau * (jnp.diag(jnp.sum(adjacency, axis=0)) - alpha * adjacency)
    shape = mu.shape if size is None else (*size, mu.shape[-1])
    noise = random.normal(key, shape, dtype=mu.dtype)
    lower = jnp.linalg.cholesky(precision)
    correlated = jax.scipy.linalg.solve_triangular(lower.T, noise.reshape(-1, shape[-1]).T, lower=False)
    return jnp.broadcast_to(mu, shape) + correlated.T.reshape(shape)
