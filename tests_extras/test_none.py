"""The core alone: it imports, says what is missing, and fits what needs no extra."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from environment import only

import posterion as po

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=100)
Y = 1 + 2 * X + 0.3 * RANDOM.normal(size=100)


def line(x, y=None):
    level, slope = numpyro.sample("level", dist.Normal(0, 5)), numpyro.sample("slope", dist.Normal(0, 5))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(level + slope * x, 0.3), obs=y)


def test_the_environment_is_what_it_should_be():
    only("none")


def test_every_public_name_is_there_or_says_what_to_install():
    asked = {}
    for name in po.__all__:
        try:
            getattr(po, name)
        except po.errors.MissingExtraError as error:
            asked[name] = str(error)
    assert all("pip install 'posterion[sklearn]'" in said for said in asked.values())
    assert all(name.startswith("Bayesian") for name in asked), "only estimators need an extra"


def test_compiled_programs_are_kept(tmp_path, monkeypatch, recwarn):
    monkeypatch.setenv("POSTERION_CACHE", str(tmp_path))
    po.fit(line, model_args=(X[:50], Y[:50]), n=100, progress=False)
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    assert not [str(w.message) for w in recwarn if "compilation cache" in str(w.message)]


def test_a_numpyro_model_fits_predicts_and_is_kept(tmp_path):
    approx = po.fit(line, model_args=(X, Y), progress=False, random_seed=1)
    new = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(approx.predict({"x": new}).mean["y"], 1 + 2 * new, atol=0.2)
    approx.save(tmp_path / "line.posterion")
    kept = po.load(tmp_path / "line.posterion").predict({"x": new})
    np.testing.assert_allclose(kept.mean["y"], approx.predict({"x": new}).mean["y"], rtol=1e-4)


def test_a_log_density_fits():
    target = po.log_density(lambda p: -0.5 * (p["z"] - 1) ** 2, initial={"z": 0.0})
    assert abs(float(po.fit(target, progress=False).sample(1000)["posterior"]["z"].mean()) - 1) < 0.2


def test_what_is_missing_is_named():
    with pytest.raises(po.errors.MissingExtraError, match=r"posterion\[stan\]"):
        po.stan("parameters { real z; } model { z ~ std_normal(); }")
