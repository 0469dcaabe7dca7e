"""The example runs from beginning to end, and says what the demonstration says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
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


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(EXAMPLE.parent.glob("for_*.py")), ids=lambda path: path.stem)
def test_the_tutorial_of_each_kind_of_user_runs(example, tmp_path):
    """Alone, in an empty folder; what it says of its fits is looked at, since one that shows a bad fit misleads."""
    if example.stem == "for_stan_users":
        pytest.importorskip("httpstan", reason="Stan's compiler is not installed (posterion[stan])")
    run = subprocess.run(
        [sys.executable, str(example)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said = run.stdout
    if example.stem == "for_network_researchers":
        sds = {
            m[1].strip(): (float(m[2]), float(m[3]))
            for m in re.finditer(r"^(.*) sd of the function: ([\d.]+) in the gap, ([\d.]+)", said, re.MULTILINE)
        }
        gap, data = sds["linearised Laplace"]
        assert gap > 2 * data
        assert "ignores the inputs" in said  # what the text says of mean-field
    if example.stem == "for_numpyro_users":
        found = re.findall(r"mean +([\d.]+) \(NUTS +([\d.]+)\) +sd ([\d.]+) \(NUTS ([\d.]+)\)", said)
        assert len(found) == 2
        for mean, nuts, sd, nuts_sd in np.array(found, float):
            assert abs(mean - nuts) < 0.15 * nuts_sd and abs(sd / nuts_sd - 1) < 0.15
    if example.stem == "for_stan_users":
        for name, truth in (("alpha", 1.2), ("beta", 0.8)):
            mean, sd = map(float, re.search(rf"^{name} +([\d.-]+) \+- ([\d.]+)", said, re.MULTILINE).groups())
            assert abs(mean - truth) < 3 * sd
    if example.stem == "for_scikit_learn_users":
        ours, boosted = (float(s) for s in re.findall(r"log score (-[\d.]+)", said))
        assert ours > boosted
    if example.stem == "for_analysts":
        everyone, kept = (float(s) for s in re.search(r"errors: ([\d.]+)% over all, ([\d.]+)% among", said).groups())
        assert kept <= everyone
