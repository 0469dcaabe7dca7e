"""Tables from files: what is read, and that whatever cannot be read is refused with its place."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posterion.errors import DataError
from posterion.tabular.reading import read_parts, read_table
from posterion.tabular.targets import read_target

FRAME = pd.DataFrame({"age": [31, 45, 62], "sex": ["f", "m", "f"], "value": [0.5, np.nan, -2.25]})


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".parquet", ".feather", ".xlsx"])
def test_every_format_gives_the_same_table(tmp_path, ending):
    path = tmp_path / f"table{ending}"
    if ending == ".tsv":
        FRAME.to_csv(path, sep="\t", index=False)
    elif ".csv" in ending:
        FRAME.to_csv(path, index=False)
    elif ending == ".xlsx":
        FRAME.to_excel(path, index=False)
    else:
        getattr(FRAME, f"to_{ending[1:]}")(path)
    pd.testing.assert_frame_equal(read_table(path), FRAME, check_dtype=False)
    parts = list(read_parts(path, rows=2))
    assert [len(part) for part in parts] == [2, 1]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), FRAME, check_dtype=False)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_recognised(tmp_path, delimiter):
    path = tmp_path / "table.csv"
    path.write_text(f'"a, b; c"{delimiter}d\n1{delimiter}2\n')
    assert read_table(path).to_dict("list") == {"a, b; c": [1], "d": [2]}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a;b\n1,5;2,25\n-1,25;\n", [1.5, -1.25]),
        ("a\tb\n1,5\tx,y\n,75\tz\n", [1.5, 0.75]),
        ("a;b\n1.5;x\n2.5;y\n", [1.5, 2.5]),
        ("a;b\n1,500;2.5\n2,750;3.5\n", ["1,500", "2,750"]),
        ("a;b\n1,500;x\n2,750;y\n", ["1,500", "2,750"]),
    ],
)
def test_decimal_commas_are_told_from_those_between_thousands(tmp_path, text, numbers):
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert read_table(path)["a"].tolist() == numbers


def test_a_sheet_is_chosen_by_its_name(tmp_path):
    path = tmp_path / "two.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"note": ["see below"]}).to_excel(book, sheet_name="Notes", index=False)
        FRAME.to_excel(book, sheet_name="Data", index=False)
    pd.testing.assert_frame_equal(read_table(f"{path}:Data"), FRAME, check_dtype=False)
    with pytest.raises(DataError, match=r"no column 'age' .* sheets \['Notes', 'Data'\], of which the first is read"):
        read_target(read_table(path), "age")
    with pytest.raises(DataError, match=r"no sheet 'Date'; it has \['Notes', 'Data'\]"):
        read_table(f"{path}:Date")


def test_missing_values_have_many_names(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,x\nNA,?\n,null\n")
    frame = read_table(path)
    assert frame["a"].isna().tolist() == frame["b"].isna().tolist() == [False, True, True]


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a;b\n1;2\n")))
    assert read_table("-").to_dict("list") == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"a,b\n", "has no rows"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
        ("a.csv", b"a,a\n1,2\n", r"more than one column named \['a'\]"),
        ("a.csv", b"a,b\n1,caf\xe9\n", "not in UTF-8"),
        ("a.csv", b"a,b\n1,\x00\n", "zero byte"),
        ("a.parquet", b"PAR1 but not really", "cannot be read as Parquet"),
        ("a.feather", b"ARROW?", "cannot be read as Feather"),
        ("a.xlsx", b"PK but no", "cannot be read as an Excel file"),
        ("a.docx", b"x", "tables are read from"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='a1,;"\n\r\t|. -\x00é', max_size=120).map(str.encode))
def test_no_content_brings_down_the_reader(content):
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(content)
        file.flush()
        try:
            rows = len(read_table(file.name))
        except DataError as error:
            refusal = str(error)
        else:
            refusal = None
            assert rows > 0
        assert refusal is None or file.name in refusal
