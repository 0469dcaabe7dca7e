"""Small row targets written by hand, for tests of everything that needs a target but no front end."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

from posterion.errors import DataError, UnsupportedModelError
from posterion.target import AbstractRowTarget, JointTerms, Layout, Moments, Observed, RowPlan, Slot, Variable


@dataclass(frozen=True)
class Likelihood:
    """Of one observed variable "y" given the linear or network output ``eta`` (rows, ...) and the named values."""

    observed: Observed
    log_density: Callable  # (y, eta, values) -> rows
    simulate: Callable  # (key, eta, values) -> y
    moments: Callable | None  # (eta, values) -> Moments


class HandTarget(AbstractRowTarget):
    """Standard normal priors on the unconstrained values; inputs "x", outcomes "y"; deterministic "eta"."""

    def __init__(self, variables, eta, likelihood, x, y, *, positive=(), coords=(), independent=True):
        self.layout = Layout(
            variables=variables,
            derived_dims=(("eta", ("row_id",) + (None,) * likelihood.eta_extra), ("total", ())),
            coords=coords,
        )
        self.slots = {
            "x": Slot("float64", (None, *x.shape[1:]), ("row_id", "columns"), row_axis=0),
            "y": Slot(str(y.dtype), (None, *y.shape[1:]), ("row_id",), row_axis=0, only_observed=True),
        }
        self.observed = {"out": likelihood.observed}
        self.num_rows = {"out": len(x)}
        self.row_names = ("eta",)
        self._eta, self._likelihood, self._positive = eta, likelihood, positive
        self._data, self._independent = {"x": x, "y": y}, independent

    @property
    def data(self):
        return dict(self._data)

    def _values(self, z):
        values = self.layout.unravel(z)
        return {name: jnp.exp(v) if name in self._positive else v for name, v in values.items()}

    def constrain(self, z, data):
        values = self._values(z)
        return values | {"eta": self._eta(values, data["x"]), "total": jnp.sum(z)}

    def initial_point(self, seed):
        return np.random.default_rng(seed).standard_normal(self.layout.size)

    def joint_terms(self, z, data):
        values = self._values(z)
        rows = self._likelihood.log_density(data["y"], self._eta(values, data["x"]), values)
        return JointTerms(-0.5 * jnp.sum(z**2) - 0.5 * z.size * jnp.log(2 * jnp.pi), {"out": rows})

    def moments(self, z, data):
        if self._likelihood.moments is None:
            return {}
        values = self._values(z)
        return {"out": self._likelihood.moments(self._eta(values, data["x"]), values)}

    def simulate(self, key, z, data):
        values = self._values(z)
        return {"out": self._likelihood.simulate(key, self._eta(values, data["x"]), values)}

    def row_values(self, z, data):
        return {"eta": self._eta(self._values(z), data["x"])}

    def new_rows(self, data):
        unknown = set(data) - {"x", "y"}
        if unknown or "x" not in data:
            raise DataError(f"inputs must be 'x'; found {sorted(data)}")
        x = np.asarray(data["x"])
        y = np.zeros((len(x), *self._data["y"].shape[1:]), self._data["y"].dtype)
        return {"x": x, "y": y}

    def row_plan(self, over=None):
        if not self._independent:
            raise UnsupportedModelError("rows depend on each other")
        return RowPlan(len(self._data["x"]), (("x", 0), ("y", 0)), ("out",))


def _bernoulli_log(y, eta, values):
    return -jax.nn.softplus(jnp.where(y == 1, -eta, eta))


def _sigmoid_moments(eta, values):
    p = jax.nn.sigmoid(eta)
    return Moments(p, p * (1 - p))


@dataclass(frozen=True)
class _Likelihood(Likelihood):
    eta_extra: int = 0


BERNOULLI = _Likelihood(
    Observed("binary", dims=("row_id",), slot="y"),
    _bernoulli_log,
    lambda key, eta, values: jax.random.bernoulli(key, jax.nn.sigmoid(eta)).astype(jnp.int32),
    _sigmoid_moments,
)
CATEGORICAL = _Likelihood(
    Observed("categorical", dims=("row_id",), num_categories=3),
    lambda y, eta, values: jnp.take_along_axis(jax.nn.log_softmax(eta), y[:, None].astype(int), axis=1)[:, 0],
    lambda key, eta, values: jax.random.categorical(key, eta),
    lambda eta, values: Moments(jax.nn.softmax(eta), jax.nn.softmax(eta) * (1 - jax.nn.softmax(eta))),
    eta_extra=1,
)
POISSON = _Likelihood(
    Observed("numeric", dims=("row_id",)),
    lambda y, eta, values: y * eta - jnp.exp(eta) - gammaln(y + 1.0),
    lambda key, eta, values: jax.random.poisson(key, jnp.exp(eta)),
    lambda eta, values: Moments(jnp.exp(eta), jnp.exp(eta)),
)
NORMAL = _Likelihood(
    Observed("numeric", dims=("row_id",), slot="y"),
    lambda y, eta, values: (
        -0.5 * ((y - eta) / values["sigma"]) ** 2 - jnp.log(values["sigma"]) - 0.5 * jnp.log(2 * jnp.pi)
    ),
    lambda key, eta, values: eta + values["sigma"] * jax.random.normal(key, eta.shape),
    lambda eta, values: Moments(eta, values["sigma"] ** 2 * jnp.ones_like(eta)),
)


def simulated(likelihood):
    """The same likelihood without closed-form moments."""
    return replace(likelihood, observed=replace(likelihood.observed, has_moments=False), moments=None)


def linear(likelihood=NORMAL, *, num_rows=120, seed=0, independent=True):
    """A linear predictor ``x @ w + b``, with one column of ``w`` per class for three classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 3))
    width = (3, 3) if likelihood.observed.kind == "categorical" else (3,)
    bias = width[1:]
    eta = lambda values, x: x @ values["w"] + values["b"]
    truth = {"w": rng.normal(size=width) / 2, "b": rng.normal(size=bias) / 2, "sigma": 0.5}
    y = np.asarray(likelihood.simulate(jax.random.key(seed), jnp.asarray(x @ truth["w"] + truth["b"]), truth))
    y = y.astype(
        "float64" if likelihood.observed.kind == "numeric" and likelihood.log_density is NORMAL.log_density else "int64"
    )
    variables = (
        Variable("w", width, width, ("columns", *([None] if bias else []))),
        Variable("b", bias, bias, (None,) * len(bias)),
        Variable("sigma", (), ()),
    )
    coords = (("columns", ("a", "b", "c")), ("row_id", tuple(range(num_rows))))
    return HandTarget(variables, eta, likelihood, x, y, positive=("sigma",), coords=coords, independent=independent)


def network(likelihood=BERNOULLI, *, num_rows=284, seed=0):
    """The 2-5-5-1 network of the tutorial: tanh, tanh, sigmoid, no biases."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype("int64")

    def eta(values, x):
        hidden = jnp.tanh(jnp.tanh(x @ values["w_in_1"]) @ values["w_1_2"])
        return hidden @ values["w_2_out"]

    variables = (
        Variable("w_in_1", (2, 5), (2, 5), ("columns", None)),
        Variable("w_1_2", (5, 5), (5, 5), (None, None)),
        Variable("w_2_out", (5,), (5,), (None,)),
    )
    return HandTarget(variables, eta, likelihood, x, y, coords=(("columns", ("radius", "texture")),))


__all__ = ["BERNOULLI", "CATEGORICAL", "NORMAL", "POISSON", "HandTarget", "linear", "logsumexp", "network", "simulated"]
