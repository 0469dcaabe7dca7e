"""Whatever is sent, the service answers or refuses: never an error of its own, and a refusal always says something."""

import json

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posterion.serving import Limits, create_app
from posterion.tabular.served import ServedTable
from posterion.tabular.training import fit_table
from tests.serving.fakes import FakeClassifier, FakeRegressor, training

pytestmark = pytest.mark.slow
many = settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

NAMES = st.sampled_from(["age", "size", "smoker", "ward", "", "rows", "__class__"]) | st.text(max_size=5)
NUMBERS = st.integers(-(10**400), 10**400) | st.floats(allow_nan=True, allow_infinity=True)
CELLS = (
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(["north", "1e999", "-0", " 3 ", "NA"])
)
VALUES = st.recursive(
    CELLS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2), max_leaves=4
)
FULL = st.fixed_dictionaries({"age": CELLS, "size": CELLS, "smoker": CELLS, "ward": CELLS})
BODIES = (
    st.fixed_dictionaries({"rows": st.lists(FULL | st.dictionaries(NAMES, VALUES, max_size=5), max_size=3)}) | VALUES
)
TEXTS = st.text(st.sampled_from('0129.,;\t|"\n\r eE+-NAnan\x00é\ufeff'), max_size=60)
TABLES = st.binary(max_size=80) | st.lists(TEXTS, max_size=4).map(
    lambda lines: ("age,size,smoker,ward\n" + "\n".join(lines)).encode()
)


def a_table():
    """What `posterion fit` makes of a table with the same columns as the fakes have, and gaps."""
    frame = training(120)
    frame.loc[[3, 4], "ward"] = frame.loc[[5], "age"] = None
    return ServedTable(fit_table(frame, "finding", held_out=0.0, random_seed=0)[0], "Biopsies")


@pytest.fixture(scope="module", params=[FakeClassifier, FakeRegressor, a_table])
def client(request):
    with TestClient(create_app(request.param(), limits=Limits(rows=100)), raise_server_exceptions=False) as found:
        yield found


def check(response):
    assert response.status_code in (200, 400, 413, 422), response.text
    if response.status_code != 200:
        errors = response.json()["errors"]
        assert errors and all(error["message"] for error in errors)
        assert "site-packages" not in response.text and "Traceback" not in response.text


@many
@given(body=BODIES)
def test_any_json_is_answered_or_refused(client, body):
    headers = {"Content-Type": "application/json"}
    found = client.post("/predict", content=json.dumps(body), headers=headers)
    check(found)
    rows = body.get("rows") if isinstance(body, dict) and len(body) == 1 else None
    if found.status_code == 422 and isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        assert all(error["row"] and error["column"] is not None for error in found.json()["errors"])
    row = body["rows"][0] if isinstance(body, dict) and isinstance(body.get("rows"), list) and body["rows"] else body
    check(client.post("/surface", content=json.dumps({"row": row, "first": "age", "second": "size"}), headers=headers))
    check(client.post("/nearest", content=json.dumps({"row": row}), headers=headers))


@many
@given(body=st.binary(max_size=100))
def test_any_bytes_are_answered_or_refused(client, body):
    check(client.post("/predict", content=body, headers={"Content-Type": "application/json"}))


@many
@given(table=TABLES)
def test_any_table_is_answered_or_refused(client, table):
    check(client.post("/upload", content=table))
