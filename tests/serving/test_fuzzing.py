"""Whatever is sent, the service answers or refuses: never an error of its own, and a refusal always says something."""

import json

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posterion.serving import Limits, create_app
from tests.serving.fakes import FakeClassifier, FakeRegressor

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


@pytest.fixture(scope="module", params=[FakeClassifier, FakeRegressor])
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
    check(client.post("/predict", content=json.dumps(body), headers=headers))
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
