import sys

import numpy as np
import pandas
import pytest

from posterion.errors import MissingExtraError, OptionError
from posterion.predictive import predict
from tests import hand_written as hand
from tests.predictive.test_predict import KEY, draws_for, every_moment, inputs_for


@pytest.fixture(scope="module")
def classes():
    target = hand.linear(hand.CATEGORICAL)
    table = pandas.DataFrame(inputs_for(target, 4)["x"], index=["ann", "<b>", "cy", "dan"])
    return predict(target, draws_for(target, 30), {"x": table}, key=KEY, x64=True)


def test_a_wrong_name_is_answered_with_the_right_ones(classes):
    with pytest.raises(KeyError, match="no mean for 'uot'; there is one for: out, eta"):
        classes.mean["uot"]
    with pytest.raises(KeyError, match="no aleatoric for 'eta'; there is one for: out"):
        classes.aleatoric["eta"]


def test_shapes_and_counts(classes):
    assert (classes.num_rows, classes.num_draws, classes.names) == (4, 30, ("out", "eta"))
    assert classes.mean["out"].shape == classes.std["out"].shape == (4, 3)
    assert classes.total["out"].shape == (4,)
    assert classes.units == {"out": "nats", "eta": "variance"}


def test_text_forms(classes):
    text = repr(classes)
    assert "4 rows from 30 posterior draws" in text
    assert "out: mean" in text
    assert "epistemic share" in text
    html = classes._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "out_total" in html


def test_data_frame_has_one_column_per_number(classes):
    frame = classes.to_dataframe()
    assert frame.index.tolist() == ["ann", "<b>", "cy", "dan"]
    np.testing.assert_array_equal(frame["out_mean[2]"], classes.mean["out"][:, 2])
    np.testing.assert_array_equal(frame["out_epistemic"], classes.epistemic["out"])
    assert "eta_aleatoric[0]" not in frame


def test_data_tree_has_the_new_rows_and_their_labels(classes):
    tree = classes.to_datatree(draws=7)
    assert tree["mean"]["out"].dims == ("row_id", "out_dim_1")
    assert tree["total"]["out"].dims == ("row_id",)
    assert tree["mean"]["row_id"].values.tolist() == ["ann", "<b>", "cy", "dan"]
    assert tree["predictions"]["out"].dims == ("chain", "draw", "row_id")
    assert tree["predictions"]["out"].shape == (1, 7, 4)
    assert tree["predictions_constant_data"]["x"]["columns"].values.tolist() == ["a", "b", "c"]
    assert "y" not in tree["predictions_constant_data"]
    assert "predictions" not in classes.to_datatree()


def test_the_fitted_rows_labels_are_never_put_on_other_rows():
    """As many new rows as old ones: their labels would fit and be wrong."""
    target = hand.linear(num_rows=12)
    assert dict(target.layout.coords)["row_id"] == tuple(range(12))
    tree = predict(target, draws_for(target, 5), inputs_for(target, 12), key=KEY, x64=True).to_datatree()
    assert "row_id" not in tree["mean"].coords
    assert "row_id" not in tree["predictions_constant_data"].coords


def test_parquet_comes_back(classes, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    classes.to_parquet(tmp_path / "prediction.parquet")
    table = parquet.read_table(tmp_path / "prediction.parquet")
    assert table["row"].to_pylist() == ["ann", "<b>", "cy", "dan"]
    np.testing.assert_array_equal(table["out_mean[1]"].to_numpy(), classes.mean["out"][:, 1])


def test_parquet_without_its_package_says_what_to_install(classes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Parquet files need.*posterion\[stream\]"):
        classes.to_parquet(tmp_path / "prediction.parquet")


def test_draws_of_means_are_the_conditional_means():
    target = hand.network()
    draws, data = draws_for(target, 300), inputs_for(target, 157)
    prediction = predict(target, draws, data, key=KEY, x64=True)
    means, _, eta = every_moment(target, draws, data)
    drawn = prediction.sample(of="mean")
    np.testing.assert_allclose(drawn["out"], means, rtol=1e-9)
    np.testing.assert_allclose(drawn["eta"], eta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(prediction.sample(5, of="mean", names=["out"])["out"], means[:5], rtol=1e-9)


def test_draws_of_outcomes_follow_their_distribution():
    target = hand.network()
    draws, data = draws_for(target, 4000), inputs_for(target, 30)
    prediction = predict(target, draws, data, key=KEY, x64=True)
    p, outcomes = prediction.mean["out"], prediction.sample()["out"]
    assert set(np.unique(outcomes)) == {0, 1}
    assert np.abs((outcomes.mean(axis=0) - p) / np.sqrt(p * (1 - p) / 4000)).max() < 4.5


def test_draws_that_do_not_fit_into_memory_are_refused_with_their_size(classes):
    with pytest.raises(OptionError, match="need 0 MB.*raise max_bytes"):
        classes.sample(max_bytes=100)
    with pytest.raises(OptionError, match="between 1 and the 30 posterior draws; found 31"):
        classes.sample(31)
    with pytest.raises(OptionError, match="found 'median'"):
        classes._available("median", None)  # the type checker would stop it at the door


def test_variables_with_different_rows_do_not_make_one_table():
    pm = pytest.importorskip("pymc")
    from posterion.frontends import target_of

    with pm.Model() as model:
        level = pm.Normal("level")
        pm.Normal("long", level, 1, observed=np.zeros(6))
        pm.Normal("short", level, 2, observed=np.zeros(4))
    prediction = predict(target_of(model), np.zeros((8, 1)), {}, key=KEY, x64=True)
    assert (len(prediction.mean["long"]), len(prediction.mean["short"])) == (6, 4)
    with pytest.raises(OptionError, match="different numbers of rows.*names="):
        prediction.to_dataframe()
    assert len(prediction.to_dataframe(["short"])) == 4
    tree = prediction.to_datatree(3)
    assert tree["mean"]["long"].shape == (6,)
    assert tree["predictions"]["short"].shape == (1, 3, 4)
    assert "6 rows" in prediction._repr_html_()
