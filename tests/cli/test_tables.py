"""The commands for tables, from a CSV file to predictions, as somebody types them."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from posterion.tabular.columns import Column, Schema
from tests.cli.test_cli import leave


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table of a few columns, one with a column more, and rows for later.

    All fits see tables of the same shape: what the first of them compiled serves the others.
    """
    place = tmp_path_factory.mktemp("clinic")
    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, :3].assign(diagnosis=data.target.map({0: "malignant", 1: "benign"}))
    frame.iloc[:400].to_csv(place / "patients.csv", index=False)
    frame.iloc[:400].assign(ward=data.data["mean area"]).to_csv(place / "more.csv", index=False)
    frame.iloc[400:].to_csv(place / "later.csv", index=False)
    frame.iloc[400:].drop(columns="diagnosis").to_csv(place / "new.csv", index=False)
    return place


@pytest.fixture(scope="module")
def model(folder):
    from posterion.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["fit", str(folder / "patients.csv"), "--target", "diagnosis", "--out", str(folder / "model"), "--quiet"])
    assert not ended.value.code
    return folder / "model"


def test_fit_tells_what_it_took_the_columns_for(capsys, folder, model, tmp_path):
    out = tmp_path / "model"
    code, said, told = leave(
        capsys, "fit", folder / "more.csv", "-t", "diagnosis", "-o", out, "--drop", "ward", "--no-report"
    )
    assert (code, said) == (0, "")
    for words in (
        "diagnosis (classification",
        "mean radius",
        "logistic regression",
        "rows held out",
        "posterion predict",
    ):
        assert words in told
    assert "ward" not in told
    assert not (out / "report.html").exists()


def test_ctrl_c_leaves_what_was_written(capsys, folder, model, tmp_path, monkeypatch):
    import shutil

    from posterion.report import table
    from posterion.tabular import training
    from posterion.tabular.folder import load_model

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    fitted, out = load_model(model), tmp_path / "model"
    shutil.copytree(model, out)
    typed = ("fit", folder / "patients.csv", "-t", "diagnosis", "-o", out)
    monkeypatch.setattr(training, "fit_table", interrupted)
    code, _, told = leave(capsys, *typed)
    assert code == 130 and "Interrupted: nothing was written to" in told
    assert (out / "report.html").exists()
    monkeypatch.setattr(training, "fit_table", lambda *arguments, **options: (fitted, None))
    monkeypatch.setattr(table, "table_report", interrupted)
    code, _, told = leave(capsys, *typed)
    assert code == 130 and "without its report" in told
    assert load_model(out).target == "diagnosis" and not (out / "report.html").exists()


def test_brackets_in_names_are_shown_as_they_are(capsys):
    """Rich would take them for markup, and "size [mm]" would lose its unit."""
    from posterion.cli.listing import Listing

    column = Column("size [mm]", "category", ("[red]", "b"))
    summary = {"why": "[y]", "rows": {"training": 3}, "without_outcome": 0, "suspicions": [{"text": "[z] is odd"}]}
    schema = Schema((column,), (("id [x]", "is constant"),), 3)
    Listing().trained(SimpleNamespace(target="[bold]", task="classification", summary=summary, schema=schema))
    Listing().scores({"[green]": {"accuracy": 0.5}}, "rows of [blue].csv")
    told = capsys.readouterr().err
    for word in ("size [mm]", "[red]", "[y]", "[z] is odd", "id [x]", "[bold]", "[blue].csv", "[green]"):
        assert word in told


def test_the_report_stands_alone(model):
    page = (model / "report.html").read_text()
    assert len(page) < 3e6
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for heading in (
        "How good it is",
        "Are its probabilities right?",
        "When should somebody look?",
        "Noise and ignorance",
        "row 1 is the first below the names of the columns",
    ):
        assert heading in page


def test_predictions_to_a_file_and_to_standard_output(capsys, model, folder, tmp_path):
    assert leave(capsys, "predict", model, folder / "new.csv", "-o", tmp_path / "p.parquet", "--quiet")[0] == 0
    written = pd.read_parquet(tmp_path / "p.parquet")
    code, printed, _ = leave(capsys, "predict", model, folder / "new.csv", "--quiet")
    assert code == 0
    import io

    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(printed)), written, check_dtype=False)
    assert len(written) == 169
    assert {"prediction", "probability_malignant", "epistemic", "refer"} <= set(written.columns)


