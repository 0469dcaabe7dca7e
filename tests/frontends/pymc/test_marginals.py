"""Discrete variables summed out by pymc-extras; runs where that is installed."""

import threading

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pymc")
pytest.importorskip("pymc_extras")

import pymc as pm
import pymc_extras

import posterion as po
from posterion.frontends.pymc.marginals import repaired_marginals

Y = np.array([-1.2, 0.4, 2.1, 1.7])


def mixture():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 2)
        which = pm.Bernoulli("which", 0.3, shape=len(Y))
        pm.Normal("y", pm.math.switch(which, mu, -mu), 1.0, observed=Y)
    return pymc_extras.marginalize(model, ["which"])


def test_the_repair_is_still_needed_and_only_for_its_own_thread():
    model, others = mixture(), []

    def elsewhere():
        try:
            model.logp()
        except AttributeError:
            others.append("as before")

    with repaired_marginals():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        found = model.compile_logp()({"mu": np.array(0.7)})
    assert others == ["as before"], "pymc-extras can do this itself now: delete the repair"
    pieces = 0.3 * stats.norm.pdf(Y, 0.7) + 0.7 * stats.norm.pdf(Y, -0.7)
    assert found == pytest.approx(stats.norm.logpdf(0.7, 0, 2) + np.log(pieces).sum(), rel=1e-8)
    with pytest.raises(AttributeError):
        model.logp()


def test_a_marginalised_model_is_fitted():
    approx = po.fit(mixture(), "fullrank_advi", n=2000, random_seed=0, progress=False)
    grid = np.linspace(-6, 6, 4001)
    pieces = 0.3 * stats.norm.pdf(Y[:, None], grid) + 0.7 * stats.norm.pdf(Y[:, None], -grid)
    evidence = np.log(np.trapezoid(stats.norm.pdf(grid, 0, 2) * pieces.prod(axis=0), grid))
    assert evidence - 1 < approx.elbo < evidence + 0.02
