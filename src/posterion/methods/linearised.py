r"""Linearised Laplace for networks: a mode, the Gauss-Newton curvature there, and the tangent's predictions.

The hyperparameters h (scales of priors, noise) are chosen by the marginal likelihood

.. math:: \log p(y, h) \approx \log p(y, \hat w, h) + \tfrac{D}{2} \log 2\pi - \tfrac12 \log \det H(h)

while the weights are fitted: the two take turns, h by steps of expectation maximisation in the tangent model. A joint
mode of weights and scales would be of no use: its density is largest where scale and weights are all zero.

References
----------
.. [1] Immer, Korzepa and Bauer (2021), Improving predictions of Bayesian neural nets via local linearization. AISTATS.
.. [2] Immer, Bauer, Fortuin, Rätsch and Khan (2021), Scalable marginal likelihood estimation for model selection in
   deep learning. ICML.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.compilation.minor_axis import unpack
from posterion.errors import DegenerateError, OptionError, UnsupportedModelError
from posterion.families import AbstractFamily
from posterion.methods.base import AbstractDirectMethod, Problem, Solution
from posterion.methods.gaussian import full_rank, mean_field
from posterion.methods.ggn import Rows
from posterion.methods.network_search import (
    LARGEST_MATRIX,
    entries_of,
    minimise_along,
    places_in,
    spreads_of,
    unmoved,
)
from posterion.methods.weight_gaussians import (
    AbstractShape,
    Diagonal,
    KroneckerFactors,
    WeightGaussian,
    Whole,
    dense_layer,
)
from posterion.target import AbstractNetworkTarget
from posterion.target.linearised import LinearisedTarget

_LARGEST_FULL = 2000
"""Weights up to which "auto" takes the whole matrix: a second or two of linear algebra."""
_FIRST_ITERATIONS, _LATER_ITERATIONS, _LAST_ITERATIONS = 300, 60, 300
_SETTLED = 0.02
"""Change of every hyperparameter (a logarithm, mostly) below which they have settled."""
_TURNS_AT_A_MODE = 3
_PATIENCE = 3
"""Turns without a higher marginal likelihood after which the best so far is taken."""


@dataclass(frozen=True)
class LinearisedLaplace(AbstractDirectMethod):
    """A Gaussian over a network's weights at a mode, and predictions of the network's tangent there.

    Scales of priors and the noise are chosen by marginal likelihood as it goes.

    Parameters
    ----------
    curvature
        "full"; "diagonal"; "kronecker", for the last layer, if that is dense: a factor for its inputs and one for its
        outputs, exact for Gaussian noise and far cheaper for many classes; or "auto": the whole matrix for up to 2,000
        weights, beyond that the whole matrix of the last layer.
    weights
        None for all weights, "last" for the last layer (those in which the output is linear), or names or patterns of
        variables (``"layers.2.*"``). The others are held at the mode.
    learn
        Whether to choose the hyperparameters by marginal likelihood; otherwise they stay where they start, as do the
        scales of the priors of weights that are held at the mode: with those they have no useful joint mode.
    turns
        Most turns that weights and hyperparameters take.

    Raises
    ------
    OptionError
        For options out of range; at the fit, for a matrix that does not fit into memory.
    UnsupportedModelError
        At the fit, for a model that is not a network of `posterion.network`.

    Notes
    -----
    Extras of the posterior: ``log_marginal_likelihood`` of the start that was kept. ``restarts`` are compared by it.
    """

    curvature: str = "auto"
    weights: str | tuple[str, ...] | None = None
    learn: bool = True
    turns: int = 15

    def __post_init__(self) -> None:
        if self.curvature not in ("auto", "full", "diagonal", "kronecker"):
            raise OptionError(f"curvature must be 'auto', 'full', 'diagonal' or 'kronecker', not {self.curvature!r}")
        if not isinstance(self.turns, int) or self.turns < 1:
            raise OptionError(f"turns must be a whole number from 1 on, not {self.turns!r}")

    def solve(self, problem: Problem) -> Solution:
        target = problem.target
        if not isinstance(target, AbstractNetworkTarget):
            raise UnsupportedModelError(
                "LinearisedLaplace needs a network whose output it can take hold of: make the model by "
                "posterion.network(...). Laplace() does not linearise, and takes any model"
            )
        if problem.kl_weight != 1.0:
            raise OptionError("LinearisedLaplace chooses scales and noise by the evidence, which has no tempered form")
        search = _Search(self, problem, target)
        found = [search.run(start) for start in problem.starts]
        best = max(found, key=lambda one: one.evidence)
        linearised = LinearisedTarget(target, best.z, search.free)
        family, params = search.approximation(best, linearised)
        which = f"{len(search.indices):,} of {search.num_weights:,} weights" if search.partial else "all weights"
        chosen = f"; prior and noise chosen by marginal likelihood in {best.turns} turns" if search.hyper.size else ""
        return Solution(
            family=family,
            params=params,
            converged=best.settled,
            sentence=f"found a mode and the {search.shape.kind} Gauss-Newton curvature of {which}{chosen}",
            evaluations=search.evaluations,
            extras={"log_marginal_likelihood": np.asarray(best.evidence)},
            target=linearised,
        )


@dataclass(frozen=True, eq=False)
class _Found:
    """A mode, the root of its covariance (or standard deviations), and what is known of the hyperparameters."""

    z: Float[np.ndarray, " dim"]
    step: np.ndarray
    root: np.ndarray
    hyper_sd: np.ndarray
    evidence: float
    turns: int
    settled: bool


class _Search:
    """One fit's programs and settings, for all of its starts."""

    def __init__(self, method: LinearisedLaplace, problem: Problem, target: AbstractNetworkTarget) -> None:
        self._method, self._problem, self._target = method, problem, target
        layout = target.layout
        at = partial(entries_of, layout)
        weights = [v.name for v in layout.variables if v.name not in target.hyperparameters]
        self._every_hyper, self._moving = at(target.hyperparameters), at(weights)
        self.num_weights = len(self._moving)
        data = unpack(problem.batch.data)
        chosen, full = self._chosen(weights, data), method.curvature != "diagonal"
        size = len(at(chosen))
        if method.curvature == "auto" and method.weights is None and size > _LARGEST_FULL:
            chosen = last_layer(target, data, problem.starts[0])
            size = len(at(chosen))
            full = size <= LARGEST_MATRIX
        if full and size > LARGEST_MATRIX:
            raise OptionError(
                f"the curvature of {size:,} weights is a matrix of {8 * size**2 / 2**30:.1f} GiB, and its inverse "
                "takes minutes; use weights='last', or curvature='diagonal'"
            )
        self.indices, self.partial = at(chosen), len(chosen) < len(weights)
        self.evaluations = 0
        self._rows = Rows(target, data, self.indices)
        learned = [
            n for n in target.hyperparameters if not self.partial or self._rows.depend_on(at([n]), problem.starts[0])
        ]
        self.hyper = at(learned)
        self.free = tuple(v.name for v in layout.variables if v.name in chosen or v.name in learned)
        make = lambda what, function: problem.program(("linearised", chosen, method.curvature, what), function)
        if method.curvature == "kronecker":
            positions = dense_layer(self._rows, [len(at([name])) for name in chosen], problem.starts[0])
            self.shape: AbstractShape = KroneckerFactors(self._rows, make, positions)
        else:
            self.shape = (Whole if full else Diagonal)(self._rows, make)
        self._value = make("value", self._fit_of_weights)
        self._expected = make("expected", jax.value_and_grad(self._rows.expected(self.hyper)))
        self._prior = make("prior", self._rows.prior_precision)
        self._dtype = jnp.result_type(float)

    def _chosen(self, weights: list[str], data: Any) -> tuple[str, ...]:
        wanted = self._method.weights
        if wanted is None and self._method.curvature == "kronecker":
            wanted = "last"
        if wanted is None:
            return tuple(weights)
        if wanted == "last":
            return last_layer(self._target, data, self._problem.starts[0])
        patterns = (wanted,) if isinstance(wanted, str) else wanted
        found = tuple(n for n in weights if any(fnmatchcase(n, p) or n.startswith(f"{p}.") for p in patterns))
        if not found:
            raise OptionError(f"weights={wanted!r} names no weights; there are {', '.join(map(repr, weights))}")
        return found

    def _fit_of_weights(self, z: Any, batch: Any) -> tuple[Any, Any]:
        return jax.value_and_grad(lambda z: -self._problem.log_joint(z, batch))(z)

    # ---- the weights, given the hyperparameters
    def _minimise(self, z: np.ndarray, iterations: int) -> np.ndarray:
        def evaluate(there: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._value(there.astype(self._dtype), self._problem.batch)
            self.evaluations += 1
            self._problem.report(self.evaluations, None, float(value), "Finding the mode")
            return float(value), np.asarray(gradient, np.float64)

        return minimise_along(evaluate, z, self._moving, iterations)

    # ---- the Gaussian, given both
    def _gaussian(self, z: np.ndarray) -> WeightGaussian:
        at = z.astype(self._dtype)
        prior = np.asarray(self._prior(at), np.float64)
        if not np.all(prior > 0):
            raise DegenerateError(
                "the prior of the weights does not curve downwards at the mode, so it gives no Gaussian: use normal "
                "priors ('learned_scale', 'fan_in', InformedPrior) with LinearisedLaplace"
            )
        return self.shape.gaussian(at, prior)

    def _evidence(self, z: np.ndarray, log_det: float) -> float:
        value, _ = self._value(z.astype(self._dtype), self._problem.batch)
        return -float(value) + 0.5 * len(self.indices) * np.log(2 * np.pi) - 0.5 * log_det

    # ---- the hyperparameters, given the Gaussian
    def _expectation(self, z: np.ndarray, gaussian: WeightGaussian) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        at = z.astype(self._dtype)
        outputs, spreads = self.shape.spread(at, gaussian)
        variances = gaussian.variances.astype(self._dtype)

        def function(h: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._expected(h.astype(self._dtype), at, variances, outputs, spreads, self._rows.blocks)
            value, gradient = -float(value), -np.asarray(gradient, np.float64)
            if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
                return 1e30, np.zeros_like(h)
            return value, gradient

        return function

    def _maximise(self, z: np.ndarray, gaussian: WeightGaussian) -> np.ndarray:
        from scipy.optimize import minimize

        function, h = self._expectation(z, gaussian), z[self.hyper]
        bounds = [(value - 2.0, value + 2.0) for value in h]  # the expectation is a local expansion
        found = minimize(function, h, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 20})
        new = z.copy()
        new[self.hyper] = found.x
        return new

    def _hyper_sd(self, z: np.ndarray, gaussian: WeightGaussian) -> np.ndarray:
        """From the curvature of the expectation."""
        function, h = self._expectation(z, gaussian), z[self.hyper]
        return spreads_of(lambda there: function(there)[1], h, np.arange(h.size))

    def run(self, start: Float[np.ndarray, " dim"]) -> _Found:
        """Weights and hyperparameters in turns, from one starting point."""
        z = np.asarray(start, np.float64).copy()
        z[self._every_hyper] = self._target.initial_point(0)[self._every_hyper]  # not jittered
        z = self._minimise(z, _FIRST_ITERATIONS)
        learn, turns, settled = self._method.learn and bool(self.hyper.size), 0, True
        if learn:
            z, turns, settled = self._take_turns(z)
            z = self._minimise(z, _LAST_ITERATIONS)
        gaussian = self._gaussian(z)
        sd = self._hyper_sd(z, gaussian) if learn else unmoved(self.hyper.size)
        _, gradient = self._value(z.astype(self._dtype), self._problem.batch)
        slope = -np.asarray(gradient, np.float64)[self.indices]
        # What is left of the way to the tangent model's own mode.
        step = gaussian.times(slope)
        return _Found(z, step, gaussian.root, sd, self._evidence(z, gaussian.log_det), turns, settled)

    def _take_turns(self, z: np.ndarray) -> tuple[np.ndarray, int, bool]:
        """The best point by marginal likelihood, the turns taken, and whether the hyperparameters settled.

        Not the last point: as scales grow the weights can slide into a mode of another kind, which fits the data ever
        more closely and explains them worse.
        """
        gaussian = self._gaussian(z)
        best, highest, since = z, self._evidence(z, gaussian.log_det), 0
        for turn in range(1, self._method.turns + 1):
            before = z[self.hyper].copy()
            for again in range(_TURNS_AT_A_MODE):
                z = self._maximise(z, gaussian if not again else self._gaussian(z))
            z = self._minimise(z, _LATER_ITERATIONS)
            gaussian = self._gaussian(z)
            evidence = self._evidence(z, gaussian.log_det)
            since = since + 1
            if evidence > highest:
                best, highest, since = z, evidence, 0
            if np.all(np.abs(z[self.hyper] - before) < _SETTLED):
                return best, turn, True
            if since >= _PATIENCE:
                return best, turn, True
        return best, self._method.turns, False

    def approximation(self, found: _Found, target: LinearisedTarget) -> tuple[AbstractFamily, PyTree]:
        """The Gaussian over what is free in the linearised target; hyperparameters are independent of the weights."""
        own, hyper = places_in(target, self.indices), places_in(target, self.hyper)
        size = len(target.indices)
        location = found.z[target.indices].copy()
        location[own] += found.step
        if found.root.ndim == 1:
            scale = np.empty(size)
            scale[own], scale[hyper] = found.root, found.hyper_sd
            return mean_field(location, scale)
        root = np.zeros((size, size))
        root[np.ix_(own, own)] = found.root
        root[hyper, hyper] = found.hyper_sd
        return full_rank(location, root)


def last_layer(
    target: AbstractNetworkTarget, data: Any, z: Float[np.ndarray, " dim"], rows: int = 32
) -> tuple[str, ...]:
    """The variables in which the output is linear: the weights of the last layer, whatever library it is of.

    Found by what the network does: each variable is moved to and fro, and where the output moves by as much either way
    it is linear.

    Parameters
    ----------
    target, data
        The network and its data.
    z
        A point in general position.
    rows
        How many rows to look at.

    Raises
    ------
    UnsupportedModelError
        If there are none.
    """
    axes = {name: slot.row_axis or 0 for name, slot in target.slots.items()}
    cut = lambda value, axis: np.moveaxis(np.moveaxis(np.asarray(value), axis, 0)[:rows], 0, axis)
    some = {name: cut(value, axes[name]) for name, value in data.items()}
    random, layout = np.random.default_rng(0), target.layout
    flat = lambda z: jnp.concatenate([jnp.ravel(head) for head in target.output(z, some).values()])
    program = jax.jit(flat)
    dtype = jnp.result_type(float)
    base = np.asarray(z, np.float64) + 0.1 * random.standard_normal(layout.size)
    here = np.asarray(program(base.astype(dtype)), np.float64)
    found = []
    for variable in layout.variables:
        if variable.name in target.hyperparameters:
            continue
        step = np.zeros(layout.size)
        at = layout.slices[variable.name]
        step[at] = 3.0 * random.standard_normal(variable.size) / np.sqrt(max(1, variable.size) ** 0.5)
        ahead, behind = (np.asarray(program((base + sign * step).astype(dtype)), np.float64) for sign in (1, -1))
        moved = np.abs(ahead - behind).max()
        if moved > 0 and np.abs(ahead + behind - 2 * here).max() < 1e-3 * moved:
            found.append(variable.name)
    if not found:
        raise UnsupportedModelError(
            "no weights of this network have a linear last layer to themselves: name the weights to be uncertain of, "
            "weights=('layers.2.*',)"
        )
    return tuple(found)