def test_evaluate_as_json(capsys, model, folder):
    code, printed, _ = leave(capsys, "evaluate", model, folder / "later.csv", "--json")
    assert code == 0
    found = json.loads(printed)
    assert found["rows"] == 169
    assert found["scores"]["accuracy"] > 0.8
    assert np.isfinite(found["scores"]["log_score"])


def test_what_was_asked_for_goes_to_standard_output(capsys, model, folder):
    """So that scores and descriptions can be piped and kept; --quiet does not silence them."""
    code, printed, told = leave(capsys, "evaluate", model, folder / "later.csv", "--quiet")
    assert code == 0 and not told
    assert "this model" in printed and "drift" in printed.lower()
    assert "mean radius" in leave(capsys, "info", model)[1]


def test_suggest_numbers_the_rows_of_the_table(capsys, model, folder):
    code, printed, _ = leave(capsys, "suggest", model, folder / "new.csv", "--count", "3")
    assert code == 0
    lines = printed.strip().splitlines()
    assert lines[0].startswith("row,mean radius") and len(lines) == 4
    assert all(1 <= int(line.split(",")[0]) <= 169 for line in lines[1:])


def test_report_of_a_model(capsys, model, folder, tmp_path):
    page = tmp_path / "later.html"
    assert leave(capsys, "report", model, "--table", folder / "later.csv", "-o", page)[0] == 0
    assert "169 rows that nothing was fitted to" in page.read_text()


def test_fit_as_json(capsys, folder, tmp_path):
    code, printed, told = leave(
        capsys, "fit", folder / "patients.csv", "-t", "diagnosis", "-o", tmp_path / "m", "--json", "--no-report"
    )
    assert (code, told) == (0, "")
    assert json.loads(printed)["columns"][0] == {"name": "mean radius", "kind": "number", "missing": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "absent.csv", "-t", "y"], 1, "there is no file 'absent.csv'"),
        (["fit", "{folder}/patients.csv"], 2, "name the column to predict"),
        (["fit", "{folder}/patients.csv", "-t", "age"], 1, "there is no column 'age' to predict"),
        (["fit", "{folder}/patients.csv", "-t", "diagnosis", "-o", "{folder}"], 1, "holds other files"),
        (["predict", "{folder}", "{folder}/new.csv"], 1, "holds no model"),
        (
            ["predict", "{model}", "{folder}/broken.csv"],
            1,
            "column 'mean radius', row 2: found 'big', expected a number",
        ),
        (
            ["predict", "{model}", "{folder}/short.csv"],
            1,
            "the rows lack the columns ['mean texture', 'mean perimeter']",
        ),
        (["predict", "{model}", "{folder}/new.csv", "-o", "{folder}/x.docx"], 1, "predictions are written to"),
    ],
)
def test_wrong_calls_are_told_in_one_message(capsys, folder, model, arguments, code, message):
    (folder / "broken.csv").write_text("mean radius,mean texture,mean perimeter\n1,2,3\nbig,2,3\n")
    (folder / "short.csv").write_text("mean radius\n1\n")
    given = [argument.format(folder=folder, model=model) for argument in arguments]
    ended, out, told = leave(capsys, *given)
    assert (ended, out) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", told)
    assert "Traceback" not in told


def test_models_written_in_files(capsys, tmp_path):
    """A PyMC model by its name, with other data, saved and described."""
    (tmp_path / "written.py").write_text(
        "import numpy as np, pymc as pm\n"
        "with pm.Model() as model:\n"
        "    x = pm.Data('x', np.arange(20.0))\n"
        "    y = pm.Data('y', np.arange(20.0))\n"
        "    slope = pm.Normal('slope', 0, 10)\n"
        "    pm.Normal('out', slope * x, 1, observed=y)\n"
    )
    x = np.arange(20.0)
    pd.DataFrame({"x": x, "y": 3 * x}).to_csv(tmp_path / "data.csv", index=False)
    out = tmp_path / "fit.posterion"
    arguments = ["fit", f"{tmp_path}/written.py:model", "--data", tmp_path / "data.csv", "-o", out, "--json", "-q"]
    code, printed, _ = leave(capsys, *arguments)
    assert code == 0
    assert json.loads(printed)["trustworthy"]
    import posterion as po

    slope = po.load(out).sample(500)["posterior"]["slope"].values
    np.testing.assert_allclose(slope.mean(), 3.0, atol=5 * 0.02 / np.sqrt(500) + 1e-3)
