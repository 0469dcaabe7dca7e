r"""Averages of iterates at constant step sizes: for those who want the last tenth of a nat.

At a constant step size the parameters end up wandering about the optimum; their average lies far closer to it than any
of them. Whether they only wander is told by two windows that follow each other: for each parameter

.. math:: \hat R = \sqrt{1 - \tfrac 1 W + \frac{B}{W_{var}}}

of W steps each, with B the variance between the two windows' means and W_var the mean variance within. Once
:math:`\hat R` is below 1.1 for 95 % of the parameters, the average of both windows is an estimate; the step size is
halved, and when another one gains too little the fit has converged. Large steps leave a bias that falls with them.

References
----------
Dhaka, Catalina, Andersen, Magnusson, Huggins, Vehtari (2020), Robust, Accurate Stochastic Optimization for Variational
Inference, NeurIPS, section 3.
Welandawe, Andersen, Vehtari, Huggins (2022), Robust, Automated, and Accurate Black-box Variational Inference,
arXiv:2203.15945.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Batch, PyTree
from posterion.errors import OptionError
from posterion.optim.algorithm import Algorithm, Info


class AveragedState(NamedTuple):
    """An algorithm's state with the mean and the squared deviations of its parameters over this window and the last.

    Parameters
    ----------
    inner
        The algorithm's own state.
    count, mean, square
        Of this window: steps, means, sums of squared deviations.
    last_mean, last_square
        Of the window before.
    """

    inner: PyTree
    count: Float[Array, ""]
    mean: PyTree
    square: PyTree
    last_mean: PyTree
    last_square: PyTree


def averaged(algorithm: Algorithm) -> Algorithm:
    """The same algorithm, keeping the moments of its parameters over each round.

    Raises
    ------
    OptionError
        If its parameters cannot be averaged.
    """
    iterate, with_iterate = algorithm.iterate, algorithm.with_iterate
    if iterate is None or with_iterate is None:
        raise OptionError(
            "stop=Averaging() averages the parameters of an approximation, as 'advi' moves them; use Rounds"
        )

    def fresh(inner: PyTree) -> AveragedState:
        now = iterate(inner)
        zero = jax.tree.map(jnp.zeros_like, now)
        return AveragedState(inner, jnp.zeros((), jnp.result_type(float)), zero, zero, zero, zero)

    def step(noise: PyTree, state: AveragedState, batch: Batch, rate: Array) -> tuple[AveragedState, Info]:
        inner, info = algorithm.step(noise, state.inner, batch, rate)
        count, now = state.count + 1, iterate(inner)
        mean = jax.tree.map(lambda m, x: m + (x - m) / count.astype(x.dtype), state.mean, now)
        square = jax.tree.map(lambda s, x, old, new: s + (x - old) * (x - new), state.square, now, state.mean, mean)
        return state._replace(inner=inner, count=count, mean=mean, square=square), info

    def restart(state: AveragedState) -> AveragedState:
        again = fresh(algorithm.restart(state.inner))
        return again._replace(last_mean=state.mean, last_square=state.square)

    return algorithm._replace(
        step=step,
        restart=restart,
        evaluate=lambda state, noise, batch, count: algorithm.evaluate(state.inner, noise, batch, count),
        iterate=lambda state: iterate(state.inner),
        with_iterate=lambda state, params: state._replace(inner=with_iterate(state.inner, params)),
        wrap=fresh,
        slopes=None,  # those who want averages of steps get them
    )


def stationary(state: AveragedState, limit: float, share: float) -> bool:
    """Whether R-hat of this window and the last is below ``limit`` for this share of the parameters that move."""
    found = []
    count = float(state.count)
    for mean, square, last_mean, last_square in zip(
        *(jax.tree.leaves(jax.device_get(x)) for x in (state.mean, state.square, state.last_mean, state.last_square)),
        strict=True,
    ):
        within = (np.asarray(square, np.float64) + np.asarray(last_square, np.float64)) / (2 * max(count - 1, 1))
        between = (np.asarray(mean, np.float64) - np.asarray(last_mean, np.float64)) ** 2 / 2
        moves = within > 0
        found.append(np.sqrt(1 - 1 / count + between[moves] / within[moves]).ravel())
    rhat = np.concatenate(found)
    return rhat.size == 0 or bool(np.mean(rhat < limit) >= share)


def at_average(algorithm: Algorithm, state: AveragedState) -> AveragedState:
    """The state with the average of this window and the last for its parameters."""
    mean = jax.tree.map(
        lambda now, last: ((np.asarray(now) + np.asarray(last)) / 2).astype(now.dtype),
        *jax.device_get((state.mean, state.last_mean)),
    )
    assert algorithm.with_iterate is not None  # `averaged` made it  # noqa: S101
    return algorithm.with_iterate(state, mean)
