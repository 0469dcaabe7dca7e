"""Improper posteriors are named by methods of steps, and large units are not taken for them."""

import numpy as np
import pytest
from jax.scipy import stats

import posterion as po
from posterion.engine.improper import refuse_improper
from posterion.engine.task import Task
from posterion.errors import DegenerateError
from posterion.methods.names import METHODS
from tests.methods.targets import fit


def half_known():
    """Two means; the data are of one of them, and neither has a prior."""
    y = np.random.default_rng(0).normal(3.0, 1.0, size=30)
    return po.log_density(
        log_likelihood=lambda p, d: stats.norm.logpdf(d["y"], p["known"], 1.0),
        log_prior=lambda p: 0.0 * p["nowhere"].sum(),
        initial={"known": 0.0, "nowhere": np.zeros(2)},
        data={"y": y},
    )


@pytest.fixture(scope="module")
def target():
    return half_known()


@pytest.mark.parametrize("method", ["advi", "fullrank_advi", "lowrank_advi"])
def test_a_variable_without_prior_or_data_is_named(target, method):
    with pytest.raises(DegenerateError, match=r"improper: however far out nowhere\[0\], nowhere\[1\] may be") as found:
        fit(target, method)
    assert "known" not in str(found.value).replace("nowhere", "")


def test_so_it_is_after_a_fixed_number_of_steps_and_in_a_mixture(target):
    with pytest.raises(DegenerateError, match="nowhere"):
        fit(target, "advi", n=1000)
    with pytest.raises(DegenerateError, match="nowhere"):
        fit(target, po.ADVI(family=po.Mixture(2)))


OF_NETWORKS = ("linearised_laplace", "variational_last_layer")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("svgd", "map", *OF_NETWORKS)])
@pytest.mark.slow
def test_no_method_takes_it_for_a_posterior(target, method):
    """An error that names it, or a verdict that does."""
    refused = ""
    try:
        approx = fit(target, method, **({"batch_size": 10, "n": 500} if method == "swag" else {}))
        trusted = approx.diagnose().trustworthy
    except DegenerateError as error:
        refused, trusted = str(error), False
    assert not trusted
    assert not refused or "nowhere" in refused or "improper" in refused


def test_a_positive_variable_without_prior():
    """On the scale of its logarithm the density rises on one side and falls on the other."""
    pm = pytest.importorskip("pymc")
    with pm.Model():
        pm.HalfFlat("scale")
        mean = pm.Flat("mean")
        pm.Normal("y", mean, 1.0, observed=np.array([1.0, 2.0, 3.0]))
        with pytest.raises(DegenerateError, match="scale"):
            po.fit(progress=False, random_seed=1)


@pytest.mark.parametrize("method", ["advi", "fullrank_advi"])
def test_large_units_are_no_improper_posterior(method):
    """Standard deviations of 1e5, reached from starts of unit width, and a prior of 1e8 for what has no data."""
    x = np.random.default_rng(1).normal(size=40) * 1e-5
    y = np.random.default_rng(2).normal(size=40) + 3e5 * x
    target = po.log_density(
        log_prior=lambda p: stats.norm.logpdf(p["unused"], 0.0, 1e8),
        log_likelihood=lambda p, d: stats.norm.logpdf(d["y"], p["slope"] * d["x"], 1.0),
        initial={"slope": 0.0, "unused": 0.0},
        data={"x": x, "y": y},
    )
    approx = fit(target, method)
    draws = approx.sample(4000)["posterior"]
    exact = 1 / np.sqrt(np.sum(x**2))
    assert float(draws["slope"].std()) == pytest.approx(exact, rel=0.1)
    assert float(draws["unused"].std()) == pytest.approx(1e8, rel=0.1)


def test_only_what_is_wide_costs_evaluations():
    untouchable = object.__new__(Task)  # has nothing: looking at it is an error
    refuse_improper(untouchable, np.zeros(3), np.full(3, 10.0))
    with pytest.raises(AttributeError):
        refuse_improper(untouchable, np.zeros(3), np.full(3, 1e4))
