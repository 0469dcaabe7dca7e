"""The demonstration, run once with little work: its numbers, files, page and messages."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import posterion as po
from posterion.demo import run_demo
from posterion.demo.data import load_data
from posterion.demo.fresh_process import FreshProcess
from posterion.demo.painter import Painter
from posterion.demo.steps import expected_refusal, score
from posterion.errors import OptionError, PosterionError
from tests.report.test_page import read

PICTURES = (
    *("data", "elbo", "minibatch_elbo", "parameters", "predicted_labels", "reliability", "probability"),
    *("predicted_class_sd", "uncertainty"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    said = io.StringIO()
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    demo = run_demo(output=folder, quick=True, progress=False, console=Console(file=said, width=100))
    return SimpleNamespace(
        demo=demo, said=said.getvalue(), page=read(demo.report.read_text()), data=load_data("cancer")
    )


def test_files(run):
    assert {path.name for path in run.demo.folder.iterdir()} == {
        "report.html",
        "cancer.posterion",
        *(f"{name}.png" for name in PICTURES),
    }
    assert run.demo.report.stat().st_size < 3_000_000


def test_numbers_follow_from_the_saved_posterior(run):
    data = run.data
    p = po.load(run.demo.posterior).predict({"ann_input": data.X_test}, draws=400).mean["out"]
    correct = int(np.sum((p >= 0.5) == data.Y_test))
    assert run.demo.accuracy == correct / 285
    np.testing.assert_allclose(run.demo.log_score, np.mean(np.log(np.where(data.Y_test == 1, p, 1 - p))), rtol=1e-6)
    np.testing.assert_allclose(run.demo.brier, np.mean((p - data.Y_test) ** 2), rtol=1e-6)
    assert f"{correct} of 285" in run.demo.numbers["accuracy"]
    assert "260 of 285" in run.demo.numbers["the notebook's own"]


def test_the_network_has_learned(run):
    """Even with little work: far better than the base rate of 63 %, and within reach of the best ELBO, -113.9."""
    assert run.demo.accuracy > 0.85
    assert -120 < run.demo.elbo < -113.5


def test_a_new_process_without_pymc_predicts_the_same(run):
    assert run.demo.largest_difference < 1e-5


def test_page_shows_every_picture_and_number(run):
    text = "".join(run.page.text)
    images = [attrs for tag, attrs in run.page.tags if tag == "img"]
    assert len(images) == len(PICTURES)
    assert all(len(image["alt"]) > 40 for image in images)
    assert {attrs.get("id") for tag, attrs in run.page.tags if tag == "figure"} == set(PICTURES)
    for name, value in run.demo.numbers.items():
        assert name in ("seconds", "report") or value in text
    for said in ("x, y = pm.Minibatch(X, Y, batch_size=50)", "posterion demo --data cancer --seed 0", "50 of 284 rows"):
        assert said in text


def test_code_in_the_page_runs(run):
    code = re.search(r"import posterion as po\n.*", "".join(run.page.text), re.DOTALL)[0].partition(
        'prediction.mean["out"]'
    )[0]
    code = code.replace('method="advi"', "n=200, progress=False").replace("2500", "50")
    names = {}
    exec(compile(code, "report.html", "exec"), names)
    assert names["prediction"].mean["out"].shape == (285,)


def test_terminal_tells_every_step_with_its_seconds(run):
    steps = re.findall(r"^ ?(\d+) (.{12}) .* (\d+\.\d) s$", run.said, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert [name.strip() for _, name, _ in steps] == list(run.demo.seconds)
    assert "calibration error" in run.said


def test_unknown_data_and_a_file_as_output_are_refused(tmp_path):
    with pytest.raises(OptionError, match="cancer, moons"):
        run_demo("iris", tmp_path)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(OptionError, match="is a file"):
        run_demo(output=file)
    assert file.read_text() == "mine"


def test_what_should_be_refused_and_is_not_fails_loudly():
    with pytest.raises(RuntimeError, match="accepted"), expected_refusal():
        pass
    with expected_refusal() as messages:
        raise PosterionError("no")
    assert messages == ["no"]


def test_a_picture_that_cannot_be_drawn_says_why():
    with Painter() as painter, pytest.raises(PosterionError, match="ended at 'nothing': KeyError: 'nothing'"):
        painter.draw("nothing").result()


def test_new_process_that_fails_says_why(tmp_path):
    broken = tmp_path / "broken.posterion"
    broken.write_bytes(b"not a posterior")
    process = FreshProcess(broken, {"ann_input": np.zeros((3, 2))}, 10, tmp_path)
    with pytest.raises(PosterionError, match="not a saved posterior"):
        process.compare("out", np.zeros(3), np.zeros(3))


def test_score_on_numbers_worked_out_by_hand():
    data = replace(load_data("moons"), Y_test=np.array([1.0, 0.0, 1.0, 0.0]), Y_train=np.array([1.0, 1.0, 1.0, 0.0]))
    held = score(data, np.array([0.8, 0.4, 0.3, 0.1]))
    assert (held.rows, held.correct, held.accuracy) == (4, 3, 0.75)
    np.testing.assert_allclose(held.log_score, np.log([0.8, 0.6, 0.3, 0.9]).mean())
    np.testing.assert_allclose(held.brier, (0.04 + 0.16 + 0.49 + 0.01) / 4)
    np.testing.assert_allclose(held.base_log_score, np.log([0.75, 0.25, 0.75, 0.25]).mean())
    assert held.accuracy_interval[0] < 0.75 < held.accuracy_interval[1]
