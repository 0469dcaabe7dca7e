"""Contracts between front ends and the engine.

A target is what is approximated: the unnormalised posterior

    log p(z | data) = log_prior(z) + sum_k sum_rows log_likelihood_k(z)[row] + constant

over one unconstrained vector ``z``. Data are arguments of every function, never constants inside it, so that one
compiled program serves other data of the same shapes. Scaling of mini-batches is *not* done here: a target reports how
many rows there are (`AbstractRowTarget.num_rows`) and `posterion.objectives.bounds` alone multiplies by N / B.
"""

import abc
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, ArrayLike, Data, Key
from posterion.errors import UnsupportedModelError
from posterion.target.layout import Layout


class JointTerms(NamedTuple):
    """The log joint density taken apart.

    Parameters
    ----------
    log_prior
        Everything that does not belong to a row: priors with log |d theta / d z|, potentials, likelihoods that do not
        factorise over rows.
    log_likelihood
        Per observed variable one entry per row; row counts may differ between variables. Not scaled.
    """

    log_prior: Float[Array, ""]
    log_likelihood: dict[str, Float[Array, " rows"]]


class Moments(NamedTuple):
    """Mean and variance of one observed variable given z and its inputs, in closed form.

    For a categorical variable ``mean`` holds the class probabilities, with one axis more than the variable has.
    """

    mean: Array
    variance: Array


@dataclass(frozen=True)
class Slot:
    """One named data input of a target.

    Parameters
    ----------
    dtype
        NumPy name of the type the model declares: "float64", "int64", "bool". Floats follow the fit's precision.
    shape
        Its shape in the data the model came with; None where any length may be passed (rows).
    dims
        Names of its axes, None for an axis without a name, or empty if nothing is named.
    row_axis
        The axis along which rows run, or None if it holds no rows.
    only_observed
        True if it enters the model only as the value of an observed variable: not needed to predict.
    below
        If it is an index: the length of the axis it counts, which no entry may reach. None for everything else.
    """

    dtype: str
    shape: tuple[int | None, ...]
    dims: tuple[str | None, ...] = ()
    row_axis: int | None = None
    only_observed: bool = False
    below: int | None = None


@dataclass(frozen=True)
class Observed:
    """What kind of thing an observed variable is, which decides how its predictions are summarised.

    Parameters
    ----------
    kind
        "binary" (0/1, mean is a probability), "categorical" (labels 0..K-1), or "numeric" (everything else).
    shape
        Trailing shape of one row.
    dims
        Names of all its axes, rows first, or empty.
    num_categories
        K for "categorical", else 0.
    has_moments
        True if `AbstractRowTarget.moments` gives its mean and variance in closed form.
    slot
        The slot by which its values enter, so that new outcomes can be scored; None if not known.
    """

    kind: Literal["binary", "categorical", "numeric"]
    shape: tuple[int, ...] = ()
    dims: tuple[str | None, ...] = ()
    num_categories: int = 0
    has_moments: bool = True
    slot: str | None = None


@dataclass(frozen=True)
class RowPlan:
    """How to cut a target's data into batches of rows.

    Parameters
    ----------
    num_rows
        N, the number of rows in the data at hand.
    axes
        (slot, axis) for every slot that is cut.
    observed
        The observed variables whose rows follow the batch; all others stay whole.
    """

    num_rows: int
    axes: tuple[tuple[str, int], ...]
    observed: tuple[str, ...]


