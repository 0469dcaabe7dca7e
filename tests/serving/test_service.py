"""The service over HTTP, with models whose answers are known."""

import csv
import io
import json
import tempfile
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient

from posterion.errors import OptionError
from posterion.serving import Limits, ServedModel, create_app, inputs_of, serve
from posterion.serving.limits import SIZES
from posterion.serving.model import Input
from posterion.serving.rows import RefusedError, frame_from_json, frames_from_csv
from tests.serving.fakes import FakeClassifier, FakeRegressor, probability, training

ROW = {"age": 60, "size": 2.5, "smoker": True, "ward": "south"}


@pytest.fixture(scope="module")
def model():
    return FakeClassifier()


@pytest.fixture(scope="module")
def client(model):
    with TestClient(create_app(model, limits=Limits(rows=500, body_bytes=200_000, upload_bytes=4_000_000))) as found:
        yield found


@pytest.fixture(scope="module")
def regression():
    with TestClient(create_app(FakeRegressor())) as found:
        yield found


def table(rows, **changes):
    frame = training(rows).drop(columns="finding")
    for (number, column), value in changes.get("cells", {}).items():
        frame[column] = frame[column].astype(object)
        frame.loc[number - 1, column] = value
    return frame.to_csv(index=False).encode()


@pytest.mark.parametrize("cell", [True, "x", None, float("nan"), float("inf"), 10**400, [1]])
def test_tables_of_numbers_take_a_short_way_that_lets_nothing_else_through(cell):
    numbers = FakeClassifier()
    numbers.inputs = (Input("a"), Input("b"))
    frame = frame_from_json(numbers, [{"b": 2, "a": 1.5}], most=9)
    assert list(frame.columns) == ["a", "b"] and frame.to_numpy().tolist() == [[1.5, 2.0]]
    for row, column in (({"a": 1, "b": cell}, "b"), ({"a": 1, "b": 2, "c": 3}, "c"), ({"a": 1}, "b")):
        with pytest.raises(RefusedError) as refused:
            frame_from_json(numbers, [{"a": 1, "b": 2}, row], most=9)
        assert [(fault.row, fault.column) for fault in refused.value.faults] == [(2, column)]


# ---- what it says of itself
def test_the_description_names_the_columns_and_the_refusals_as_they_are(client, regression):
    found = client.get("/openapi.json").json()
    schemas = found["components"]["schemas"]
    row = schemas["Row"]
    assert row["required"] == ["age", "size", "smoker", "ward"] and not row["additionalProperties"]
    assert row["properties"]["age"] == {"type": "number"}
    assert row["properties"]["ward"] == {"type": "string", "enum": ["north", "south", "east"]}
    assert schemas["Rows"]["properties"]["rows"]["maxItems"] == 500
    assert client.post("/predict", json={"rows": row["examples"]}).status_code == 200
    refused = found["paths"]["/predict"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]["$ref"]
    assert refused == "#/components/schemas/Refusal" and "HTTPValidationError" not in schemas
    assert list(found["paths"]["/upload"]["post"]["requestBody"]["content"]) == ["text/csv"]
    loose = regression.get("/openapi.json").json()["components"]["schemas"]["Row"]  # this model takes missing values
    assert loose["required"] == [] and loose["properties"]["age"] == {"type": ["number", "null"]}


def test_other_methods_are_told_which_there_are(client):
    refused = client.request("TRACE", "/predict")
    assert refused.status_code == 405 and refused.headers["allow"] == "POST" and refused.json()["errors"]


def test_it_is_ready_and_warm_once_it_answers(client, model):
    assert client.get("/health").json()["status"] == "ok"
    assert model.asked[:2] == [1, 1024]


def test_the_schema_is_what_the_page_needs(client):
    schema = client.get("/schema").json()
    assert (schema["task"], schema["classes"]) == ("classification", ["benign", "malignant"])
    assert [one["name"] for one in schema["inputs"]] == ["age", "size", "smoker", "ward"]
    assert schema["start"] == {"age": 55.0, "size": 1.8, "smoker": False, "ward": "north"}
    assert schema["inputs"][2]["low"] is None
    assert client.post("/predict", json={"rows": [schema["start"]]}).status_code == 200


