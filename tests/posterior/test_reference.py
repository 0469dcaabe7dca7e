"""Comparison with NUTS where the posterior is known, and of a network's predictions."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import posterion as po
from posterion.diagnostics import NutsComparison
from posterion.errors import OptionError, UnsupportedModelError
from posterion.plots import plot_comparison

CORRELATION = 0.9
PRECISION = np.linalg.inv([[1.0, CORRELATION], [CORRELATION, 1.0]])


def correlated(values):
    x = values["x"] - 1.0
    return -0.5 * x @ jnp.asarray(PRECISION) @ x


@pytest.mark.slow
def test_nuts_finds_what_independent_normals_miss(tmp_path):
    approx = po.fit(po.log_density(correlated, initial={"x": np.zeros(2)}), n=2000, random_seed=1, progress=False)
    found = approx.compare_with_nuts(draws=400, warmup=200, chains=2)
    assert found.names == ("x[0]", "x[1]")
    assert found.num_draws == 800
    error = 1 / np.sqrt(np.nanmin(found.ess))
    np.testing.assert_allclose(found.nuts_mean, 1.0, atol=4 * error)
    np.testing.assert_allclose(found.nuts_sd, 1.0, atol=4 * error)
    np.testing.assert_allclose(found.ratio, np.sqrt(1 - CORRELATION**2), rtol=0.15)  # what mean-field must give
    np.testing.assert_allclose(found.error, 0.0, atol=5 * error)
    assert found.mixed
    text = str(found)
    assert "sds 0.4" in text
    assert "0 divergences" in text
    assert found.to_dataset().sizes == {"quantity": 2}
    approx.save(tmp_path / "it.posterion")
    with pytest.raises(UnsupportedModelError, match="binds it to the model"):
        po.load(tmp_path / "it.posterion").compare_with_nuts()
    with pytest.raises(OptionError, match="chains"):
        approx.compare_with_nuts(chains=0)


def table(rhat=1.0, divergences=0):
    names = tuple(f"w[{k}]" for k in range(30))
    offset = np.linspace(0.0, 2.9, 30)
    one = np.ones(30)
    return NutsComparison(names, offset, one, 0 * one, 2 * one, rhat * one, 100 * one, divergences, 1000, 1.0, 2.0)


def test_the_worst_come_first_in_table_and_picture():
    found = table()
    assert found.worst(2) == [29, 28]
    np.testing.assert_allclose(found.error[29], 1.45)
    np.testing.assert_allclose(found.ratio, 0.5)
    figure = Figure()
    left, right = plot_comparison(found, most=10, axes=figure.subplots(1, 2))
    assert [label.get_text() for label in left.get_yticklabels()][:2] == ["w[29]", "w[28]"]
    np.testing.assert_allclose(left.collections[-1].get_offsets()[0], [1.45, 0])
    np.testing.assert_allclose(right.collections[-1].get_offsets()[:, 0], 0.5)


def test_a_run_that_has_not_mixed_says_so():
    assert table().mixed
    for bad in (table(rhat=1.2), table(rhat=np.nan), table(divergences=3)):
        assert not bad.mixed
        assert "NUTS has not mixed" in str(bad)


@pytest.mark.slow
def test_a_network_is_compared_by_its_predictions():
    pm = pytest.importorskip("pymc")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 2))
    y = (rng.random(80) < 1 / (1 + np.exp(-2 * np.tanh(x[:, 0] + x[:, 1])))).astype(float)
    with pm.Model():
        inputs = pm.Data("inputs", x)
        hidden = pm.math.tanh(pm.math.dot(inputs, pm.Normal("w", 0, 1, shape=(2, 3), initval=rng.normal(size=(2, 3)))))
        out = pm.math.dot(hidden, pm.Normal("v", 0, 1, shape=3, initval=rng.normal(size=3)))
        pm.Bernoulli("y", logit_p=out, observed=pm.Data("outcomes", y))
        approx = po.fit(random_seed=1, progress=False)
    found = approx.compare_with_nuts(draws=300, warmup=300, chains=2)
    assert found.of == "predictions"
    assert len(found.names) == 80
    assert np.median(np.abs(found.error)) < 0.5
    assert np.all((found.ratio > 0.3) & (found.ratio < 3))
    assert approx.compare_with_nuts(draws=50, warmup=50, chains=2, data={"inputs": x[:5]}).names[0] == "y[0]"