class AbstractTarget(abc.ABC):
    """An unnormalised posterior that may be opaque: only a density, without rows."""

    layout: Layout
    slots: Mapping[str, Slot]
    notes: tuple[str, ...] = ()
    """Sentences for the user about what was recognised in the model (mini-batches taken over, total_size found)."""

    @cached_property
    def compiled(self) -> dict[Hashable, Any]:
        """Programs compiled for this target, by whoever compiled them: they live and die with it."""
        return {}

    @property
    @abc.abstractmethod
    def data(self) -> dict[str, np.ndarray]:
        """The data the model came with, by slot, as they are now (NumPy arrays, not copied)."""

    @abc.abstractmethod
    def log_density(self, z: Float[Array, " dim"], data: Data) -> Float[Array, ""]:
        """Log of the unnormalised posterior density at ``z``."""

    @abc.abstractmethod
    def constrain(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        """All free variables on their own scale, and all deterministics, by name."""

    @abc.abstractmethod
    def initial_point(self, seed: int) -> np.ndarray:
        """A starting ``z`` (float64), honouring what the model says of its starting values; not jittered.

        ``seed`` matters only where the model asks for random starting values. Made on the host: a JAX operation
        outside a compiled program would cost a compilation of its own.
        """

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        """The log density by the name of the variable it comes from, for messages about non-finite values."""
        return {"log density": self.log_density(z, data)}

    def as_arrays(self, data: Data) -> dict[str, Array]:
        """Device arrays of the slots' types, in the precision that is in force (see `compilation.precision`)."""
        return copied_to_device(self.on_host(data))

    def on_host(self, data: Data) -> dict[str, ArrayLike]:
        """The same, left on the host wherever the target can do with it there, and not copied where types agree."""
        return {
            name: np.asarray(data[name]).astype(jax.dtypes.canonicalize_dtype(slot.dtype), copy=False)
            for name, slot in self.slots.items()
        }


def copied_to_device(arrays: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Copies: the device may read the memory it is given for as long as it likes, and that may be the user's.

    By device_put, since jnp.asarray compiles a program for every new shape.
    """
    return {name: jax.device_put(np.array(values)) for name, values in arrays.items()}


class AbstractRowTarget(AbstractTarget):
    """A target whose likelihood factorises over rows, so that it can be batched and can predict new rows.

    Functions of ``(z, data)`` accept data of any number of rows, as long as the slots agree with each other.
    """

    observed: Mapping[str, Observed]
    num_rows: Mapping[str, int]
    """Rows each observed variable stands for. Larger than the rows in `data` if the model says that the data are a
    subsample of a larger population (PyMC's ``total_size``)."""
    row_names: tuple[str, ...] = ()
    """Named values of `constrain` (deterministics) whose first axis is the rows."""
    batch_size: int | None = None
    """Rows per step the model itself asks for (``pm.Minibatch``), or None."""
    block_sizes: tuple[int, ...] | None = None
    """Numbers of rows that the functions below accept when they are fixed (an exported posterior); None: any."""

    @abc.abstractmethod
    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        """Prior and unscaled per-row likelihood; the primitive everything else follows from."""

    @abc.abstractmethod
    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        """Mean and variance given ``z`` of each observed variable that has them in closed form."""

    @abc.abstractmethod
    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        """One draw of every observed variable, ``y ~ p(y | z, x)``; rows first."""

    @abc.abstractmethod
    def row_values(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        """The deterministics of `row_names`, rows first."""

    @abc.abstractmethod
    def new_rows(self, data: Data) -> dict[str, np.ndarray]:
        """Complete and check data for prediction: every slot, with the row count of what was passed.

        Slots that are only observed are filled in; anything else that must follow the new rows and was not passed is
        an error that names it.

        Raises
        ------
        DataError
            For an unknown input (with the names there are), a wrong shape, unequal row counts, a missing covariate, or
            values that are not finite numbers.
        """

    @abc.abstractmethod
    def row_plan(self, over: str | None = None) -> RowPlan:
        """Which slots a batch of rows cuts, after checking that the rows are really independent given ``z``.

        Parameters
        ----------
        over
            A dim's or an observed variable's name; None if there is only one choice.

        Raises
        ------
        UnsupportedModelError
            If the likelihood does not factorise over these rows, or a free variable has one entry per row.
        """

    def log_density(self, z: Float[Array, " dim"], data: Data) -> Float[Array, ""]:
        terms = self.joint_terms(z, data)
        total = terms.log_prior
        for name, rows in terms.log_likelihood.items():
            total = total + jnp.sum(rows) * (self.num_rows[name] / rows.shape[0])
        return total

    @property
    def rows_are_independent(self) -> bool:
        """True if a prediction for one row does not depend on the other rows passed with it."""
        try:
            self.row_plan()
        except UnsupportedModelError:
            return False
        return True
