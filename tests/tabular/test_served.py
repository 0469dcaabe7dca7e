"""A model of a table behind its service, as `posterion serve` starts it: what a program sees of it."""

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient

from posterion.estimators import BayesianMLPRegressor
from posterion.report.table import _most_uncertain
from posterion.serving import Limits, ServedModel, create_app
from posterion.tabular import training
from posterion.tabular.columns import check_rows
from posterion.tabular.folder import load_model, save_model
from posterion.tabular.preparation import to_numbers
from posterion.tabular.served import ServedTable
from posterion.tabular.training import fit_table, held_out_of
from tests.tabular.admissions import admissions

ROW = {"age": 61, "marker": 2.5, "smoker": True, "ward": "south", "admitted": "2021-05-01"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    fitted, _ = fit_table(admissions(), "outcome", leave_out=["days"], random_seed=0)
    return load_model(save_model(fitted, tmp_path_factory.mktemp("served") / "model"))


@pytest.fixture(scope="module")
def client(model):
    limits = Limits(rows=200, body_bytes=100_000, upload_bytes=2_000_000)
    with TestClient(create_app(ServedTable(model, "admissions"), limits=limits)) as found:
        yield found


def ask(client, *rows):
    return client.post("/predict", json={"rows": list(rows)})


def test_arrays_are_prepared_as_tables_are(model):
    """The way of single rows gives what scikit-learn's own does, with gaps, rare labels and labels never seen."""
    new = admissions(500, seed=1)
    new.loc[3, "ward"] = "cellar"
    new.loc[4, ["age", "marker", "smoker", "ward", "admitted"]] = None
    checked = check_rows(new, model.schema).frame
    expected = to_numbers(model.preparation, checked)
    assert expected.shape[1] > len(model.schema.columns) + 4  # indicators of gaps and labels are among them
    np.testing.assert_array_equal(model.features(checked), expected)


def test_it_is_ready_and_says_what_it_takes(client, model):
    assert isinstance(ServedTable(model, "admissions"), ServedModel)
    assert client.get("/health").json()["status"] == "ok"
    schema = client.get("/schema").json()
    assert (schema["name"], schema["target"], schema["task"]) == ("admissions", "outcome", "classification")
    assert schema["classes"] == ["readmitted", "well"] and schema["takes_missing"]
    kinds = {one["name"]: one["kind"] for one in schema["inputs"]}
    assert kinds == {"age": "number", "marker": "number", "smoker": "boolean", "ward": "category", "admitted": "date"}
    assert ask(client, schema["start"]).status_code == 200


def test_answers_are_the_models_own(client, model):
    rows = [ROW, ROW | {"age": 25, "ward": None}, ROW | {"admitted": None, "smoker": "no"}]
    found = ask(client, *rows).json()["predictions"]
    own = model.predict(pd.DataFrame(rows))
    for one, (_, expected) in zip(found, own.iterrows(), strict=True):
        assert one["label"] == expected["prediction"]
        for label in model.classes:
            assert one["probabilities"][label] == pytest.approx(expected[f"probability_{label}"], abs=1e-12)
            assert one["low"][label] <= one["probabilities"][label] <= one["high"][label]
        assert one["epistemic"] == pytest.approx(expected["epistemic"], abs=1e-12)


def test_a_date_may_be_written_or_counted(client):
    years = (pd.Timestamp("2021-05-01") - pd.Timestamp("1970-01-01")).days / 365.25
    written, counted = ask(client, ROW, ROW | {"admitted": years}).json()["predictions"]
    assert written["probabilities"] == pytest.approx(counted["probabilities"], abs=1e-9)


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        ({"age": "old"}, "age", "found 'old', expected a finite number"),
        ({"smoker": "sometimes"}, "smoker", "found 'sometimes', expected true or false"),
        ({"admitted": "yesterday"}, "admitted", "found 'yesterday', expected a date such as 2020-03-31"),
        ({"admitted": "2021-02-30"}, "admitted", "found '2021-02-30', expected a date"),
        ({"ward": ["south"]}, "ward", "expected a label"),
        ({"outcome": "well"}, "outcome", "the model has no column 'outcome'"),
    ],
)
def test_a_fault_is_refused_with_its_row_and_column(client, change, column, message):
    found = ask(client, ROW, ROW | change)
    assert found.status_code == 422
    (fault,) = found.json()["errors"]
    assert (fault["row"], fault["column"]) == (2, column)
    assert message in fault["message"]


