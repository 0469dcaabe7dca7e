"""`fit` from the door: closed forms, seeds, mini-batches, interruption, and errors before any work is lost."""

import threading

import jax
import numpy as np
import optax
import pytest

import posterion as po
from posterion import engine
from posterion.compilation import cache
from posterion.engine import by_steps
from posterion.errors import DataError, NonFiniteError, OptionError, UnsupportedModelError
from posterion.frontends import target_of
from posterion.target import AbstractRowTarget, AbstractTarget, JointTerms, Layout, RowPlan, Slot, Variable
from tests.hand_written import HandTarget, linear, network


class ConjugateRegression(AbstractRowTarget):
    """y ~ N(x @ w, 1), w ~ N(0, 1), columns of wildly different scales: a Gaussian posterior in closed form."""

    def __init__(self, scales=(1.0, 1.0, 1.0), num_rows=60, seed=0):
        rng = np.random.default_rng(seed)
        self._x = rng.normal(size=(num_rows, len(scales))) * np.asarray(scales)
        self._y = self._x @ (1 / np.asarray(scales)) + rng.normal(size=num_rows)
        dim = len(scales)
        self.layout = Layout((Variable("w", (dim,), (dim,)),))
        self.slots = {
            "x": Slot("float64", (None, dim), (), 0),
            "y": Slot("float64", (None,), (), 0, only_observed=True),
        }
        self.observed, self.num_rows = {}, {"y": num_rows}
        self.prior_precision = np.ones(dim) / 100**2

    @property
    def data(self):
        return {"x": self._x, "y": self._y}

    def joint_terms(self, z, data):
        rows = jax.scipy.stats.norm.logpdf(data["y"], data["x"] @ z, 1.0)
        return JointTerms(jax.scipy.stats.norm.logpdf(z, 0.0, 100.0).sum(), {"y": rows})

    def exact(self):
        """Posterior mean, best mean-field standard deviations, log evidence minus the gap of mean field."""
        precision = self._x.T @ self._x + np.diag(self.prior_precision)
        return np.linalg.solve(precision, self._x.T @ self._y), 1 / np.sqrt(np.diag(precision))

    def constrain(self, z, data):
        return {"w": z}

    def initial_point(self, seed):
        return np.zeros(self.layout.size)

    def row_plan(self, over=None):
        return RowPlan(len(self._x), (("x", 0), ("y", 0)), ("y",))

    moments = simulate = row_values = new_rows = None


def fit(target, **options):
    return po.fit(target, progress=False, **{"random_seed": 1, **options})


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1e-3, 1.0, 1e4)])
def test_conjugate_regression_in_closed_form_whatever_the_units(scales):
    target = ConjugateRegression(scales)
    approx = fit(target)
    mean, sd = target.exact()
    location, log_scale = approx.params
    assert approx.result == "converged"
    assert approx.record.x64
    # The ELBO is within the tolerance of its optimum, 0.1 nats: a location is off by less than sqrt(2 * 0.1) sd.
    np.testing.assert_array_less(np.abs(location - mean) / sd, np.sqrt(2 * 0.1))
    np.testing.assert_allclose(np.exp(log_scale), sd, rtol=0.25)


def test_fixed_steps_come_closer_still():
    target = ConjugateRegression()
    approx = fit(target, n=20_000)
    mean, sd = target.exact()
    np.testing.assert_allclose(approx.params[0], mean, atol=0.05 * sd.min())
    np.testing.assert_allclose(np.exp(approx.params[1]), sd, rtol=0.05)
    assert approx.hist.shape == (20_000,)
    assert approx.result == "fixed_steps"


