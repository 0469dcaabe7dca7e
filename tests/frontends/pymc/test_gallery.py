"""PyMC's gallery: the models of two chapters of notebooks fit and predict, or are refused by name."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymc")

import posterion as po
from tests.frontends.pymc.gallery import regressions, structured, variational  # noqa: F401  (they fill the dictionary)
from tests.frontends.pymc.gallery.examples import EXAMPLES, built, table

PAGE = Path(__file__).parents[3] / "docs/how-to/pymc_gallery.md"
QUICK = {"logistic_out_of_sample"}
FITTED = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name, example in EXAMPLES.items()
    if not example.refused
]
DRAWS = 1000


@pytest.mark.parametrize("name", FITTED)
def test_fits_and_predicts(name):
    known = built(name)
    approx = po.fit(known.model, progress=False, random_seed=1)
    assert approx.result == "converged"
    draws = approx.sample(DRAWS)["posterior"]
    for variable, (mean, off) in known.means.items():
        np.testing.assert_allclose(draws[variable].mean(("chain", "draw")), mean, rtol=0, atol=off, err_msg=variable)
    if known.outcome:
        predicted = approx.predict(known.new or None, draws=DRAWS).mean[known.outcome]
        assert predicted.shape == known.truth.shape
        if known.within is not None:
            np.testing.assert_allclose(predicted, known.truth, rtol=0, atol=known.within)
            return
        # Of what the truth varies by from row to row the predictions must explain most.
        unexplained = np.mean((predicted - known.truth) ** 2) / np.mean((known.truth - known.truth.mean(0)) ** 2)
        assert unexplained < 0.1, unexplained


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.refused])
def test_refused_by_name(name):
    with pytest.raises(po.errors.UnsupportedModelError) as caught:
        po.fit(built(name).model, progress=False)
    assert EXAMPLES[name].refused in str(caught.value)


def test_every_model_says_what_is_known_of_it():
    """A model that is fitted without a check would prove nothing."""
    for name, example in EXAMPLES.items():
        known = built(name)
        assert example.refused or known.means or (known.outcome and known.truth is not None), name


def test_at_least_95_in_100_fit():
    assert sum(not example.refused for example in EXAMPLES.values()) >= 0.95 * len(EXAMPLES)


def test_the_page_has_the_table():
    assert table() in PAGE.read_text(), "write this table into the page:\n" + table()
