"""The posterior a user holds: draws, predictions, text, and its file, with hand-written targets."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import posterion as po
from posterion.errors import DataError, OptionError, PosteriorFileError, UnsupportedModelError
from posterion.families.describe import from_plain, to_plain
from posterion.posterior import store
from tests.hand_written import linear, network


@pytest.fixture(scope="module")
def approx():
    return po.fit(network(num_rows=80), n=1500, random_seed=2, progress=False)


@pytest.fixture(scope="module")
def regression():
    return po.fit(linear(num_rows=60), n=1500, random_seed=2, progress=False)


ROWS = {"x": np.random.default_rng(5).normal(size=(11, 2))}


def test_draws_are_arviz_trees_with_the_models_names(regression):
    tree = regression.sample(200)
    posterior = tree["posterior"]
    assert posterior["w"].dims == ("chain", "draw", "columns")
    assert posterior["columns"].values.tolist() == ["a", "b", "c"]
    assert posterior["sigma"].shape == (1, 200)
    assert np.all(posterior["sigma"] > 0)
    assert posterior.attrs["inference_library"] == "posterion"
    np.testing.assert_array_equal(tree["posterior"]["w"], regression.sample(200)["posterior"]["w"])
    assert not np.array_equal(tree["posterior"]["w"], regression.sample(200, random_seed=9)["posterior"]["w"])


def test_predicts_any_number_of_rows_without_outcomes(approx):
    for rows in (1, 11, 33, 3000):
        x = np.random.default_rng(rows).normal(size=(rows, 2))
        prediction = approx.predict({"x": x}, draws=20)
        assert prediction.mean["out"].shape == (rows,)
    again = approx.predict(ROWS, draws=50)
    np.testing.assert_array_equal(again.mean["out"], approx.predict(ROWS, draws=50).mean["out"])
    fitted = approx.predict(draws=20)
    assert fitted.mean["out"].shape == (80,)


def test_text_says_why_it_stopped_and_what_to_think_of_it(approx):
    text = repr(approx)
    for part in ("1,500 steps", "ELBO", "verdict", "compiling", "40 parameters in 3 variables", "MeanField"):
        assert part in text
    assert approx.history["neg_elbo"].shape == (1500,)
    np.testing.assert_array_equal(approx.hist, approx.history["neg_elbo"])


def test_the_file_gives_the_same_numbers_back(approx, tmp_path):
    path = tmp_path / "a.posterion"
    approx.save(path)
    loaded = po.load(path)
    for draws in (20, 2500):
        live, other = approx.predict(ROWS, draws=draws), loaded.predict(ROWS, draws=draws)
        for statistic in ("mean", "std", "mean_std", "epistemic", "aleatoric"):
            np.testing.assert_array_equal(getattr(live, statistic)["out"], getattr(other, statistic)["out"])
    np.testing.assert_array_equal(approx.sample_unconstrained(7), loaded.sample_unconstrained(7))
    np.testing.assert_array_equal(approx.sample(7)["posterior"]["w_1_2"], loaded.sample(7)["posterior"]["w_1_2"])
    assert repr(loaded) == repr(approx)
    assert loaded.elbo == approx.elbo
    missing = set(approx.diagnose().reasons) - set(loaded.diagnose().reasons)
    assert all("the posterior is the prior" in reason for reason in missing)  # which takes the model to tell
    assert loaded.record == approx.record
    with pytest.raises(DataError, match="not at hand"):
        loaded.predict()
    with pytest.raises(UnsupportedModelError, match="fit"):
        po.fit(loaded.target, progress=False)


def test_a_loaded_posterior_saves_again(approx, tmp_path):
    first, second = tmp_path / "a.posterion", tmp_path / "b.posterion"
    approx.save(first)
    po.load(first).save(second)
    (arrays, description), (again, described_again) = store.read(first), store.read(second)
    assert description == described_again  # the header's two entries may change places, so not the bytes
    assert arrays.keys() == again.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, again[name])


def test_the_parameters_bind_to_the_model_again(approx, tmp_path):
    path = tmp_path / "a.posterion"
    approx.save(path)
    bound = po.load(path, model=network(num_rows=80))
    np.testing.assert_allclose(bound.predict(ROWS).mean["out"], approx.predict(ROWS).mean["out"], rtol=1e-6)
    with pytest.raises(PosteriorFileError, match="w_in_1"):
        po.load(path, model=linear())


def test_a_family_of_a_newer_version_is_named(approx, tmp_path):
    path = tmp_path / "a.posterion"
    approx.save(path)
    arrays, description = store.read(path)
    store.write(path, arrays, {**description, "family": {"family": "Quantum"}})
    with pytest.raises(PosteriorFileError, match="Quantum"):
        po.load(path)
    plain = to_plain(approx.family)
    assert from_plain(json.loads(json.dumps(plain))) == approx.family


def test_damaged_parameters_are_noticed(approx, tmp_path):
    path = tmp_path / "a.posterion"
    approx.save(path)
    arrays, description = store.read(path)
    del arrays["params/0"]
    store.write(path, arrays, description)
    with pytest.raises(PosteriorFileError, match="parameters do not fit"):
        po.load(path)


def test_another_process_loads_and_predicts_the_same(approx, tmp_path):
    path = tmp_path / "a.posterion"
    approx.save(path)
    np.savez(tmp_path / "rows.npz", x=ROWS["x"], mean=approx.predict(ROWS).mean["out"])
    script = textwrap.dedent("""
        import sys
        import numpy as np
        import posterion as po
        rows = np.load(sys.argv[2])
        mean = po.load(sys.argv[1]).predict({"x": rows["x"]}).mean["out"]
        np.testing.assert_array_equal(mean, rows["mean"])
        assert "pymc" not in sys.modules
    """)
    arguments = [sys.executable, "-c", script, str(path), str(tmp_path / "rows.npz")]
    subprocess.run(arguments, check=True, env=os.environ.copy())


@pytest.mark.parametrize("draws", [0, -1, True])
def test_draws_are_a_positive_whole_number(approx, draws):
    with pytest.raises(OptionError, match="draws"):
        approx.sample(draws)
    with pytest.raises(OptionError, match="draws"):
        approx.predict(ROWS, draws=draws)