def test_mini_batches_agree_with_all_rows():
    target = linear(num_rows=120)
    whole, batched = fit(target, n=6000), fit(target, n=12_000, batch_size=25)
    sd = np.exp(whole.params[1])
    np.testing.assert_array_less(np.abs(whole.params[0] - batched.params[0]) / sd, 0.35)
    assert batched.record.rows_per_step == 25
    assert "25 of 120 rows" in repr(batched)
    # The reported ELBO is of all rows in both; the fits differ by what mini-batch noise costs.
    assert abs(whole.elbo - batched.elbo) < 0.6
    # And so is the history: its level is that of the full objective, not of a batch's.
    assert np.mean(batched.hist[-2000:]) == pytest.approx(-batched.elbo, abs=5)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    target = network(num_rows=50)
    first, again, other = (fit(target, n=500, random_seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.params, again.params)
    np.testing.assert_array_equal(first.hist, again.hist)
    assert not np.array_equal(first.params, other.params)
    fresh = fit(network(num_rows=50), n=500, random_seed=3)  # another object, another compilation
    np.testing.assert_array_equal(first.params, fresh.params)
    np.testing.assert_array_equal(first.sample_unconstrained(5), again.sample_unconstrained(5))


def test_without_a_seed_the_one_drawn_is_recorded_and_reproduces():
    target = network(num_rows=50)
    first = fit(target, n=200, random_seed=None)
    np.testing.assert_array_equal(first.params, fit(target, n=200, random_seed=first.random_seed).params)


def test_a_second_fit_compiles_nothing():
    target = network(num_rows=50)
    fit(target, n=100)
    for options in ({"n": 1234}, {"random_seed": 9}, {}):
        with cache.stopwatch() as watch:
            fit(target, **options)
        assert watch.seconds == 0


def test_precision_is_per_fit_and_thread():
    assert fit(network(num_rows=50), n=50).params.dtype == np.float32
    assert fit(network(num_rows=50), n=50, precision="float64").params.dtype == np.float64
    assert fit(linear(), n=50).params.dtype == np.float64
    assert fit(linear(), n=50, precision="float32").params.dtype == np.float32
    found = {}

    def work(name, precision):
        found[name] = fit(network(num_rows=50), n=300, precision=precision).params

    threads = [threading.Thread(target=work, args=(p + str(k), p)) for p in ("float32", "float64") for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: value.dtype.name for name, value in found.items()} == {n: n[:-1] for n in found}
    np.testing.assert_array_equal(found["float640"], found["float641"])


def test_interrupting_returns_what_exists(monkeypatch):
    real, calls = by_steps.Loop.run, []

    def interrupted(self, *arguments, **options):
        program, count = self._program, [0]

        def stop_after_two(*inner):
            count[0] += 1
            if len(calls) == 3 and count[0] > 2:
                raise KeyboardInterrupt
            return program(*inner)

        calls.append(None)
        self._program, self._next_count = stop_after_two, lambda remaining, done: min(100, remaining)
        try:
            return real(self, *arguments, **options)
        finally:
            self._program = program

    monkeypatch.setattr(by_steps.Loop, "run", interrupted)
    approx = fit(network(num_rows=50))
    assert approx.result == "interrupted"
    assert "kept" in approx.record.sentence
    assert not approx.diagnose().trustworthy
    assert np.isfinite(approx.elbo)
    assert np.all(np.isfinite(approx.params))


def test_restarts_and_optimisers_and_callbacks():
    target = network(num_rows=50)
    assert fit(target, restarts=3, stop=po.Rounds(first=200)).result == "converged"
    for optimiser in ("adam", optax.rmsprop(1e-2)):
        approx = fit(target, n=3000, obj_optimizer=optimiser)
        assert np.mean(approx.hist[-200:]) < np.mean(approx.hist[:50])
    seen = []
    fit(target, n=1000, callbacks=[lambda progress: seen.append(progress.step)])
    assert seen[-1] == 1000


def test_draws_have_the_fitted_moments():
    approx = fit(network(num_rows=50), n=500)
    z = approx.sample_unconstrained(20_000)
    location, log_scale = approx.params
    error = np.exp(log_scale) / np.sqrt(20_000)
    assert np.all(np.abs(z.mean(0) - location) < 5 * error)
    np.testing.assert_allclose(z.std(0), np.exp(log_scale), rtol=5 / np.sqrt(2 * 20_000))


def test_the_elbo_is_the_closed_form_for_a_gaussian_target():
    """With q the exact posterior of independent columns, the ELBO is the log evidence and has no Monte Carlo error."""
    target = ConjugateRegression()
    q, _ = np.linalg.qr(target._x)
    target._x = q * 5  # orthogonal columns: the posterior is mean-field
    approx = fit(target, n=8000)
    x, y = target._x, target._y
    covariance = np.eye(len(y)) + x @ np.diag(1 / target.prior_precision) @ x.T
    evidence = -0.5 * (y @ np.linalg.solve(covariance, y) + np.linalg.slogdet(2 * np.pi * covariance)[1])
    assert approx.elbo == pytest.approx(evidence, abs=0.02)
    assert approx.diagnose().khat < 0.7


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0}, "n must be"),
        ({"n": -5}, "n must be"),
        ({"n": False}, "n must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"batch_size": 121}, "larger than the 120 rows"),
        ({"restarts": 0}, "restarts must be"),
        ({"n": 10, "stop": po.Rounds()}, "one of them"),
        ({"method": "advy"}, "advi"),
        ({"obj_optimizer": "adamm"}, "adam"),
        ({"obj_optimizer": "sgdd"}, "optax"),
        ({"random_seed": -1}, "random_seed"),
        ({"precision": "float16"}, "float16"),
        ({"method": "laplace", "n": 100}, "end of its own"),
        ({"method": "laplace", "stop": po.Rounds()}, "end of its own"),
        ({"method": "laplace", "callbacks": [print]}, "end of its own"),
        ({"method": "map", "obj_optimizer": "adam"}, "end of its own"),
        ({"method": "map", "batch_size": 10}, "all rows at once"),
    ],
)
def test_nonsense_is_refused_before_any_work(options, match, monkeypatch):
    monkeypatch.setattr(engine, "run", None)
    with pytest.raises(OptionError, match=match):
        fit(linear(), **options)


