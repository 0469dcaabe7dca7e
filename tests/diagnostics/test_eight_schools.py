"""Eight schools: k-hat is fine, and linear response gives the scale of the hierarchy twice its spread."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats
from numpyro.distributions import constraints

import posterion as po
from tests.methods.targets import fit

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


@pytest.fixture(scope="module")
def target():
    def prior(p):
        half_cauchy = jnp.log(2.0) + stats.cauchy.logpdf(p["tau"], 0.0, 5.0)
        return stats.norm.logpdf(p["mu"], 0.0, 5.0) + half_cauchy + jnp.sum(stats.norm.logpdf(p["raw"]))

    return po.log_density(
        log_prior=prior,
        log_likelihood=lambda p, d: stats.norm.logpdf(d["y"], p["mu"] + p["tau"] * p["raw"], d["error"]),
        initial={"mu": 0.0, "tau": 1.0, "raw": np.zeros(8)},
        supports={"tau": constraints.positive},
        data={"y": EFFECTS, "error": ERRORS},
    )


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_scale_that_is_twice_too_wide_is_never_trusted(target, seed, tmp_path):
    approx = fit(target, po.DeterministicADVI(correct=False), random_seed=seed)
    first = repr(approx)
    assert "trustworthy" not in first  # k-hat is all that is known so far, and it is fine
    assert "nothing against it at first look" in first
    approx.save(tmp_path / "schools.posterion")
    loaded = repr(po.load(tmp_path / "schools.posterion"))  # it cannot be looked at closer, and is not trusted either
    assert "trustworthy" not in loaded
    assert "po.load(path, model=...)" in loaded
    verdict = approx.diagnose()
    assert verdict.khat < verdict.khat_threshold
    assert not verdict.trustworthy
    assert "the spread of tau" in verdict.reasons[0]
    assert "times too wide" in verdict.reasons[0]
    assert "not trustworthy: the spread of tau" in repr(approx)
    assert float(approx.sample(4000)["posterior"]["tau"].std()) > 1.4 * 3.2  # posteriordb's reference has 3.2
    tau = verdict.corrections.names.index("tau")
    assert verdict.corrections.corrected_sd[tau] == pytest.approx(3.2, rel=0.2)


@pytest.mark.parametrize("seed", [1, 2])
def test_linear_response_is_corrected_where_weights_can_be_trusted(target, seed):
    approx = fit(target, "dadvi", random_seed=seed)
    assert float(approx.sample(4096)["posterior"]["tau"].std()) == pytest.approx(3.2, rel=0.1)  # 6 by itself
    assert "resampled by importance" in repr(approx)
    assert approx.diagnose().trustworthy
