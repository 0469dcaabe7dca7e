r"""A mode of the posterior, to the last digit that means something, or a sentence that says why there is none.

L-BFGS goes most of the way. Up to a thousand dimensions, Newton steps with the whole Hessian finish: they do not mind
how badly the model is scaled, and their *decrement*,

.. math:: \tfrac12 \nabla f^\top H^{-1} \nabla f,

is what another step would gain, in nats: a test of convergence in a unit that means something. Directions of negative
curvature are followed downhill, by their absolute value [1]_.

References
----------
.. [1] Dauphin et al. (2014), Identifying and attacking the saddle point problem in high-dimensional non-convex
   optimization. NeurIPS.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posterion.errors import DegenerateError
from posterion.methods.base import Problem
from posterion.methods.curvature import Curvature, line_search
from posterion.methods.starts import pays
from posterion.methods.surface import Surface
from posterion.target import Layout

_DECREMENT = 1e-9
"""Nats that another Newton step would gain, below which the mode is found."""
_DECREMENT_SINGLE = 1e-3
_NEWTON_STEPS = 100
_HALVINGS = 40
_LEAST_FALL = 0.02
"""Nats the log density must fall one standard deviation from the mode; a Gaussian's falls by half a nat."""


@dataclass(frozen=True)
class Mode:
    """Where the log joint is largest, as far as was found.

    Parameters
    ----------
    z
        The point.
    log_joint
        There.
    converged
        Whether the test of convergence was met.
    sentence
        Why the search stopped.
    hessian
        Of the negative log joint at ``z``, where it was computed.
    interrupted
        Whether Ctrl-C ended the search.
    """

    z: Float[np.ndarray, " dim"]
    log_joint: float
    converged: bool
    sentence: str
    hessian: Float[np.ndarray, "dim dim"] | None = None
    interrupted: bool = False


def find_mode(problem: Problem, surface: Surface) -> Mode:
    """The best mode that the problem's starts lead to.

    Raises
    ------
    DegenerateError
        If there is none because the log joint grows without end, or does not depend on some direction; the message
        names the variables.
    """
    from scipy.optimize import minimize  # a third of a second to import

    newton = pays(surface.size)
    most = 300 if newton else 20_000
    best = z = problem.starts[0]
    lowest, success, interrupted = surface.value(best), False, False

    def told(intermediate_result) -> None:  # noqa: ANN001
        problem.report(surface.evaluations, None, float(intermediate_result.fun), "Finding the mode")

    try:
        for start in problem.starts:
            found = minimize(
                surface.value_and_gradient,
                start,
                jac=True,
                method="L-BFGS-B",
                callback=told,
                options={"maxiter": most, "maxfun": 10 * most, "maxcor": 20},
            )
            if np.all(np.isfinite(found.x)) and found.fun < lowest:
                best, lowest, success = found.x, float(found.fun), bool(found.success)
        z = best
        if newton:
            return _newton(problem, surface, best)
    except KeyboardInterrupt:
        interrupted = True
    sentence = f"L-BFGS found no better point after {surface.evaluations:,} evaluations"
    if interrupted:
        sentence = f"interrupted after {surface.evaluations:,} evaluations; the best point so far is kept"
    elif not success:
        sentence = f"L-BFGS had not converged after {surface.evaluations:,} evaluations"
    return Mode(z, -surface.value(z), success and not interrupted, sentence, None, interrupted)


