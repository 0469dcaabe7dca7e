"""A Gaussian's draws corrected to the posterior's: Pareto smoothed importance resampling of draws from around it.

For methods that end with a Gaussian of full covariance. The draws come from a Student-t around it, whose longer tails
keep the weights bounded; where k-hat says that its weights cannot be relied on, from the Gaussian itself; and where it
says that of these as well, the Gaussian stays what it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion.diagnostics.psis import ParetoSmoothed
from posterion.families import Particles
from posterion.methods.base import Problem, Solution
from posterion.methods.gaussian_fit import normal_draws, student_draws
from posterion.methods.importance import caveats, resample, smooth
from posterion.methods.surface import Surface

NUM_DRAWS = 4096
"""Draws that are kept, unless another number is asked for."""
_NEARLY_EQUAL = 0.8
"""Share of the wanted draws that the weighted ones are to be worth before no more are drawn."""
_BLOCKS = 8


def corrected(
    problem: Problem,
    surface: Surface,
    mean: Float[np.ndarray, " dim"],
    root: Float[np.ndarray, "dim dim"],
    plain: Solution,
    count: int = NUM_DRAWS,
) -> Solution:
    """The solution with resampled draws for its approximation, where k-hat is within its limit; else with a note.

    Parameters
    ----------
    problem, surface
        What is approximated.
    mean, root
        Of the Gaussian; ``root @ root.T`` is its covariance.
    plain
        The solution that holds the Gaussian.
    count
        Draws to keep.
    """
    *seeds, choice = (int(s) for s in np.random.SeedSequence(problem.seed).generate_state(2 * _BLOCKS + 1, np.uint32))
    khats = []
    for proposal, draws_of in (("a Student-t around the Gaussian", student_draws), ("the Gaussian", normal_draws)):
        points, log_weights, smoothed = _weighted(problem, surface, mean, root, count, draws_of, seeds[len(khats) :: 2])
        khats.append(f"{smoothed.khat:.2f} of {proposal}")
        if smoothed.khat <= smoothed.threshold:
            break
    else:
        note = (
            f"the Gaussian's draws are left as they are: importance weights would not correct them (k-hat "
            f"{' and '.join(khats)}, limit {smoothed.threshold:.2f})"
        )
        return replace(plain, evaluations=surface.evaluations, notes=(*plain.notes, note))
    note = (
        f"{count:,} draws, resampled by importance from {len(points):,} of {proposal}, whose k-hat this is; "
        f"worth {smoothed.effective_draws:,.0f} independent ones"
    )
    return replace(
        plain,
        evaluations=surface.evaluations,
        family=Particles(count),
        params=resample(points, smoothed, count, choice).astype(jnp.result_type(float)),
        notes=(*plain.notes, note),
        log_weights=log_weights,
        caveats=(*plain.caveats, *caveats(smoothed)),
    )


def _weighted(
    problem: Problem,
    surface: Surface,
    mean: np.ndarray,
    root: np.ndarray,
    count: int,
    draws_of: Callable,
    seeds: Sequence[int],
) -> tuple[np.ndarray, np.ndarray, ParetoSmoothed]:
    """Blocks of draws until they are worth ``count`` independent ones, with their log weights, raw and smoothed."""
    size, log_volume = len(mean), float(np.linalg.slogdet(root)[1])
    points, log_weights, smoothed = np.empty((0, size)), np.empty(0), None
    for seed in seeds:
        u, log_q = draws_of(size, int(2 ** np.ceil(np.log2(count))), seed)
        new = mean + u @ root.T
        values = surface.values_at(new)
        points = np.concatenate([points, new])
        log_weights = np.concatenate([log_weights, values - log_q + log_volume])
        smoothed = smooth(log_weights)
        problem.report(surface.evaluations, None, -float(np.mean(log_weights)), "Correcting draws")
        if smoothed.effective_draws >= _NEARLY_EQUAL * count:
            break
    assert smoothed is not None  # there are seeds  # noqa: S101
    return points, log_weights, smoothed
