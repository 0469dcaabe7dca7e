"""NumPyro models of many kinds, with their arguments: the cases that the laws of the front end are tested on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.reparam import CircularReparam, LocScaleReparam, TransformReparam

_RANDOM = np.random.default_rng(20260117)
X = _RANDOM.standard_normal((60, 2))
LABELS = (X[:, 0] * X[:, 1] > 0).astype("int64")
LINE = X @ np.array([1.0, -0.5]) + 0.3 * _RANDOM.standard_t(4, 60)
GROUPS = _RANDOM.integers(0, 7, 60)
GRADES = np.digitize(LINE, [-1.0, 0.5]).astype("int64")
COUNTS = _RANDOM.poisson(np.exp(0.5 * X[:, 0]))
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def network(x, y=None):
    w1 = numpyro.sample("w1", dist.Normal(0, 1).expand([2, 5]).to_event(2))
    w2 = numpyro.sample("w2", dist.Normal(0, 1).expand([5, 5]).to_event(2))
    w3 = numpyro.sample("w3", dist.Normal(0, 1).expand([5]).to_event(1))
    hidden = jnp.tanh(jnp.tanh(x @ w1) @ w2)
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("out", dist.Bernoulli(logits=hidden @ w3), obs=y)


def eight_schools(num_schools, errors, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", num_schools):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * raw)
        numpyro.sample("effect", dist.Normal(theta, errors), obs=y)


def eight_schools_reparametrised(num_schools, errors, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", num_schools):
        with handlers.reparam(config={"theta": LocScaleReparam(0)}):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("effect", dist.Normal(theta, errors), obs=y)


def radon(county, num_counties, floor, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    with numpyro.plate("county", num_counties):
        level = numpyro.sample("level", dist.Normal(mu, spread))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.Exponential(1))
    with numpyro.plate("house", len(county)):
        mean = numpyro.deterministic("mean", level[county] + slope * floor)
        numpyro.sample("log_radon", dist.Normal(mean, sigma), obs=y)


def student(x, y=None):
    weights = numpyro.sample("weights", dist.Normal(0, 2).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    df = numpyro.sample("df", dist.Gamma(3.0, 0.2))
    numpyro.sample("y", dist.StudentT(2 + df, x @ weights, sigma), obs=y)


def ordered_logit(x, y=None):
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([2]).to_event(1))
    cuts = numpyro.sample(
        "cuts", dist.TransformedDistribution(dist.Normal(0, 2).expand([2]), dist.transforms.OrderedTransform())
    )
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("grade", dist.OrderedLogistic(x @ weights, cuts), obs=y)


def correlated(x):
    scales = numpyro.sample("scales", dist.HalfNormal(2).expand([2]).to_event(1))
    corr = numpyro.sample("corr", dist.LKJCholesky(2, 2.0))
    mean = numpyro.sample("mean", dist.Normal(0, 3).expand([2]).to_event(1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("x", dist.MultivariateNormal(mean, scale_tril=scales[:, None] * corr), obs=x)


def dependent_supports(y=None):
    top = numpyro.sample("top", dist.HalfNormal(2.0))
    inside = numpyro.sample("inside", dist.Uniform(-top, top))
    above = numpyro.sample("above", dist.ImproperUniform(dist.constraints.greater_than(inside), (), ()))
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    numpyro.deterministic("sum", inside + above)
    numpyro.factor("penalty", -top - above**2 / 2)
    numpyro.sample("y", dist.Normal(inside + shares[0], 1.0), obs=y)


def row_factors(x, y):
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.factor("loss", -jnp.abs(y - x @ weights))


def subsampled(x, y=None, batch=20):
    weights = numpyro.sample("weights", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("row", x.shape[0], subsample_size=batch) as rows:
        outcome = None if y is None else numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(x[rows] @ weights, sigma), obs=outcome)


def subsampled_by_number(data, num_rows, batch=20):
    weights = numpyro.sample("weights", dist.Normal(0, 2).expand([2]).to_event(1))
    with numpyro.plate("row", num_rows, subsample_size=batch):
        x, y = numpyro.subsample(data["x"], event_dim=1), numpyro.subsample(data["y"], event_dim=0)
        numpyro.sample("count", dist.Poisson(jnp.exp(x @ weights)), obs=y)


def masked(x, known, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)), handlers.mask(mask=known):
        numpyro.sample("y", dist.Normal(slope * x[:, 0], 0.5), obs=y)


def weighted(x, weights, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)), handlers.scale(scale=weights):
        numpyro.sample("y", dist.Normal(slope * x[:, 0], 0.5), obs=y)


def scaled(x, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)), handlers.scale(scale=2.5):
        numpyro.sample("y", dist.Normal(slope * x[:, 0], 0.5), obs=y)


def imputed(x, known, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(slope * x[:, 0], 0.5), obs=y, obs_mask=known)


def autoregression(y):
    level = numpyro.sample("level", dist.Normal(0, 1))
    memory = numpyro.sample("memory", dist.Uniform(-1, 1))

    def step(previous, current):
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        numpyro.sample("y", dist.Normal(level + memory * previous, 0.5 + noise), obs=current)
        return current, None

    scan(step, y[0], y[1:])


def whole_event(x, y):
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ weights, 1.0).to_event(1), obs=y)


def process(x, y):
    length = numpyro.sample("length", dist.LogNormal(0, 1))
    kernel = jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 0.1 * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), kernel), obs=y)


def mixture(y):
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(2)))
    centres = numpyro.sample("centres", dist.Normal(jnp.array([-1.0, 1.0]), 1).to_event(1))
    with numpyro.plate("row", len(y)):
        parts = dist.MixtureSameFamily(dist.Categorical(shares), dist.Normal(centres, 0.5))
        numpyro.sample("y", parts, obs=y)


def two_outcomes(x, y, count):
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([2, 2]).to_event(2))
    with numpyro.plate("row", x.shape[0]):
        line = numpyro.sample("line", dist.Normal(x @ weights[0], 1), obs=y)
        numpyro.sample("count", dist.Poisson(jnp.exp(0.1 * line + x @ weights[1])), obs=count)


def matrix(y):
    with numpyro.plate("column", y.shape[1]):
        centre = numpyro.sample("centre", dist.Normal(0, 1))
        with numpyro.plate("row", y.shape[0]):
            numpyro.sample("y", dist.Laplace(centre, 1), obs=y)


def directions(angle):
    with handlers.reparam(config={"centre": CircularReparam()}):
        centre = numpyro.sample("centre", dist.VonMises(0.0, 2.0))
    with handlers.reparam(config={"scale": TransformReparam()}):
        base = dist.TransformedDistribution(dist.Normal(0, 1), dist.transforms.ExpTransform())
        scale = numpyro.sample("scale", base)
    with numpyro.plate("row", len(angle)):
        numpyro.sample("angle", dist.VonMises(centre, 1 + scale), obs=angle)


@dataclass(frozen=True)
class Case:
    """A model, its arguments, and what is expected of its rows."""

    model: Callable
    args: tuple = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None  # in batches of them; None where that is refused


CASES = {
    "network": Case(network, (X, LABELS), rows=60),
    "eight_schools": Case(eight_schools, (8, ERRORS), {"y": EFFECTS}),
    "eight_schools_reparametrised": Case(eight_schools_reparametrised, (8, ERRORS), {"y": EFFECTS}),
    "radon": Case(radon, (GROUPS, 7, X[:, 0], LINE), rows=60),
    "student": Case(student, (X,), {"y": LINE}, rows=60),
    "ordered_logit": Case(ordered_logit, (X, GRADES), rows=60),
    "correlated": Case(correlated, (X,), rows=60),
    "dependent_supports": Case(dependent_supports, (EFFECTS / 10,), rows=8),
    "row_factors": Case(row_factors, (X, LINE), rows=60),
    "subsampled": Case(subsampled, (X, LINE), rows=60),
    "subsampled_by_number": Case(subsampled_by_number, ({"x": X, "y": COUNTS}, 60), rows=60),
    "masked": Case(masked, (X, GROUPS > 2, LINE), rows=60),
    "weighted": Case(weighted, (X, np.arange(1.0, 61.0), LINE), rows=60),
    "scaled": Case(scaled, (X, LINE), rows=60),
    "autoregression": Case(autoregression, (LINE,)),
    "whole_event": Case(whole_event, (X, LINE), rows=60),
    "process": Case(process, (X[:12, 0], LINE[:12])),
    "mixture": Case(mixture, (LINE,), rows=60),
    "two_outcomes": Case(two_outcomes, (X, LINE, COUNTS), rows=60),
    "matrix": Case(matrix, (X,), rows=60),
    "directions": Case(directions, (np.arctan(LINE),), rows=60),
    "conditioned": Case(handlers.condition(network, {"out": LABELS}), (X,)),
}

_VARIANTS = (
    "eight_schools_reparametrised",
    "row_factors",
    "whole_event",
    "matrix",
    "conditioned",
    "scaled",
    "weighted",
)

PARAMETERS = [pytest.param(name, marks=pytest.mark.slow) if name in _VARIANTS else name for name in CASES]
"""All cases for ``pytest.mark.parametrize``; variants of others run with the slow tests."""
