"""The example runs from beginning to end, and says what the demonstration says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "bayesian_neural_network.py"


@pytest.mark.slow
def test_example_runs(tmp_path):
    run = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    correct = int(re.search(r"(\d+) of 285 rows right", run.stdout)[1])
    assert 248 <= correct <= 268
    assert "x, y = pm.Minibatch(X, Y, batch_size=50)" in run.stdout
    assert re.search(r"largest difference: 0\.0$|largest difference: \d\.\d+e-\d+$", run.stdout, re.MULTILINE)
