r"""The ELBO of a network with noise of its own for every row: weights of a layer are drawn for each row apart.

With z = (s, w), w the weights that are drawn row by row (`RowProgram`) and s the rest, and q(z) independent normals,
given the numbers that move entries of a low-rank Gaussian together,

.. math:: \mathrm{ELBO} = E_s\Big[ E_w[\log p(s, w)] + \sum_i E_w[\log p(y_i \mid s, w)] - E_w[\log q(s, w)] \Big]

and each expectation over w may be estimated, or known, by itself: that of the prior is, for normal weights, that of q
always is, and in the likelihood every row i has its own noise. One draw of s serves all of it, so that for s the
gradient still sticks the landing; where w is drawn for the rows alone, nothing of the prior's and q's noise is left.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from posterion._typing import Array, Batch, Data, PyTree
from posterion.compilation.minor_axis import unpack
from posterion.compilation.row_noise import Parts, RowProgram, Span, Way
from posterion.errors import UnsupportedModelError
from posterion.families import AbstractDiagonalPlus
from posterion.objectives.bounds import weigh
from posterion.objectives.gradients import Integrand
from posterion.target import AbstractNetworkTarget, JointTerms, Layout

_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


class RowKey(NamedTuple):
    """Of the rows' noise: a raw key, 1 or -1 for the mirror image, and a pool of standard normals."""

    key: Array
    sign: Array
    pool: Array


LogJointOfParts = Callable[[Parts, RowKey, Batch], Float[Array, ""]]
"""As `LogJoint`, of ``z`` in parts, and of what gives the rows their noise: the prior in expectation over what is
drawn row by row, the likelihood with noise for each row."""


@dataclass(frozen=True)
class Places:
    """Which entries of ``z`` are drawn how.

    Parameters
    ----------
    by_row
        Pieces drawn for every row apart.
    undrawn
        Those of them of which no shared draw is needed either.
    size
        Of ``z``.
    """

    by_row: tuple[Span, ...]
    undrawn: tuple[Span, ...]
    size: int

    @property
    def drawn(self) -> tuple[Span, ...]:
        """Pieces of which a draw is needed."""
        return _others(self.undrawn, self.size)

    @property
    def shared(self) -> tuple[Span, ...]:
        """Pieces whose one draw all rows share."""
        return _others(self.by_row, self.size)

    @property
    def num_drawn(self) -> int:
        """Normals that a draw takes."""
        return sum(stop - start for start, stop in self.drawn)

    def draw(
        self, mean: Float[Array, " dim"], sd: Float[Array, " dim"], normals: Float[Array, " drawn"]
    ) -> Float[Array, " dim"]:
        """One draw of all pieces of which one is needed, and the means of the others."""
        spans, drawn, used, pieces = sorted((*self.drawn, *self.undrawn)), set(self.drawn), 0, []
        for span, m, s in zip(spans, *(lax.split(x, [b - a for a, b in spans]) for x in (mean, sd)), strict=True):
            if span in drawn:
                m = m + s * normals[used : used + m.size]
                used += m.size
            pieces.append(m)
        return jnp.concatenate(pieces)

    def log_density(
        self, mean: Float[Array, " dim"], log_sd: Float[Array, " dim"], draw: Float[Array, " dim"]
    ) -> Float[Array, ""]:
        """Of independent normals: at the draw for what rows share, in expectation for what is drawn row by row.

        Of the first part the gradient takes the path of the draw only (see `gradients`).
        """
        fixed_mean, fixed_log_sd = lax.stop_gradient((mean, log_sd))
        total = jnp.asarray(-mean.size * _LOG_ROOT_TWO_PI, mean.dtype)
        for a, b in self.shared:
            standardised = (draw[a:b] - fixed_mean[a:b]) * jnp.exp(-fixed_log_sd[a:b])
            total = total - 0.5 * jnp.sum(standardised**2) - jnp.sum(fixed_log_sd[a:b])
        for a, b in self.by_row:
            total = total - jnp.sum(log_sd[a:b]) - 0.5 * (b - a)
        return total