def _newton(problem: Problem, surface: Surface, start: np.ndarray) -> Mode:
    """Newton steps from ``start``; a KeyboardInterrupt keeps the last point."""
    tolerance = _DECREMENT if surface.x64 else _DECREMENT_SINGLE
    z, path = start, [problem.starts[0], start]
    value, gradient = surface.value_and_gradient(z)
    hessian, decrement = None, np.inf
    try:
        for _ in range(_NEWTON_STEPS):
            problem.report(surface.evaluations, None, value, "Finding the mode")
            hessian = surface.hessian(z)
            curvature = Curvature.of(hessian, surface.flatness)
            step, decrement = curvature.newton_step(gradient)
            if decrement < tolerance and not curvature.has_negative:
                break
            slope = min(float(gradient @ step), 0.0)
            moved = line_search(surface.value_and_gradient, z, value, slope, step, _HALVINGS)
            if moved is None:
                break
            z, value, gradient = moved
            path.append(z)
    except KeyboardInterrupt:
        return Mode(z, -value, False, "interrupted; the best point so far is kept", None, True)
    if hessian is None or not np.all(np.isfinite(hessian)):
        raise DegenerateError("the second derivatives of the log density are not finite where its search ended")
    close = 1e-4 if surface.x64 else 0.05  # nats that rounding may leave where no step improves any more
    if decrement < max(tolerance, close):
        return Mode(z, -value, True, f"a Newton step would gain {decrement:.1g} nats", hessian)
    # The last tenth of the way shows where it is going.
    drift = path[-1] - path[max(0, len(path) - 10)]
    along = direction_name(problem.layout, drift / np.maximum(np.abs(path[0]), 1.0))
    raise DegenerateError(
        f"there is no mode: after {surface.evaluations:,} evaluations the log density ({-value:,.6g}) still grows "
        f"along {along}. The posterior is improper, or its density has no maximum, as where a hierarchical scale goes "
        "to zero. Give the variables proper priors, write the hierarchy non-centred, or use a method that does not "
        "look for a mode ('advi')"
    )


def refuse_flat(layout: Layout, directions: list[np.ndarray], surface: Surface) -> None:
    """Nothing, if there are no directions without curvature.

    Raises
    ------
    DegenerateError
        If there are; the message names them.
    """
    if not directions:
        return
    count = f"{len(directions)} direction{'s' * (len(directions) > 1)}"
    named = "; ".join(direction_name(layout, direction) for direction in directions[:4])
    more = f" and {len(directions) - 4} more" if len(directions) > 4 else ""
    raise DegenerateError(
        f"the posterior is flat, or not at a maximum, along {count}: {named}{more}. A column that is constant or "
        "appears twice does that under a flat prior: leave it out, or give the variable a proper prior"
        + ("" if surface.x64 else "; precision='float64' tells flat from nearly flat")
    )


def check_fall(layout: Layout, surface: Surface, z: np.ndarray, directions: np.ndarray) -> None:
    """Nothing, if the density falls off both ways along every direction (rows, one standard deviation long).

    A direction in which it stays up is improper though it curves a little: separated classes, say.

    Raises
    ------
    DegenerateError
        If it stays up along one; the message names it.
    """
    if not len(directions):
        return
    # In one call: whatever is asked for is computed in blocks of many points.
    found, _ = surface.log_joint_at(np.concatenate([z[None], z + directions, z - directions]))
    top, sides = found[0], found[1:].reshape(2, -1)
    for sign, values in zip((1.0, -1.0), sides, strict=True):
        stays = np.flatnonzero(top - values < _LEAST_FALL)
        if len(stays):
            along = direction_name(
                layout, sign * directions[stays[0]] / np.maximum(np.abs(directions).max(axis=0), 1e-300)
            )
            raise DegenerateError(
                f"the posterior does not fall off along {along}: one standard deviation from the mode the log density "
                f"is only {top - values[stays[0]]:.2g} nats lower. It is improper or nearly so, as a regression on "
                "classes that can be separated is under a flat prior. Give the variables proper priors"
            )


def direction_name(layout: Layout, direction: Float[np.ndarray, " dim"]) -> str:
    """A direction as a combination of entries of ``z``, the largest ones: ``w[0] - w[1]``."""
    size = np.abs(direction)
    if not size.size or size.max() == 0:
        return "no direction in particular"
    names, relative = layout.entry_names(), direction / direction[np.argmax(size)]
    order = [k for k in np.argsort(-size, kind="stable") if abs(relative[k]) >= 0.1]
    shown = order[:4]
    text = ""
    for k in shown:
        sign = "-" if relative[k] < 0 else "+"
        factor = "" if abs(abs(relative[k]) - 1) < 0.05 else f"{abs(relative[k]):.2g} "
        text += f" {sign} {factor}{names[k]}" if text else f"{'-' if sign == '-' else ''}{factor}{names[k]}"
    return text + (f" and {len(order) - len(shown)} more" if len(order) > len(shown) else "")
