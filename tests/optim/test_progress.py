"""The bar: one line that is written over, where somebody looks, and nothing elsewhere."""

import sys
import types

import pytest

from posterion.optim.progress import Bar, Silent, reporter


@pytest.fixture
def nobody(monkeypatch):
    """Neither a terminal nor a notebook, whatever runs the tests."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def notebook(nobody, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))


@pytest.mark.usefixtures("nobody")
def test_nothing_where_nobody_looks(capsys):
    shown = reporter(progress=True)
    shown.update(10, 100, 1.0)
    shown.close()
    assert isinstance(shown, Silent)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("notebook")
def test_nothing_where_nothing_is_wanted():
    assert isinstance(reporter(progress=False), Silent)


@pytest.mark.usefixtures("notebook")
@pytest.mark.filterwarnings("error")  # rich warns where it wants ipywidgets
def test_a_notebook_sees_one_line(capsys):
    shown = reporter(progress=True)
    assert isinstance(shown, Bar)
    shown.update(0, 30_000, 250.0, "Fitting")
    shown.update(15_000, 30_000, 114.25, "Fitting")
    shown.update(30_000, 30_000, 114.0, "Fitting")
    shown.close()
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    last = text.rpartition("\r")[2]
    assert "30,000/30,000 steps" in last
    assert "steps/s" in last
    assert "average loss 114" in last