def _others(spans: Sequence[Span], size: int) -> tuple[Span, ...]:
    """What lies between the spans."""
    ends = [0, *(end for span in sorted(spans) for end in span), size]
    return tuple((a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b)


class LocalNoise:
    """How one target's weights can be drawn row by row.

    Parameters
    ----------
    target
        A network whose rows are independent.
    data
        Arrays of the slots, in the precision that is in force; only their types and shapes are looked at.

    Attributes
    ----------
    program
        One row's log likelihood.
    places
        Which entries are drawn how.
    """

    def __init__(self, target: AbstractNetworkTarget, data: Data) -> None:
        self._target = target
        self._axes = {name: slot.row_axis for name, slot in target.slots.items()}
        shapes = {name: (tuple(np.shape(values)), values.dtype) for name, values in data.items()}
        row = {
            name: jax.ShapeDtypeStruct(tuple(n for axis, n in enumerate(shape) if axis != self._axes[name]), dtype)
            for name, (shape, dtype) in shapes.items()
        }
        z = jax.ShapeDtypeStruct((target.layout.size,), jnp.result_type(float))
        self.program = RowProgram(self._one_row, z, row)
        spans = self.program.spans
        flipped = {use.span for use in self.program.uses.values() if use.way is Way.FLIPOUT}
        known = [self._span(name) for name in target.normal_given_others]
        inside = lambda span: any(a <= span[0] and span[1] <= b for a, b in known)
        self._integrated = tuple(span for span in spans if inside(span))
        undrawn = tuple(span for span in self._integrated if span not in flipped)
        self.places = Places(spans, undrawn, target.layout.size)

    @property
    def by_row(self) -> tuple[str, ...]:
        """Variables that are drawn row by row."""
        starts = {start for start, _ in self.places.by_row}
        return tuple(name for name in _names(self._target.layout) if self._span(name)[0] in starts)

    @property
    def note(self) -> str:
        """Which weights all rows share; empty if none."""
        own = (*self.by_row, *self._target.hyperparameters)
        shared = ", ".join(repr(name) for name in _names(self._target.layout) if name not in own)
        return shared and f"one draw for all rows of {shared}: used more than once, or in no product that is recognised"

    def _span(self, name: str) -> Span:
        at = self._target.layout.slices[name]
        return at.start, at.stop

    def _one_row(self, z: Array, row: Data) -> dict[str, Array]:
        whole = {n: x if (axis := self._axes[n]) is None else jnp.expand_dims(x, axis) for n, x in row.items()}
        return {name: values[0] for name, values in self._target.joint_terms(z, whole).log_likelihood.items()}

    def log_joint(self, followers: tuple[str, ...] = (), kl_weight: float = 1.0) -> LogJointOfParts:
        """The log joint density of all rows from a batch of them; arguments as of `bounds.log_joint`."""
        target = self._target
        num_rows = dict(target.num_rows)

        def estimate(z: Parts, rows: RowKey, batch: Batch) -> Float[Array, ""]:
            # Not batch-minor: of products of these, turning was measured to cost more.
            terms = self._terms(Parts(*lax.optimization_barrier(tuple(z))), rows, unpack(batch.data))
            return weigh(terms, batch, num_rows, followers, kl_weight)

        return estimate

    def _terms(self, z: Parts, rows: RowKey, data: Data) -> JointTerms:
        axes = {name: self._axes[name] for name in data}
        count = next(np.shape(data[name])[axis] for name, axis in axes.items() if axis is not None)
        noise = self.program.noise(jax.random.wrap_key_data(rows.key), count, rows.sign, rows.pool)
        of_row = partial(self.program, z)
        likelihood = jax.vmap(of_row, (axes, 0))(dict(data), noise)
        return JointTerms(self._expected_log_prior(*z), likelihood)

    def _expected_log_prior(self, draw: Array, mean: Array, sd: Array) -> Float[Array, ""]:
        """Over the weights that are drawn row by row, where that is known; else at their draw."""
        variances = {}
        for name in self._target.normal_given_others:
            start, stop = self._span(name)
            inside = [(a, b) for a, b in self._integrated if start <= a < stop]
            if inside == [(start, stop)]:
                variances[name] = sd[start:stop] ** 2
        centred = [span for span in self._integrated if span not in self.places.undrawn]
        if centred:  # of the others the draw is the mean
            everything = sorted((*centred, *_others(centred, draw.size)))
            draw = jnp.concatenate([(mean if span in centred else draw)[slice(*span)] for span in everything])
        return self._target.expected_log_prior(draw, variances)


def _names(layout: Layout) -> tuple[str, ...]:
    return tuple(variable.name for variable in layout.variables)


class RowNoise(NamedTuple):
    """What a method needs to draw weights row by row.

    Parameters
    ----------
    places
        Which entries are drawn how.
    log_joint
        Of ``z`` in parts.
    note
        What of it the user should know; empty if nothing.
    """

    places: Places
    log_joint: LogJointOfParts
    note: str = ""


def local_integrand(
    rows: RowNoise,
    family: AbstractDiagonalPlus,
    shift: Float[Array, " dim"],
    scale: Float[Array, " dim"],
    pool: Float[Array, " pool"],
) -> Integrand:
    """The ELBO's integrand with weights drawn row by row.

    Noise is a dict: ``normals`` of the drawn entries and the common ones of the family, ``key`` and ``sign`` of the
    rows' noise. ``z = shift + scale * u``, and the family is one of ``u``.
    """
    places, log_joint, _ = rows

    def integrand(params: PyTree, noise: PyTree, batch: Batch) -> Float[Array, ""]:
        normals, drawn = noise["normals"], places.num_drawn
        mean, log_sd = family.given_common(params, normals[drawn:])
        sd = jnp.exp(log_sd)
        draw = places.draw(mean, sd, normals[:drawn])
        if family.num_common:
            log_q = -family.entropy(params)
        else:
            log_q = places.log_density(mean, log_sd, draw)
        parts = Parts(shift + scale * draw, shift + scale * mean, scale * sd)
        return log_joint(parts, RowKey(noise["key"], noise["sign"], pool), batch) + jnp.sum(jnp.log(scale)) - log_q

    return integrand


def local_noise(target: AbstractNetworkTarget, data: Data) -> LocalNoise:
    """How the weights of a network are drawn row by row.

    Raises
    ------
    UnsupportedModelError
        If its rows are not independent, or none of its weights can be drawn so.
    """
    target.row_plan()  # refuses rows that are not independent
    found = LocalNoise(target, data)
    if not found.places.by_row:
        raise UnsupportedModelError(
            "noise='local' found no weights that a row meets in one product only: leave noise out"
        )
    return found
