"""Where fits begin: random points near the model's initial one, and the mode in whitened coordinates."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion.engine.task import Task
from posterion.families import AbstractFamily
from posterion.methods.starts import curvatures, pays, well_scaled, whiten

STARTING_SCALE = float(np.exp(-2))
_MOST_ROWS_TIMES_DIM = 1e8


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
    """

    seed: int
    location: Float[np.ndarray, " dim"]
    spread: Float[np.ndarray, " dim"]
    shift: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"] | Float[np.ndarray, "dim dim"]

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Everything but the seed, in the precision that is in force."""
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
    locations = [task.finite_start(initial, int(seed)) for seed in seeds[:restarts]]
    points = [in_own_coordinates(family, dim, int(s), at) for s, at in zip(seeds, locations, strict=False)]
    if not (pays(dim) and task.num_rows * dim <= _MOST_ROWS_TIMES_DIM):
        return points
    wanted, team = always_whiten or family.linear, task.team
    # L-BFGS decides by last bits, which may differ between processors: every process evaluates the leader's points.
    derivatives = lambda z, direction, batch: task.derivatives(team.agree(z), direction, batch)
    if not wanted and well_scaled(curvatures(derivatives, locations[0], task.everything)):
        return points
    whitening = whiten(derivatives, locations[0], task.everything)
    if whitening is None:
        return points
    zero, one = np.zeros(dim), np.ones(dim)
    shift, scale = team.agree((whitening.shift, whitening.factor() if family.linear else whitening.scale))
    for spread in (STARTING_SCALE, 1.0) if family.linear else (STARTING_SCALE,):
        points.append(StartingPoint(int(seeds[-1]), zero, spread * one, shift, scale))
    return points
