"""Whatever a table's file holds, commands read it or refuse it in one message: no traceback, no hang."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posterion.errors import DataError
from posterion.tabular.columns import infer_schema
from posterion.tabular.reading import read_parts, read_table
from posterion.tabular.targets import read_target
from posterion.tabular.training import fit_table
from tests.tabular.admissions import admissions

pytestmark = pytest.mark.slow
many = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

CELLS = st.sampled_from(
    [
        "",
        "1",
        "-2.5",
        "1e5",
        "1e999",
        "inf",
        "NaN",
        "NA",
        "?",
        "yes",
        "no",
        "true",
        "2020-01-31",
        "2020-02-31",
        "north",
        "é",
        '"',
        '"a,b"',
    ]
) | st.text(st.characters(codec="utf-8"), max_size=6)
NAMES = ["age", "marker", "smoker", "ward", "admitted"]
LINES = st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=6)


@st.composite
def tables(draw):
    """CSV that is nearly right: cells of all kinds, now and then a name too few, another separator or encoding."""
    separator = draw(st.sampled_from([",", ",", ",", ";", "\t", "|"]))
    names = draw(
        st.sampled_from([NAMES, NAMES, NAMES, NAMES[:4], [*NAMES, "age"], ["", *NAMES[1:]], list(reversed(NAMES))])
    )
    lines = [separator.join(names)] + [separator.join(line) for line in draw(LINES)]
    text = draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n", "\n\n", "\n1", '"']))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])), errors="replace")


@pytest.fixture(scope="module")
def model():
    return fit_table(admissions(120), "outcome", leave_out=["days"], held_out=0.0, random_seed=0)[0]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "table.csv"


def refused(error):
    """A refusal names the place: the file, or a column."""
    assert "table.csv" in str(error) or "column" in str(error) or "target" in str(error), str(error)


@many
@given(content=tables() | st.binary(max_size=120))
def test_any_table_is_predicted_or_refused(model, file, content):
    file.write_bytes(content)
    try:
        for part in read_parts(file, rows=3):
            p = model.predict(part)[[f"probability_{label}" for label in model.classes]].to_numpy()
            assert np.all(np.isfinite(p)) and len(p) == len(part)
    except DataError as error:
        refused(error)


@many
@given(content=tables() | st.binary(max_size=120), target=st.sampled_from(NAMES))
def test_any_table_is_looked_at_or_refused(file, content, target):
    file.write_bytes(content)
    try:
        frame = read_table(file)
        outcome = read_target(frame, target)
        schema = infer_schema(frame, leave_out=[target])
        assert set(schema.names) | {name for name, _ in schema.dropped} | {target} == set(map(str, frame.columns))
        assert outcome.usable.shape == (len(frame),)
    except DataError as error:
        refused(error)


@settings(max_examples=40, deadline=60_000, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_table_of_enough_rows_is_learned_or_refused(data):
    """All the way to a model, which predicts the rows it learned from."""
    rows = data.draw(st.integers(12, 70))
    columns = {}
    for name in NAMES:
        cells = data.draw(st.lists(CELLS, min_size=1, max_size=4))
        columns[name] = np.random.default_rng(len(cells)).choice(np.array(cells, dtype=object), rows)
    columns["number"] = np.random.default_rng(rows).normal(size=rows).astype(str)
    frame = pd.DataFrame(columns)
    target = data.draw(st.sampled_from(["ward", "number"]))
    try:
        model, _ = fit_table(frame, target, random_seed=0)
    except DataError as error:
        refused(error)
        return
    assert len(model.predict(frame)) == rows
