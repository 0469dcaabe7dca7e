"""Where fits begin: random points near the model's initial one, and the mode in whitened coordinates."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.engine.task import Task
from posterion.families import AbstractEmpirical, AbstractFamily, AbstractGaussian, LowRank
from posterion.methods.starts import curvatures, pays, well_scaled, whiten
from posterion.target import Layout

STARTING_SCALE = float(np.exp(-2))
_MOST_ROWS_TIMES_DIM = 1e8
_MOMENT_DRAWS = 4096
_FARTHEST = 10.0
"""Times as far as the first random start the others may lie: each goes farther, for modes that are far apart."""


@dataclass(frozen=True)
class StartingPoint:
    """Where a fit begins: in coordinates ``z = shift + scale * u``, around ``location``, as wide as ``spread``.

    Parameters
    ----------
    seed
        Of what else the family starts with at random.
    location, spread
        In the units of ``u``.
    shift, scale
        The coordinates; ``scale`` is a lower-triangular matrix for a linear family of few enough dimensions.
    params
        The family's parameters in the units of ``u``, where they are known; they are then what the fit begins with.
    """

    seed: int
    location: Float[np.ndarray, " dim"]
    spread: Float[np.ndarray, " dim"]
    shift: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"] | Float[np.ndarray, "dim dim"]
    params: PyTree = None

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Everything but the seed and the parameters, in the precision that is in force."""
        return tuple(x.astype(jnp.result_type(float)) for x in (self.location, self.spread, self.shift, self.scale))


def in_own_coordinates(
    family: AbstractFamily, dim: int, seed: int = 0, location: Float[np.ndarray, " dim"] | None = None
) -> StartingPoint:
    """In the units of the model, narrow, around ``location`` or zero."""
    location = np.zeros(dim) if location is None else location
    one = np.eye(dim) if family.linear and pays(dim) else np.ones(dim)
    return StartingPoint(seed, location, np.full(dim, STARTING_SCALE), np.zeros(dim), one)


def starting_points(
    task: Task, family: AbstractFamily, restarts: int, *, always_whiten: bool = True
) -> list[StartingPoint]:
    """``restarts`` random ones, then (always, or where scales call for it) those at the mode.

    A linear family always starts at the mode too, and twice: narrow, and as wide as the curvature says, which is either
    the answer (where data are many) or far too wide (a network).
    """
    dim, initial = task.layout.size, task.initial_point()
    seeds = np.random.SeedSequence(task.start_seed).generate_state(restarts + 1, np.uint32)
    reach = lambda k: min(1.0 + k, _FARTHEST)
    locations = [task.finite_start(initial, int(seed), reach=reach(k)) for k, seed in enumerate(seeds[:restarts])]
    points = [in_own_coordinates(family, dim, int(s), at) for s, at in zip(seeds, locations, strict=False)]
    if not (pays(dim) and task.rows.num_sampled * dim <= _MOST_ROWS_TIMES_DIM):
        return points
    wanted, team = always_whiten or family.linear, task.team
    # L-BFGS decides by last bits, which may differ between processors: every process evaluates the leader's points.
    derivatives = lambda z, direction, batch: task.derivatives(team.agree(z), direction, batch)
    if not wanted and well_scaled(curvatures(derivatives, locations[0], task.sample)):
        return points
    whitening = whiten(derivatives, locations[0], task.sample)
    if whitening is None:
        return points
    zero, one = np.zeros(dim), np.ones(dim)
    shift, scale = team.agree((whitening.shift, whitening.factor() if family.linear else whitening.scale))
    for spread in (STARTING_SCALE, 1.0) if family.linear else (STARTING_SCALE,):
        points.append(StartingPoint(int(seeds[-1]), zero, spread * one, shift, scale))
    return points


def from_known(family: AbstractFamily, known: AbstractFamily, params: PyTree, layout: Layout) -> StartingPoint:
    """Where the fit of a family begins from a distribution of the same or another one.

    In coordinates in which that distribution is standard: of its standard deviations, or for a linear family of its
    whole covariance; there mean-field and full-rank distributions begin as a standard one. Of another family, the new
    one begins with the same mean and the same spread.
    """
    params = jax.device_get(params)
    dense = family.linear and pays(layout.size)
    mean, deviations, covariance = _moments(known, params, layout, dense=dense)
    zero, one = np.zeros(layout.size), np.ones(layout.size)
    if family != known or isinstance(family, AbstractGaussian) and not isinstance(family, LowRank):
        scale = np.linalg.cholesky(covariance) if dense else deviations
        return StartingPoint(0, zero, one, mean, scale)
    scale = np.diag(deviations) if dense else deviations
    back = jax.device_get(family.affine(layout, params, jnp.asarray(-mean / deviations), jnp.asarray(1 / deviations)))
    return StartingPoint(0, zero, one, mean, scale, back)


def place_of(
    family: AbstractFamily, params: PyTree, layout: Layout
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """Mean and standard deviations."""
    return _moments(family, jax.device_get(params), layout, dense=False)[:2]


def _moments(
    family: AbstractFamily, params: PyTree, layout: Layout, *, dense: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviations, and where it is wanted covariance: in closed form, or of many draws."""
    if isinstance(family, AbstractGaussian):
        double = np.asarray(params, np.float64)
        covariance = np.asarray(family.covariance(double)) if dense else np.empty((0, 0))
        return np.asarray(family.mean(double)), np.asarray(family.standard_deviations(double)), covariance
    draws = np.asarray(family.sample(layout, params, jax.random.key(0), _MOMENT_DRAWS), np.float64)
    if isinstance(family, AbstractEmpirical):
        deviations = np.full(layout.size, STARTING_SCALE)
        return draws.mean(0), deviations, np.diag(deviations**2)
    deviations = np.maximum(draws.std(0), 1e-12)
    covariance = np.cov(draws, rowvar=False).reshape(layout.size, layout.size) if dense else np.empty((0, 0))
    return draws.mean(0), deviations, covariance + (1e-6 * np.diag(deviations**2) if dense else 0)