def test_the_api_describes_itself_and_asks_for_nothing_from_elsewhere(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/schema", "/health", "/upload"} <= set(paths)
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    for name in ("/", "/page.css", "/page.js", "/icon.svg"):
        found = client.get(name)
        assert found.status_code == 200
        assert "default-src 'self'" in found.headers["content-security-policy"]
        assert "http" not in found.text.replace("http://www.w3.org/2000/svg", "")


def test_fakes_are_served_models():
    assert isinstance(FakeClassifier(), ServedModel) and isinstance(FakeRegressor(), ServedModel)
    assert not isinstance(object(), ServedModel)
    with pytest.raises(OptionError, match="port"):
        serve(FakeClassifier(), port=70_000)


def test_inputs_are_described_from_training_rows():
    age, size, smoker, ward = inputs_of(training().drop(columns="finding"))
    assert (age.kind, age.whole, age.low, age.high) == ("number", True, 20.0, 89.0)
    assert (size.whole, smoker.kind, ward.kind) == (False, "boolean", "category")
    assert ward.categories[0] == "north"


# ---- predictions
def test_predictions_are_the_models(client):
    found = client.post("/predict", json={"rows": [ROW, {**ROW, "age": 30}]}).json()["predictions"]
    frame = training(2).assign(age=[60.0, 30.0], size=2.5, smoker=True, ward="south")
    np.testing.assert_allclose([one["probabilities"]["malignant"] for one in found], probability(frame))
    assert [one["label"] for one in found] == ["malignant", "benign"]
    one = found[1]
    assert one["low"]["malignant"] <= one["probabilities"]["malignant"] <= one["high"]["malignant"]
    assert one["epistemic"] == pytest.approx(one["aleatoric"] / 9)


def test_values_may_come_as_text_and_in_any_order(client):
    texts = {"ward": " south ", "smoker": "yes", "size": "2.5", "age": "60"}
    same = [client.post("/predict", json={"rows": [row]}).json() for row in (ROW, texts)]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        ({"age": "old"}, "age", "found 'old', expected a finite number"),
        ({"age": None}, "age", "takes no missing values"),
        ({"age": [1]}, "age", "found [1], expected a finite number"),
        ({"age": True}, "age", "found True"),
        ({"age": 1e301}, "age", "expected a finite number"),
        ({"age": 10**400}, "age", "expected a finite number"),
        ({"smoker": 2}, "smoker", "expected true or false"),
        ({"ward": "west"}, "ward", "found 'west', expected one of 'north', 'south', 'east'"),
        ({"ward": {}}, "ward", "expected a label"),
        ({"weight": 3}, "weight", "the model has no column 'weight'"),
    ],
)
def test_faults_are_named_with_row_and_column(client, change, column, message):
    body = json.dumps({"rows": [ROW, ROW | change]})
    found = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert found.status_code == 422
    (fault,) = found.json()["errors"]
    assert (fault["row"], fault["column"]) == (2, column)
    assert message in fault["message"]


def test_absent_columns_and_many_faults(client):
    found = client.post("/predict", json={"rows": [{"age": 1}] * 30}).json()["errors"]
    assert len(found) == 20
    assert {fault["column"] for fault in found} == {"size", "smoker", "ward"} and found[0]["message"] == "missing"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON decode error"),
        (b'{"rows": 3}', "rows: Input should be a valid list"),
        (b'{"rows": [3]}', "rows.0: Input should be a valid dictionary"),
        (b'{"rows": []}', "send at least one row"),
        (b'{"rows": [{"\\ud800": 1}]}', "no column '\\ud800'"),
        (b'{"columns": []}', "rows: Field required"),
        (b'{"rows": [{"age": NaN, "size": 1, "smoker": 1, "ward": "east"}]}', "found nan"),
    ],
)
def test_what_is_no_request_is_refused(client, body, message):
    found = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert found.status_code == 422
    assert message in found.json()["errors"][0]["message"]


def test_too_much_is_refused(client):
    assert client.post("/predict", json={"rows": [ROW] * 501}).status_code == 413
    assert client.post("/predict", content=b" " * 200_001).status_code == 413
    assert client.post("/predict", content=(b" " for _ in range(3))).status_code == 411
    assert client.post("/upload", content=b" " * 4_000_001).status_code == 413
    assert client.post("/upload", content=(b"1" * 1_000_000 for _ in range(5))).status_code == 413


def test_models_see_few_sizes(client, model):
    for rows in (1, 3, 40, 499):
        assert len(client.post("/predict", json={"rows": [ROW] * rows}).json()["predictions"]) == rows
    assert set(model.asked) <= set(SIZES)


