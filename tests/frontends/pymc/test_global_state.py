"""Importing, converting and evaluating leave JAX, XLA, PyTensor and the warning filters as they were."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("pymc")

PROGRAM = """
import os, warnings
{before}
import jax
import posterion.frontends.pymc
assert "pymc" not in __import__("sys").modules, "importing the front end must not import PyMC"
import pymc as pm, pytensor, numpy as np
config = lambda: ({{n: v for n, v in jax.config.values.items()}}, str(pytensor.config), os.environ.get("XLA_FLAGS"))
was = config()
filters = list(warnings.filters)
assert jax.config.jax_enable_x64 is {x64}
with pm.Model() as model:
    b = pm.Normal("b")
    pm.Normal("out", b, 1, observed=np.arange(40.0))
target = posterion.frontends.pymc.from_pymc(model)
z = jax.numpy.asarray(target.initial_point(0), "float32")
target.log_density(z, target.data)
target.simulate(jax.random.key(0), z, target.data)
target.row_plan()
now = config()
assert now[0] == was[0], {{n: (v, now[0][n]) for n, v in was[0].items() if now[0][n] != v}}
assert now[1:] == was[1:]
assert len(jax.devices()) == 1
assert not [f for f in warnings.filters if f not in filters and "Explicitly" in str(f[1])]
assert jax.numpy.zeros(1).dtype == "{dtype}"
print("unchanged")
"""


@pytest.mark.parametrize(
    ("before", "x64", "dtype"),
    [
        ("os.environ.pop('JAX_ENABLE_X64', None)", False, "float32"),
        pytest.param("os.environ['JAX_ENABLE_X64'] = '1'", True, "float64", marks=pytest.mark.slow),
    ],
)
def test_nothing_global_changes(before, x64, dtype):
    program = textwrap.dedent(PROGRAM.format(before=before, x64=x64, dtype=dtype))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "unchanged"
