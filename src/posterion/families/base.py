"""Families of approximating distributions q(z; params) over unconstrained space.

A family is a *description* (frozen, hashable, no arrays); its parameters are a pytree that the engine moves. It sees a
`Layout`, never a log density. Noise is drawn apart from its use, so that draws can be fixed, replayed or blocked.

Laws that every family obeys (``tests/families``): ``transport`` and ``log_prob`` agree; the density integrates to one;
the family recovers itself as a target; ``affine`` is the change of variables it says it is.
"""

import abc
from dataclasses import dataclass

import jax
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Key, PyTree
from posterion.target.layout import Layout


@dataclass(frozen=True)
class AbstractFamily(abc.ABC):
    """A set of distributions over ``z`` indexed by parameters."""

    @property
    def linear(self) -> bool:
        """Whether `affine` also takes a lower-triangular matrix: the family holds every linear image of its members.

        The engine then works in coordinates in which the posterior is not even correlated.
        """
        return False

    def largest_step(self, layout: Layout) -> float:
        """Largest step size at which Adam moves the parameters towards a goal and not about it.

        0.1 up to a thousand dimensions, falling to 0.01 at ten thousand, in units in which the posterior is about one
        wide.
        """
        return min(max(0.1 * 1000 / max(layout.size, 1000), 0.01), 0.1)

    @property
    def rough(self) -> bool:
        """Whether a draw's gradient may be a thousand times the usual one, so that several are averaged and clipped."""
        return False

    @abc.abstractmethod
    def init(
        self, layout: Layout, location: Float[Array, " dim"], key: Key, scale: float | Float[Array, " dim"] = 0.1
    ) -> PyTree:
        """Parameters centred at ``location`` with standard deviations near ``scale`` (in the units of ``z``)."""

    @abc.abstractmethod
    def noise(self, layout: Layout, key: Key, num_draws: int) -> PyTree:
        """Standard noise for ``num_draws`` draws, stacked along the first axis; does not depend on parameters."""

    @abc.abstractmethod
    def transport(self, layout: Layout, params: PyTree, noise: PyTree) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Turn the noise of one draw into ``z`` and log q(z)."""

    @abc.abstractmethod
    def log_prob(self, layout: Layout, params: PyTree, z: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of ``z``, normalised, in nats."""

    @abc.abstractmethod
    def affine(
        self,
        layout: Layout,
        params: PyTree,
        shift: Float[Array, " dim"],
        scale: Float[Array, " dim"] | Float[Array, "dim dim"],
    ) -> PyTree:
        """Parameters of the distribution of ``shift + scale * z`` where z ~ q(params).

        ``scale`` is positive; for a `linear` family it may also be a lower-triangular matrix with a positive diagonal.
        """

    def sample(self, layout: Layout, params: PyTree, key: Key, num_draws: int) -> Float[Array, "draws dim"]:
        """``num_draws`` independent draws of ``z``."""
        noise = self.noise(layout, key, num_draws)
        return jax.vmap(lambda one: self.transport(layout, params, one)[0])(noise)


@dataclass(frozen=True)
class AbstractGaussian(AbstractFamily):
    """A family of normal distributions: mean and covariance are there without drawing.

    Their functions take parameters of JAX and give arrays of JAX, or take NumPy's and compute in NumPy.
    """

    @abc.abstractmethod
    def mean(self, params: PyTree) -> Float[ArrayLike, " dim"]:
        """Mean of ``z``."""

    @abc.abstractmethod
    def standard_deviations(self, params: PyTree) -> Float[ArrayLike, " dim"]:
        """Standard deviation of each entry of ``z``."""

    @abc.abstractmethod
    def covariance(self, params: PyTree) -> Float[ArrayLike, "dim dim"]:
        """Covariance matrix of ``z``; dense, so for the few dimensions in which that is affordable."""


@dataclass(frozen=True)
class AbstractDiagonalPlus(AbstractGaussian):
    """Independent normals given a few common numbers, which move all entries together.

    The noise of a draw is one array: the entries' own normals, then the common ones.
    """

    @property
    @abc.abstractmethod
    def num_common(self) -> int:
        """How many numbers are common to all entries; none if they are independent."""

    @abc.abstractmethod
    def given_common(
        self, params: PyTree, common: Float[Array, " common"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """Means and log standard deviations of the entries, independent given the common numbers."""

    @abc.abstractmethod
    def entropy(self, params: PyTree) -> Float[Array, ""]:
        """Minus the expected log density, in nats."""