def test_few_rows_are_answered_at_once_only_by_a_quick_model_that_nobody_else_asks():
    class Slow(FakeClassifier):
        def predict(self, frame):
            time.sleep(0.05)
            return super().predict(frame)

    for model, quick in ((FakeClassifier(), True), (Slow(), False)):
        with TestClient(create_app(model)) as client:
            service = client.app.state.service
            assert service.is_at_once(1) == service.is_at_once(32) == quick
            assert not service.is_at_once(33)
            with service._turn:
                assert not service.is_at_once(1)
            assert client.post("/predict", json={"rows": [ROW]}).status_code == 200


def test_errors_say_nothing_of_the_server(caplog):
    class Broken(FakeClassifier):
        def predict(self, frame):
            if len(frame) == 32:
                raise FileNotFoundError("/home/somebody/secret.posterion")
            return super().predict(frame)

    with TestClient(create_app(Broken()), raise_server_exceptions=False) as client:
        found = client.post("/predict", json={"rows": [ROW] * 20})
        assert found.status_code == 500
        assert "secret" not in found.text and "Traceback" not in found.text
        assert client.post("/predict", json={"rows": [ROW]}).status_code == 200
    assert "secret.posterion" in caplog.text


def test_numbers_may_be_missing_and_labels_new_where_the_model_takes_them(regression):
    found = regression.post("/predict", json={"rows": [{"age": None, "size": "NA", "ward": "west"}]}).json()
    assert found["predictions"][0]["mean"] == 0.0
    assert found["notes"] == ["ward 'west' is new"]


def test_missing_labels_reach_the_model_as_none():
    model = FakeRegressor()
    frame = frame_from_json(model, [{"age": 1, "size": 2, "smoker": 0, "ward": w} for w in (None, "east")], most=9)
    assert frame["ward"].tolist() == [None, "east"] and frame["age"].dtype == np.float64
    text = b"age,size,smoker,ward\n1,2,0,NA\n1,2,0,east\n"
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.seek(0)
        (part,) = frames_from_csv(model, file, rows=10, most=9)
    assert part["ward"].tolist() == [None, "east"]


def test_tables_may_have_decimal_commas_where_none_separate():
    def sizes(text):
        with tempfile.TemporaryFile() as file:
            file.write(text)
            file.seek(0)
            (part,) = frames_from_csv(FakeRegressor(), file, rows=10, most=9)
        return part["size"].tolist()

    assert sizes(b"age;size;smoker;ward\n1;2,5;0;a,b\n1;-0,125;0;east\n1;;0;east\n")[:2] == [2.5, -0.125]
    with pytest.raises(RefusedError, match="1,500"):
        sizes(b"age;size;smoker;ward\n1;1,500;0;east\n")


# ---- the row among others
def test_a_surface_is_predicted_over_two_inputs(client):
    found = client.post("/surface", json={"row": ROW, "first": "age", "second": "size"}).json()
    assert len(found["first"]) == len(found["second"]) == 32 and found["first"][0] == 20
    frame = training(1).assign(age=found["first"][5], size=found["second"][9], smoker=True, ward="south")
    assert found["mean"][9][5][1] == pytest.approx(probability(frame)[0])
    assert len(found["points"][0]) == len(found["outcomes"]) == 300
    bad = client.post("/surface", json={"row": ROW, "first": "ward", "second": "size"})
    assert bad.status_code == 422 and bad.json()["errors"][0]["column"] == "ward"


def test_rows_out_of_this_world_have_nearest_rows_too(client):
    for far in (1e155, -1e300):
        found = client.post("/nearest", json={"row": ROW | {"size": far}})
        assert found.status_code == 200 and len(found.json()["rows"]) == 8


def test_the_nearest_rows_are_nearest(client):
    frame = training()
    own = frame.iloc[17]
    row = {name: own[name].item() if hasattr(own[name], "item") else own[name] for name in ROW}
    found = client.post("/nearest", json={"row": row}).json()
    assert found["distance"][0] == 0.0 and found["rows"][0] == row
    assert found["outcomes"][0] == own["finding"]
    assert found["distance"] == sorted(found["distance"])
    gaps = (frame["age"] - row["age"]) ** 2 / frame["age"].var(ddof=0)
    gaps += (frame["size"] - row["size"]) ** 2 / frame["size"].var(ddof=0)
    gaps += (frame["smoker"] != row["smoker"]).astype(float) + (frame["ward"] != row["ward"])
    np.testing.assert_allclose(found["distance"], np.sqrt(np.sort(gaps)[:8] / 4))


