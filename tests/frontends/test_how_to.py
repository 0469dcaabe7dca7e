"""The pages that tell how to fit NumPyro models and log densities: their code runs and gives what they say."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGES = Path(__file__).parents[2] / "docs/how-to"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "variable"), [("numpyro.md", "log_radon"), ("log_density.md", "height")])
def test_the_code_of_the_page_runs(page, variable):
    names = {"__name__": "docs_example"}
    for block in re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, page, "exec"), names)
    verdict = names["approx"].diagnose()
    # Independent normals for groups and their spread are at the limit of 0.7, on which side depends on the draws.
    assert verdict.khat < 0.9 if page == "numpyro.md" else verdict.trustworthy
    found = names.get("new") or names["found"]
    assert found.mean[variable].shape == (2,)
    assert np.all(found.std[variable] > 0)
