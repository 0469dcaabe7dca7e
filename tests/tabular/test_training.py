"""From a table to a model, a folder, and predictions: on scikit-learn's breast cancer table and one of numbers."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from posterion.errors import DataError, OptionError, PosteriorFileError
from posterion.tabular.folder import load_model, save_model
from posterion.tabular.targets import read_target
from posterion.tabular.training import _repeated, _seldom, fit_table, held_out_of

COLUMNS = ["mean radius", "mean texture", "mean smoothness"]


@pytest.fixture(scope="module")
def patients():
    data = load_breast_cancer(as_frame=True)
    frame = data.data[COLUMNS].assign(
        patient=np.arange(1, 570),
        ward=np.random.default_rng(0).choice(["A", "B", "C"], 569),
        diagnosis=data.target.map({0: "malignant", 1: "benign"}),
    )
    frame.loc[[3, 17], "mean texture"] = np.nan
    frame.loc[[5, 6], "diagnosis"] = None
    return frame


@pytest.fixture(scope="module")
def fitted(patients):
    return fit_table(patients, "diagnosis", random_seed=1)


def test_what_is_learned_predicts_rows_held_out(fitted):
    model, held = fitted
    assert model.classes == ("benign", "malignant")
    assert model.summary["rows"] == {"table": 569, "training": 453, "held_out": 114}
    assert model.summary["without_outcome"] == 2
    scores, baselines = model.summary["scores"], model.summary["baselines"]
    assert scores["accuracy"] > 0.85
    assert scores["log_score"] > baselines["constant"]["log_score"] + 0.3
    assert scores == model.score(held.features, held.outcomes)
    assert dict(model.schema.dropped) == {"patient": "numbers the rows (an identifier)"}


def test_held_out_rows_know_where_they_stand_in_the_table(fitted, patients):
    """Rows without an outcome, and rows in any order, are no rows of their own."""
    model, held = fitted
    assert held.frame["mean radius"].tolist() == patients["mean radius"].iloc[held.numbers - 1].tolist()
    assert held_out_of(model, patients.iloc[:50]).numbers.tolist() == [*range(1, 6), *range(8, 51)]


def test_rows_that_all_came_out_alike_can_be_judged(fitted, patients):
    model, _ = fitted
    alike = patients[patients["diagnosis"] == "benign"].iloc[:30]
    p = model.predict(alike)["probability_benign"]
    np.testing.assert_allclose(model.evaluate(alike)["log_score"], np.log(p).mean(), rtol=1e-6)


def test_labels_of_few_rows_are_named(fitted):
    assert fitted[0].summary["rare_labels"] == []
    frame = pd.DataFrame({"grade": ["a"] * 40 + ["b"] * 10 + ["c"] * 9})
    (said,) = _seldom(read_target(frame, "grade"))
    assert said.startswith("label 'c' has only 9 rows")
    assert _seldom(read_target(pd.DataFrame({"y": np.linspace(0, 1, 50)}), "y")) == []


def test_rows_that_were_copied_are_told_and_those_of_few_categories_are_not(fitted):
    assert fitted[0].summary["repeated"] == ""
    rng = np.random.default_rng(0)
    numbers, kinds, y = rng.normal(size=(200, 2)), rng.integers(0, 3, (400, 2)), rng.integers(0, 2, 200)
    train, held = np.split(rng.permutation(400), [320])
    assert "% of the rows held out are also among" in _repeated(np.tile(numbers, (2, 1)), np.tile(y, 2), train, held)
    assert _repeated(kinds, np.tile(y, 2), train, held) == ""
    assert _repeated(np.tile(numbers, (2, 1)), np.tile(y, 2), np.arange(400), np.arange(0)) == ""


def test_predictions_name_the_labels_and_add_up(fitted, patients):
    model, _ = fitted
    new = patients[[*COLUMNS, "ward"]].sample(20, random_state=0)
    predicted = model.predict(new)
    assert predicted.index.equals(new.index)
    p = predicted[["probability_benign", "probability_malignant"]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(predicted["doubt"], 1 - p.max(1))
    np.testing.assert_allclose(predicted["total"], predicted["aleatoric"] + predicted["epistemic"], atol=1e-9)
    assert (predicted["refer"] == (predicted["doubt"] >= model.refer_from)).all()


def test_about_as_many_rows_are_referred_as_were_asked_for(fitted):
    model, held = fitted
    referred = model.predict_checked(held.frame)["refer"].mean()
    assert 0.1 <= referred <= 0.2  # at most the share asked for, on the rows the line was drawn on


def test_a_folder_gives_the_same_model_back(fitted, patients, tmp_path):
    model, _ = fitted
    folder = save_model(model, tmp_path / "model")
    again = load_model(folder)
    pd.testing.assert_frame_equal(again.predict(patients), model.predict(patients))
    assert again.summary["scores"] == model.summary["scores"]
    save_model(again, folder)  # over itself
    assert sorted(part.name for part in folder.iterdir()) == [
        "estimator.posterion",
        "model.json",
        "preparation.skops",
        "sample.parquet",
    ]


def test_other_folders_are_left_alone(fitted, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PosteriorFileError, match=r"holds other files \(\['thesis.txt'\]\)"):
        save_model(fitted[0], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("part", ["model.json", "estimator.posterion", "preparation.skops", "sample.parquet"])
def test_damaged_folders_are_refused(fitted, tmp_path, part):
    folder = save_model(fitted[0], tmp_path / "model")
    content = (folder / part).read_bytes()
    for damage in (content[: len(content) // 2], b"", b"nonsense"):
        (folder / part).write_bytes(damage)
        with pytest.raises(PosteriorFileError):
            load_model(folder)


def test_folders_of_newer_versions_are_refused(fitted, tmp_path):
    folder = save_model(fitted[0], tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"posterion_model": 99}))
    with pytest.raises(PosteriorFileError, match="newer Posterion"):
        load_model(folder)


def test_a_preparation_with_code_in_it_is_refused(fitted, tmp_path):
    """A function of the operating system in place of the preparation: skops names the type and does not build it."""
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    folder = save_model(fitted[0], tmp_path / "model")
    import os

    skops.io.dump(FunctionTransformer(os.system), folder / "preparation.skops")
    with pytest.raises(PosteriorFileError, match="Untrusted types"):
        load_model(folder)


def test_suggestions_are_rows_of_the_pool_that_differ(fitted, patients):
    model, _ = fitted
    pool = pd.concat([patients.iloc[:30], patients.iloc[:30]], ignore_index=True)
    chosen = model.suggest(pool, 5)
    assert len(chosen) == 5
    assert not chosen[COLUMNS].duplicated().any()
    epistemic = model.predict(pool)["epistemic"]
    assert chosen["epistemic"].iloc[0] == epistemic.max()


def test_drift_is_found_where_it_is(fitted, patients):
    model, _ = fitted
    moved = patients.sample(150, random_state=1)
    assert "mean radius" in str(model.drift(moved.assign(**{"mean radius": moved["mean radius"] * 1.5})))


def test_a_column_that_gives_the_target_away_is_named(patients):
    leaky = patients.assign(treatment=np.where(patients["diagnosis"] == "malignant", "surgery", "none"))
    model, _ = fit_table(leaky.iloc[:120], "diagnosis", random_seed=0)
    assert [suspicion["column"] for suspicion in model.summary["suspicions"]] == ["treatment"]
    assert "--drop" in model.summary["suspicions"][0]["text"]


def test_numbers_come_with_intervals_that_hold():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": 10 + 3 * x[:, 0] - x[:, 1] + 0.5 * random.normal(size=300)})
    model, held = fit_table(frame, "y", random_seed=0)
    assert model.task == "regression"
    predicted = model.predict_checked(held.frame)
    inside = (predicted["lower"] <= held.outcomes) & (held.outcomes <= predicted["upper"])
    assert 0.75 <= inside.mean() <= 1.0  # 90 % of 60 rows, give or take four standard errors
    assert model.summary["scores"]["rmse"] < 0.75
    np.testing.assert_allclose(
        predicted["std"] ** 2, predicted["aleatoric"] ** 2 + predicted["epistemic"] ** 2, rtol=1e-6
    )
    assert model.log_scores(held.features, held.outcomes).mean() == pytest.approx(model.summary["scores"]["log_score"])


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({}, {"target": "outcome"}, DataError, "there is no column 'outcome' to predict"),
        ({"diagnosis": "benign"}, {}, DataError, "is 'benign' in every row"),
        ({}, {"task": "regression"}, DataError, "is a category, not a number"),
        ({}, {"leave_out": ["bed"]}, OptionError, r"cannot leave out the columns \['bed'\]"),
        ({}, {"held_out": 1.5}, OptionError, "held_out must be a share"),
        ({"diagnosis": None}, {}, DataError, "has no values"),
        ({"diagnosis": [np.inf, 1.0] * 30}, {}, DataError, "has 30 infinite values"),
    ],
)
def test_what_cannot_be_learned_is_refused(patients, change, options, error, message):
    with pytest.raises(error, match=message):
        fit_table(patients.iloc[:60].assign(**change), **({"target": "diagnosis"} | options))