def test_without_training_rows_there_are_none():
    model = FakeClassifier()
    model.training = None
    with TestClient(create_app(model)) as client:
        assert client.get("/schema").json()["has_training_rows"] is False
        assert client.post("/nearest", json={"row": ROW}).status_code == 404
        assert "points" not in client.post("/surface", json={"row": ROW, "first": "age", "second": "size"}).json()


# ---- tables
def test_a_table_comes_back_with_the_most_uncertain_marked(client):
    found = client.post("/upload?refer=0.25", content=table(10_000))
    assert found.status_code == 200
    lines = list(csv.DictReader(io.StringIO(found.text)))
    assert [int(one["row"]) for one in lines] == list(range(1, 10_001))
    p = probability(training(10_000))
    np.testing.assert_allclose([float(one["probability_malignant"]) for one in lines], p, rtol=1e-5)
    referred = np.array([one["refer"] == "yes" for one in lines])
    assert referred.sum() == 2_500
    assert np.abs(p[referred] - 0.5).max() <= np.abs(p[~referred] - 0.5).min()
    assert {one["label"] for one in lines} == {"benign", "malignant"}


def test_tables_may_be_separated_otherwise_and_have_more_columns(client):
    text = "note;ward;smoker;size;age\nx;east;false;2.0;50\n"
    found = client.post("/upload?refer=1", content=("\ufeff" + text).encode())
    (line,) = csv.DictReader(io.StringIO(found.text))
    assert line["refer"] == "yes"


@pytest.mark.parametrize(
    ("content", "row", "column", "message"),
    [
        (table(9_000, cells={(8_500, "age"): "old"}), 8_500, "age", "found 'old', expected a finite number"),
        (table(20, cells={(3, "ward"): "west"}), 3, "ward", "found 'west'"),
        (table(20, cells={(3, "size"): ""}), 3, "size", "takes no missing values"),
        (b"age,size\n1,2\n", None, "smoker", "the table has no column 'smoker'"),
        (b"", None, None, "the table is empty"),
        (b"age,size,smoker,ward\n", None, None, "no rows"),
        (b"age,size,smoker,ward\n1,2,0,east\n1,2,0,east,5,6\n", None, None, "Expected 4 fields in line 3"),
        (b"age,size,smoker,ward\n1,2,0,\xff\xfe\n", None, None, "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", None, None, ""),
        (b'age,size,smoker,ward\n1,2,0,"east\n', None, None, "cannot be read as CSV"),
    ],
)
def test_faults_of_tables_are_named(client, content, row, column, message):
    found = client.post("/upload", content=content)
    assert found.status_code == 422
    fault = found.json()["errors"][0]
    assert (fault["row"], fault["column"]) == (row, column)
    assert message in fault["message"]
    assert "/" not in fault["message"]


def test_the_share_to_refer_is_a_share(client):
    assert client.post("/upload?refer=2", content=table(5)).status_code == 422
    assert client.post("/upload?refer=x", content=table(5)).status_code == 422
    nan = client.post("/upload?refer=nan", content=table(5))
    assert nan.status_code == 422 and "between 0 and 1" in nan.json()["errors"][0]["message"]


def test_tables_of_numbers(regression):
    found = regression.post("/upload?refer=0", content=table(5))
    lines = list(csv.DictReader(io.StringIO(found.text)))
    frame = training(5)
    np.testing.assert_allclose([float(one["mean"]) for one in lines], frame["age"] / 10 + frame["size"], rtol=1e-5)
    assert {one["refer"] for one in lines} == {"no"}


# ---- measurements
def test_requests_and_rows_are_counted(client):
    before = client.get("/metrics").text
    client.post("/predict", json={"rows": [ROW] * 7})
    client.get("/nowhere")
    after = client.get("/metrics").text
    count = lambda text, name: float(
        ([line.split()[-1] for line in text.splitlines() if line.startswith(name)] or [0])[0]
    )
    assert count(after, "posterion_rows_total") == count(before, "posterion_rows_total") + 7
    assert count(after, 'posterion_requests_total{path="other",status="404"}') >= 1
    assert "nowhere" not in after
