"""The page that tells how to decide: its code runs and gives what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/decisions.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs():
    names = {"__name__": "docs_example"}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["wrong"][~names["referred"]].mean() < names["wrong"].mean()
    assert names["member"][np.arange(len(names["y_new"])), names["y_new"]].mean() > 0.9
    assert len(set(names["ask"].tolist())) == 5
    assert set(names["action"].action.values.tolist()) == {"wait", "operate"}
