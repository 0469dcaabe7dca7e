r"""The variational last layer: features and a Gaussian over the last layer's weights, found together without sampling.

With features :math:`\phi_n` (the inputs of the last layer, and 1 for its bias) and
:math:`q(w_k) = \mathcal N(\bar w_k, S_k)` for each output k, the output of a row is Gaussian,
:math:`f_{nk} \sim \mathcal N(\bar w_k^\top \phi_n,\, \phi_n^\top S_k \phi_n)`, and the evidence lower bound

.. math:: \sum_n E[\log p(y_n \mid f_n, h)] + E_q[\log p(w \mid h)] + H[q] + \log p(\theta, h)

needs no draws: its expectations are exact for Gaussian noise, by Gauss-Hermite quadrature for any likelihood of one or
two outputs, and for many classes bounded by :math:`E[\log \sum_k e^{f_k}] \le \log \sum_k e^{m_k + v_k / 2}`. The
other weights :math:`\theta` and the hyperparameters h are points that maximise it. Where its slope by :math:`S_k` is
zero,

.. math:: S_k^{-1} = P_k - 2 \sum_n \frac{\partial E[\log p(y_n \mid f_n)]}{\partial v_{nk}}\, \phi_n \phi_n^\top,

with P the prior's precision: the covariances are set to that, in turns with L-BFGS steps of all else.

References
----------
Harrison, Willes and Snoek (2024), Variational Bayesian last layers. ICLR. arXiv:2404.11599.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Float

from posterion._typing import Array, Data, PyTree
from posterion.compilation.minor_axis import unpack
from posterion.errors import DegenerateError, OptionError, UnsupportedModelError
from posterion.families import AbstractFamily
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.gaussian import full_rank
from posterion.methods.ggn import Rows
from posterion.methods.linearised import last_layer
from posterion.methods.network_search import LARGEST_MATRIX, entries_of, minimise_along, places_in, spreads_of
from posterion.methods.weight_gaussians import dense_layer
from posterion.target import AbstractNetworkTarget
from posterion.target.linearised import LinearisedTarget

_FIRST_ITERATIONS, _LATER_ITERATIONS = 300, 60
_SETTLED = 0.01
"""Nats that a turn gains, below which the bound has settled."""
_COVARIANCES_AT_A_TURN = 3
_NODES = {1: 20, 2: 10}
"""Of the quadrature along each output."""
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class VariationalLastLayer(AbstractDirectMethod):
    """A Gaussian over the last layer's weights in closed form, found together with the features below it.

    The layers below are points, fitted for the last layer's posterior and not for its mode alone; the noise and the
    last layer's prior scale maximise the bound as well.

    Parameters
    ----------
    turns
        Most turns that the covariances and all else take.

    Raises
    ------
    OptionError
        For options out of range; at the fit, where the last layer is not dense.
    UnsupportedModelError
        At the fit, for a model that is not a network of `posterion.network`, or a likelihood of more than two outputs
        that is not "categorical".

    Notes
    -----
    Extras of the posterior: ``bound``, the lower bound on the log evidence of the start that was kept, with the prior
    density of what is a point. ``restarts`` are compared by it.
    """

    turns: int = 30

    def __post_init__(self) -> None:
        if isinstance(self.turns, bool) or not isinstance(self.turns, int) or self.turns < 1:
            raise OptionError(f"turns must be a whole number from 1 on, not {self.turns!r}")

    @property
    def caveats(self) -> tuple[str, ...]:
        return ("layers below the last are one point: their uncertainty is not part of this posterior",)

    def solve(self, problem: Problem) -> Solution:
        target = problem.target
        if not isinstance(target, AbstractNetworkTarget):
            raise UnsupportedModelError(
                "VariationalLastLayer needs a network whose last layer it can take hold of: make the model by "
                "posterion.network(...)"
            )
        if problem.kl_weight != 1.0:
            raise OptionError("VariationalLastLayer has no tempered form: leave kl_weight at 1")
        search = _Search(problem, target)
        found = [search.run(start, self.turns) for start in problem.starts]
        best = max(found, key=lambda one: one.bound)
        tangent = LinearisedTarget(target, best.z, search.free)
        family, params = search.approximation(best, tangent)
        return Solution(
            family=family,
            params=params,
            converged=best.settled,
            sentence=f"the last layer's {len(search.indices):,} weights have a posterior in closed form, found with "
            f"{search.num_points:,} weights below in {best.turns} turns",
            evaluations=search.evaluations,
            extras={"bound": np.asarray(best.bound)},
            target=tangent,
        )


@dataclass(frozen=True, eq=False)
class _Found:
    z: Float[np.ndarray, " dim"]
    covariances: Float[np.ndarray, "outputs inputs inputs"]
    hyper_sd: Float[np.ndarray, " hyper"]
    bound: float
    turns: int
    settled: bool


class _Search:
    """One fit's programs, for all of its starts."""

    def __init__(self, problem: Problem, target: AbstractNetworkTarget) -> None:
        self._problem, self._target, layout = problem, target, target.layout
        at = partial(entries_of, layout)
        data, start = unpack(problem.batch.data), problem.starts[0]
        chosen = last_layer(target, data, start)
        self.indices = at(chosen)
        if len(self.indices) > LARGEST_MATRIX:
            raise OptionError(
                f"the last layer has {len(self.indices):,} weights, and their covariance would not fit into memory"
            )
        self._rows = Rows(target, data, self.indices)
        self._positions = dense_layer(self._rows, [len(at([name])) for name in chosen], start)
        learned = [name for name in target.hyperparameters if self._rows.depend_on(at([name]), start)]
        self.hyper, self._every_hyper = at(learned), at(target.hyperparameters)
        weights = [v.name for v in layout.variables if v.name not in target.hyperparameters]
        self._moving = np.concatenate([at(weights), self.hyper])
        self.num_points = len(at(weights)) - len(self.indices)
        self.free = tuple(v.name for v in layout.variables if v.name in chosen or v.name in learned)
        self.evaluations, self._dtype = 0, jnp.result_type(float)
        self._expected = self._expectation(start)
        make = lambda what, function: problem.program(("variational last layer", what), function)
        self._value = make("value", jax.value_and_grad(self._negative))
        self._precisions = make("precisions", self._precisions_of)

    # ---- what is compiled
    def _expectation(self, z: Float[np.ndarray, " dim"]) -> Callable[[Array, Array, Array, Data], Array]:
        """``(mean, variance, z, row) -> E[log p(y | f)]``, or a bound of it, with independent normal outputs f."""
        rows, outputs = self._rows, self._rows.outputs
        if outputs in _NODES:
            nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES[outputs])
            grid = np.stack([x.ravel() for x in np.meshgrid(*outputs * [nodes])], axis=1)
            mass = np.prod(np.stack([x.ravel() for x in np.meshgrid(*outputs * [weights])]), axis=0)
            mass = mass / mass.sum()

            def by_quadrature(mean: Array, variance: Array, z: Array, row: Data) -> Array:
                there = mean + jnp.sqrt(variance + _SMALLEST_VARIANCE) * jnp.asarray(grid, mean.dtype)
                values = jax.vmap(lambda f: rows.log_likelihood_of(f, z, row))(there)
                return jnp.asarray(mass, mean.dtype) @ values

            return by_quadrature

        def by_bound(mean: Array, variance: Array, z: Array, row: Data) -> Array:
            count = -rows.log_likelihood_of(jnp.zeros_like(mean), z, row) / np.log(outputs)  # rows this one counts for
            return rows.log_likelihood_of(mean, z, row) + count * (logsumexp(mean) - logsumexp(mean + variance / 2))

        self._check_softmax(z)
        return by_bound

    def _check_softmax(self, z: Float[np.ndarray, " dim"]) -> None:
        """By what the likelihood does: the log odds of all classes are differences of outputs."""
        rows, outputs = self._rows, self._rows.outputs
        f = np.random.default_rng(0).standard_normal(outputs)
        row = {name: value[0, 0] for name, value in rows.blocks[0].items()}
        at = jnp.asarray(z, jnp.result_type(float))
        of = lambda f: float(rows.log_likelihood_of(jnp.asarray(f, at.dtype), at, row))
        count = max(-of(np.zeros(outputs)) / np.log(outputs), 1e-12)
        if np.abs(of(f) / count + np.log(np.exp(f).sum()) - f).min() > 1e-4:
            raise UnsupportedModelError(
                f"VariationalLastLayer takes likelihoods of one or two outputs, or 'categorical'; this network has "
                f"{outputs} outputs of another kind"
            )

    def _of_rows(self, z: Array, covariances: Array, data: Data) -> tuple[Array, Array, Array]:
        """Features, means and variances of the outputs."""
        features = self._rows.features(self._positions[:, 0])
        phi, mean = jax.vmap(lambda row: (features(z, row), self._rows.output_of(z, row)))(data)
        return phi, mean, jnp.einsum("nh,khg,ng->nk", phi, covariances, phi)

    def _negative(self, z: Array, covariances: Array, blocks: Any) -> Array:
        """The negative bound but for the entropy of q, which has no slope by z."""
        variances = jnp.zeros(len(self.indices), z.dtype)
        variances = variances.at[self._positions].set(jnp.diagonal(covariances, axis1=1, axis2=2).T)
        prior = self._target.log_prior(z) - 0.5 * jnp.sum(variances * self._rows.prior_precision(z))

        @jax.checkpoint
        def of_block(z: Array, data: Data, weight: Array) -> Array:
            _, mean, variance = self._of_rows(z, covariances, data)
            return jnp.sum(weight * jax.vmap(self._expected, (0, 0, None, 0))(mean, variance, z, data))

        add = lambda total, block: (total + of_block(z, *block), None)
        return -prior - jax.lax.scan(add, jnp.zeros((), z.dtype), blocks)[0]

    def _precisions_of(self, z: Array, covariances: Array, blocks: Any) -> tuple[Array, Array]:
        """The likelihood's part of the best precisions, and the prior's, (outputs, inputs, inputs) and (weights,)."""

        def of_block(data: Data, weight: Array) -> Array:
            phi, mean, variance = self._of_rows(z, covariances, data)
            slope = jax.vmap(jax.grad(self._expected, 1), (0, 0, None, 0))(mean, variance, z, data)
            curve = weight[:, None] * jnp.maximum(-2 * slope, 0.0)
            return jnp.einsum("nk,nh,ng->khg", curve, phi, phi)

        add = lambda total, block: (total + of_block(*block), None)
        return jax.lax.scan(add, jnp.zeros_like(covariances), blocks)[0], self._rows.prior_precision(z)

    # ---- the turns
    def run(self, start: Float[np.ndarray, " dim"], turns: int) -> _Found:
        """From one starting point."""
        z = np.asarray(start, np.float64).copy()
        z[self._every_hyper] = self._target.initial_point(0)[self._every_hyper]  # not jittered
        covariances = self._best_covariances(z, None)
        before, turn, settled = -np.inf, 0, False
        for turn in range(1, turns + 1):
            z = self._minimise(z, covariances, _FIRST_ITERATIONS if turn == 1 else _LATER_ITERATIONS)
            for _ in range(_COVARIANCES_AT_A_TURN):
                covariances = self._best_covariances(z, covariances)
            bound = self._bound(z, covariances)
            settled = bound - before < _SETTLED
            before = bound
            if settled:
                break
        return _Found(z, covariances, self._hyper_sd(z, covariances), before, turn, settled)

    def _slope(self, z: np.ndarray, covariances: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._value(z.astype(self._dtype), covariances.astype(self._dtype), self._rows.blocks)
        return float(value), np.asarray(gradient, np.float64)

    def _bound(self, z: np.ndarray, covariances: np.ndarray) -> float:
        entropy = 0.5 * np.linalg.slogdet(covariances)[1].sum() + 0.5 * len(self.indices) * np.log(2 * np.pi * np.e)
        return float(entropy) - self._slope(z, covariances)[0]

    def _best_covariances(self, z: np.ndarray, covariances: np.ndarray | None) -> np.ndarray:
        """Where the bound's slope by them is zero; None for the prior's to begin with."""
        inputs, outputs = self._positions.shape
        known = np.broadcast_to(np.eye(inputs), (outputs, inputs, inputs)) if covariances is None else covariances
        curvature, prior = jax.device_get(
            self._precisions(z.astype(self._dtype), known.astype(self._dtype), self._rows.blocks)
        )
        curvature, prior = np.asarray(curvature, np.float64), np.asarray(prior, np.float64)
        if not np.all(prior > 0):
            raise DegenerateError(
                "the prior of the last layer has to be normal given its scale ('learned_scale', 'fan_in', "
                "InformedPrior, dist.Normal) for VariationalLastLayer"
            )
        if covariances is None:
            return np.stack([np.diag(1 / prior[self._positions[:, k]]) for k in range(outputs)])
        if not np.all(np.isfinite(curvature)):
            raise DegenerateError("the curvature of the likelihood is not finite")
        found = np.empty_like(curvature)
        for k in range(outputs):
            unit = 1 / np.sqrt(prior[self._positions[:, k]])  # in units of the prior no eigenvalue is below one
            within = (curvature[k] + curvature[k].T) / 2 * unit * unit[:, None] + np.eye(inputs)
            found[k] = np.linalg.inv(within) * unit * unit[:, None]
        return (found + found.transpose(0, 2, 1)) / 2

    def _minimise(self, z: np.ndarray, covariances: np.ndarray, iterations: int) -> np.ndarray:
        def evaluate(there: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._slope(there, covariances)
            self.evaluations += 1
            self._problem.report(self.evaluations, None, value, "Features and last layer")
            return value, gradient

        return minimise_along(evaluate, z, self._moving, iterations)

    def _hyper_sd(self, z: np.ndarray, covariances: np.ndarray) -> np.ndarray:
        """From the bound's curvature by the hyperparameters."""
        return spreads_of(lambda there: self._slope(there, covariances)[1], z, self.hyper)

    def approximation(self, found: _Found, target: LinearisedTarget) -> tuple[AbstractFamily, PyTree]:
        """The Gaussian over what is free; outputs and hyperparameters are independent."""
        own, hyper = places_in(target, self.indices), places_in(target, self.hyper)
        root = np.zeros((len(target.indices), len(target.indices)))
        for k, covariance in enumerate(found.covariances):
            entries = own[self._positions[:, k]]
            root[np.ix_(entries, entries)] = np.linalg.cholesky(covariance)
        root[hyper, hyper] = found.hyper_sd
        return full_rank(found.z[target.indices], root)