def test_data_are_checked_before_any_work():
    target = linear()
    x = target.data["x"].copy()
    x[3, 1] = np.nan
    x[7, 1] = np.inf
    with pytest.raises(DataError, match=r"x.*column 1") as caught:
        fit(target, data={"x": x})
    assert "2" in str(caught.value)
    with pytest.raises((OptionError, DataError), match="inputs are"):
        fit(target, data={"z": x})


def test_other_data_by_name():
    target = linear()
    x, y = target.data["x"], target.data["y"]
    with pytest.raises(DataError, match="60 rows and the model was built on 120"):
        fit(target, data={"x": x[:60], "y": y[:60]})
    other = fit(target, n=3000, data={"x": x, "y": -y})
    assert not np.allclose(other.params[0], fit(target, n=3000).params[0], atol=0.1)


def test_a_start_that_is_nowhere_finite_names_the_variable():
    class Broken(HandTarget):
        def joint_terms(self, z, data):
            terms = super().joint_terms(z, data)
            return JointTerms(terms.log_prior, {"out": terms.log_likelihood["out"] * np.nan})

        def named_terms(self, z, data):
            terms = self.joint_terms(z, data)
            return {"w": terms.log_prior, "out": terms.log_likelihood["out"].sum()}

    broken = linear()
    broken.__class__ = Broken
    with pytest.raises(NonFiniteError, match="out"):
        fit(broken)


class OnlyDensity(AbstractTarget):
    """A density and nothing else."""

    layout, slots = Layout((Variable("v", (2,), (2,)),)), {}
    data = {}

    def log_density(self, z, data):
        return -0.5 * jax.numpy.sum((z - 1.0) ** 2)

    def constrain(self, z, data):
        return {"v": z}

    def initial_point(self, seed):
        return np.zeros(2)


def test_an_opaque_density_fits_and_says_what_it_cannot_do():
    approx = fit(OnlyDensity())
    np.testing.assert_allclose(approx.params[0], 1, atol=0.2)
    assert approx.sample(10)["posterior"]["v"].shape == (1, 10, 2)
    with pytest.raises(UnsupportedModelError, match="density"):
        approx.predict({})
    with pytest.raises(UnsupportedModelError, match="batch_size"):
        fit(OnlyDensity(), batch_size=2)


@pytest.mark.parametrize("model", [None, 3, "model"])
def test_what_is_no_model_is_named(model):
    with pytest.raises(UnsupportedModelError):
        target_of(model)


def test_full_rank_is_exact_on_a_gaussian_posterior_of_any_units():
    """The start in coordinates of the curvature is the answer, and sticking the landing has no noise to move it."""
    target = ConjugateRegression((1e-3, 1.0, 1e4))
    target._x[:, 1] += 3 * target._x[:, 0] / 1e-3  # columns that are correlated, too
    approx = fit(target, method="fullrank_advi")
    precision = target._x.T @ target._x + np.diag(target.prior_precision)
    covariance = np.linalg.inv(precision)
    sd = np.sqrt(np.diag(covariance))
    mean = np.linalg.solve(precision, target._x.T @ target._y)
    np.testing.assert_array_less(np.abs(approx.family.mean(approx.params) - mean) / sd, 1e-4)
    np.testing.assert_allclose(
        approx.family.covariance(approx.params) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=1e-4
    )
    assert approx.elbo_se < 1e-4
    assert approx.diagnose().khat < 0.5


def test_a_family_too_large_is_refused_with_its_bytes(monkeypatch):
    from posterion.families import memory

    monkeypatch.setattr(memory, "bytes_available", lambda: 1000)
    with pytest.raises(OptionError, match=r"1,\d\d\d bytes .*1,000 bytes.*LowRank"):
        fit(linear(), method="fullrank_advi")
