"""NumPyro's automatic guides stand for families: the same posterior comes out as from NumPyro itself."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO, autoguide

import posterion as po
from posterion.errors import OptionError
from posterion.families import FullRank, LowRank, MeanField


def model(x, y):
    slope = numpyro.sample("slope", dist.Normal(0, 2).expand((2,)).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("out", dist.Normal(x @ slope, 1.0), obs=y)


@pytest.mark.parametrize(
    ("guide", "family"),
    [
        (autoguide.AutoNormal(model), MeanField()),
        (autoguide.AutoDiagonalNormal, MeanField()),
        (autoguide.AutoMultivariateNormal(model), FullRank()),
        (autoguide.AutoLowRankMultivariateNormal(model, rank=3), LowRank(rank=3)),
        (autoguide.AutoLowRankMultivariateNormal(model), LowRank()),
    ],
)
def test_guides_are_recognised(guide, family):
    assert po.ADVI(family=guide) == po.ADVI(family=family)


@pytest.mark.slow
def test_the_posterior_is_the_one_numpyro_finds():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 2)) @ np.array([[1.0, 0.9], [0.0, 0.45]])
    y = x @ [1.0, -1.0] + random.normal(size=40)
    guide = autoguide.AutoMultivariateNormal(model)
    ours = po.fit(model, po.ADVI(family=guide), model_kwargs={"x": x, "y": y}, random_seed=0, progress=False)
    z = ours.sample(4000)["posterior"]["slope"].values[0]
    svi = SVI(model, guide, numpyro.optim.Adam(0.01), Trace_ELBO(num_particles=10))
    found = svi.run(jax.random.key(0), 3000, x=x, y=y, progress_bar=False)
    posterior = guide.get_posterior(found.params)
    sd = np.sqrt(np.diag(posterior.covariance_matrix))
    np.testing.assert_allclose(z.mean(0), posterior.mean, atol=0.1 * sd.max())
    np.testing.assert_allclose(np.cov(z.T), posterior.covariance_matrix, rtol=0.2, atol=0.02 * sd.max() ** 2)


def test_other_guides_are_refused_by_name():
    with pytest.raises(OptionError, match="AutoDelta .*use method='map'"):
        po.ADVI(family=autoguide.AutoDelta(model))

    class Mine(autoguide.AutoNormal):
        pass

    with pytest.raises(OptionError, match="family=Mine is none of"):
        po.ADVI(family=Mine(model))
