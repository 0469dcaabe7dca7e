"""Warm starts, limits of time, optimisers, mixtures and averages: from the door of `fit`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import posterion as po
from posterion.callbacks import EarlyStop, LiveTrace
from posterion.errors import OptionError
from posterion.optim.optimisers import DIRECTIONS, resolve
from posterion.options import MEANINGLESS, combinations_table, controls_of
from tests.hand_written import linear

COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]])
PRECISION = np.linalg.inv(COVARIANCE)
MEAN = np.array([2.0, -1.0])


def correlated():
    constant = -0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    density = lambda p: constant - 0.5 * (p["v"] - MEAN) @ PRECISION @ (p["v"] - MEAN)
    return po.log_density(density, initial={"v": np.zeros(2)})


def fit(target, method="advi", **options):
    return po.fit(target, method, progress=False, **{"random_seed": 1, **options})


@pytest.fixture(scope="module")
def target():
    return correlated()


@pytest.fixture(scope="module")
def mean_field(target):
    return fit(target, n=3000)


def test_averages_end_at_the_optimum(target):
    approx = fit(target, stop=po.Averaging(tolerance=0.02))
    best = 0.5 * np.log(1 - 0.9**2)  # minus the divergence of the best independent normals
    assert approx.result == "converged"
    assert "halving the step size" in approx.record.sentence
    assert approx.elbo == pytest.approx(best, abs=0.02 + 4 * approx.elbo_se)
    np.testing.assert_allclose(approx.family.mean(approx.params), MEAN, atol=0.03)
    np.testing.assert_allclose(approx.family.standard_deviations(approx.params), np.sqrt(1 - 0.9**2), rtol=0.03)


def test_a_warm_start_of_another_family_and_of_the_same(target, mean_field):
    full = fit(target, "fullrank_advi", start=mean_field, n=3000)
    np.testing.assert_allclose(full.family.covariance(full.params), COVARIANCE, atol=0.1)
    again = fit(target, start=mean_field, n=1)  # one step of the last size: next to nothing
    np.testing.assert_allclose(again.params, mean_field.params, atol=0.3)
    with pytest.raises(OptionError, match="variables"):
        fit(linear(), start=mean_field)


def test_limit_of_time_keeps_what_is_there(target):
    approx = fit(target, n=10**9, max_seconds=0.2)
    assert approx.result == "max_seconds"
    assert "time" in approx.record.sentence
    assert 0 < approx.record.steps < 10**9
    assert not approx.diagnose().trustworthy


@pytest.mark.slow
def test_a_mixture_finds_two_modes_and_their_weights():
    def density(p):
        log_normal = lambda at, scale: jax.scipy.stats.norm.logpdf(p["v"], at, scale)
        return jnp.logaddexp(np.log(0.3) + log_normal(-3.0, 0.5), np.log(0.7) + log_normal(2.0, 0.4))

    approx = fit(po.log_density(density, initial={"v": 0.0}), po.ADVI(family=po.Mixture(2)), restarts=6)
    order = np.argsort(approx.params["components"][:, 0, 0])
    weights = np.exp(approx.params["log_weights"])[order]
    np.testing.assert_allclose(approx.params["components"][order, 0, 0], [-3, 2], atol=0.1)
    np.testing.assert_allclose(weights / weights.sum(), [0.3, 0.7], atol=0.02)
    assert approx.elbo == pytest.approx(0, abs=0.02)  # the density is normalised, and of the family
    z = approx.sample_unconstrained(4000)
    assert np.mean(z > 0) == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / 4000) + 0.02)


def test_early_stop_and_trace_depend_on_steps_and_not_on_the_clock():
    target = linear()
    x, y = target.data["x"], target.data["y"]
    runs = []
    for _ in range(2):
        stop, trace = EarlyStop({"x": x[:40]}, y[:40], every=500, draws=50), LiveTrace(every=1000)
        approx = fit(target, n=50_000, callbacks=[stop, trace])
        assert approx.result == "callback"
        assert "held-out rows" in approx.record.sentence
        runs.append((approx.params, stop.scores))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    steps = [step for step, _ in runs[0][1]]
    assert steps == list(range(500, 500 * len(steps) + 1, 500))
    assert trace.means.shape == trace.deviations.shape == (len(trace.steps), target.layout.size)
    with pytest.raises(OptionError, match="every"):
        LiveTrace(every=0)


@pytest.mark.parametrize(
    ("optimiser", "match"),
    [
        ("adamw", "decays"),
        ("sgd", "rate of your own"),
        ("lbfgs", "dadvi"),
        ("adamm", "adam, adabelief"),
        (optax.lbfgs(), "gradients alone"),
        (optax.adam, "PyMC"),
        (3, "optax optimiser"),
    ],
)
def test_nonsense_optimisers_are_refused(optimiser, match):
    with pytest.raises(OptionError, match=match):
        resolve(optimiser)


def test_named_optimisers_follow_the_schedule_and_compile_once(target):
    assert all(resolve(name) is resolve(name) for name in DIRECTIONS)
    approx = fit(target, n=3000, obj_optimizer="adabelief")
    np.testing.assert_allclose(approx.family.mean(approx.params), MEAN, atol=0.1)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (po.Laplace(), {"n": 10}),
        (po.Laplace(), {"max_seconds": 1.0}),
        (po.Laplace(), {"checkpoint": "runs/x"}),
        (po.Laplace(), {"batch_size": 10}),
        (po.ADVI(), {"n": 10, "stop": po.Rounds()}),
        (po.ADVI(), {"stop": po.Averaging(), "obj_optimizer": optax.adam(0.1)}),
        (po.ADVI(family=po.Mixture(4)), {"restarts": 2}),
        (po.ADVI(), {"max_seconds": 0}),
        (po.ADVI(), {"stop": 3}),
        (po.ADVI(), {"start": "there"}),
        (po.ADVI(), {"callbacks": [3]}),
    ],
)
def test_meaningless_options_are_refused(method, options):
    with pytest.raises(OptionError):
        controls_of(method, **options)


def test_the_documentation_shows_the_table_of_combinations():
    page = Path(__file__).parents[2] / "docs" / "methods" / "advi.md"
    assert combinations_table() in page.read_text()
    assert len(MEANINGLESS) > 5