def test_what_is_unlike_the_training_rows_is_noted(client):
    found = ask(client, ROW | {"age": 400, "ward": "cellar"}).json()
    assert found["notes"] == [
        "column 'age' has 1 value far outside the training rows' 20 to 89",
        "column 'ward' has labels that training did not: 'cellar'",
    ]
    assert ask(client, ROW).json()["notes"] == []


def test_too_much_is_refused(client):
    assert ask(client, *[ROW] * 201).status_code == 413
    assert client.post("/predict", content=b" " * 100_001).status_code == 413
    assert client.post("/upload", content=b" " * 2_000_001).status_code == 413


def test_errors_say_nothing_of_the_server(model, tmp_path, caplog):
    served = ServedTable(model, "admissions")

    def lost(frame):
        raise FileNotFoundError(str(tmp_path / "estimator.posterion"))

    with TestClient(create_app(served), raise_server_exceptions=False) as client:
        served.predict = lost
        found = ask(client, ROW)
        table = admissions(20).to_csv(index=False).encode()
        uploaded = client.post("/upload", content=table)
    for one in (found, uploaded):
        assert one.status_code == 500
        assert str(tmp_path) not in one.text and "Traceback" not in one.text and "/" not in one.text
    assert str(tmp_path) in caplog.text  # the log says it


def test_the_table_it_learned_from_can_be_uploaded(client, model):
    """With its dates, gaps and truth values as they are written there; the target and other columns do no harm."""
    table = admissions(10_000, seed=2)
    found = client.post("/upload?refer=0.1", content=table.to_csv(index=False).encode())
    assert found.status_code == 200, found.text[:300]
    lines = list(csv.DictReader(io.StringIO(found.text)))
    assert len(lines) == 10_000 and sum(one["refer"] == "yes" for one in lines) == 1_000
    own = model.predict(table)
    p = [float(one["probability_readmitted"]) for one in lines]
    np.testing.assert_allclose(p, own["probability_readmitted"], rtol=1e-5, atol=1e-6)
    total = own["total"].to_numpy()
    referred = np.array([one["refer"] == "yes" for one in lines])
    assert total[referred].min() >= total[~referred].max() - 1e-9


def test_a_fault_in_an_uploaded_table_is_named(client):
    table = admissions(300)
    table["admitted"] = table["admitted"].where(table.index != 250, "soon")
    found = client.post("/upload", content=table.to_csv(index=False).encode())
    assert found.status_code == 422
    fault = found.json()["errors"][0]
    assert (fault["row"], fault["column"]) == (251, "admitted")


def test_the_nearest_row_is_the_row_itself(client, model):
    own = model.sample[model.schema.names].iloc[11]
    row = {name: None if value is None or value != value else value for name, value in own.items()}
    found = client.post("/nearest", json={"row": row}).json()
    assert found["distance"][0] == pytest.approx(0, abs=1e-9)
    assert found["outcomes"][0] == model.sample["outcome"].iloc[11]


def test_a_surface_over_a_date(client):
    found = client.post("/surface", json={"row": ROW, "first": "admitted", "second": "age"}).json()
    assert 49 < found["first"][0] < found["first"][-1] < 53.2  # years since 1970
    assert len(found["mean"]) == 32


def test_numbers_come_with_their_interval(monkeypatch):
    few = BayesianMLPRegressor(n_members=2, max_iter=10, random_state=0)  # as good as any to be handed on
    monkeypatch.setattr(training, "_estimator", lambda outcome, seed: few)
    fitted, _ = fit_table(admissions(150), "days", leave_out=["outcome"], held_out=0.0, random_seed=0)
    with TestClient(create_app(ServedTable(fitted, "stay"))) as client:
        found = ask(client, ROW).json()["predictions"][0]
    own = fitted.predict(pd.DataFrame([ROW])).iloc[0]
    assert found["mean"] == pytest.approx(own["prediction"])
    assert (found["low"], found["high"]) == pytest.approx((own["lower"], own["upper"]))
    assert found["aleatoric"] == pytest.approx(own["aleatoric"] ** 2)


def test_a_report_writes_cells_as_people_do(model):
    rows, backwards = admissions(60, seed=4), replace(model.schema, columns=model.schema.columns[::-1])
    (table,) = _most_uncertain(replace(model, schema=backwards), held_out_of(model, rows)).tables
    assert list(table.columns[-4:]) == ["admitted", "ward", "smoker", "marker"]
    for line in table.rows:
        own = rows.iloc[int(line[0]) - 1]
        assert list(line[-4:-1]) == ["" if pd.isna(own[name]) else own[name] for name in table.columns[-4:-1]]
