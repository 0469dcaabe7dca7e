"""What holds in every test: one processor type, no display, a compilation cache of its own, global flags left alone."""

import gc
import os
import shutil
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
# One thread of each worker compiles: cutting a small program into parts for several threads costs a tenth of the suite.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_parallel_codegen_split_count=1".strip()

if os.environ.get("POSTERION_TYPECHECK", "1") != "0":
    from jaxtyping import install_import_hook

    # While tests run, every annotated function of ours checks its arguments: their types, and their shapes together.
    install_import_hook("posterion", "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# PyMC and JAX keep millions of objects alive: walking through them at Python's own pace took an eighth of the suite.
gc.set_threshold(200_000, 20, 100)


def pytest_configure(config):
    """Give the session a compilation cache: shared by its workers and the processes tests start, empty at the start."""
    if not hasattr(config, "workerinput"):
        config.posterion_cache = tempfile.mkdtemp(prefix="posterion-test-cache-")
        os.environ["POSTERION_CACHE"] = config.posterion_cache


def pytest_unconfigure(config):
    """Remove the session's compilation cache."""
    if hasattr(config, "posterion_cache"):
        shutil.rmtree(config.posterion_cache, ignore_errors=True)


def _global_state() -> dict:
    """Everything of the process that belongs to the user and that a library could change."""
    state = {f"jax.config.{name}": value for name, value in jax.config.values.items()}
    state |= {f"np.geterr()[{name!r}]": value for name, value in np.geterr().items()}
    state["jax.config.jax_enable_x64 in this thread"] = jax.config.jax_enable_x64
    return state


@pytest.fixture(autouse=True)
def global_state_is_left_alone():
    """Fail the test that leaves a global flag of JAX or NumPy changed."""
    before = _global_state()
    yield
    changed = {name: (before.get(name), value) for name, value in _global_state().items() if before.get(name) != value}
    assert not changed, f"global flags left changed (before, after): {changed}"


@pytest.fixture(autouse=True)
def figures_are_closed():
    """Close the figures a test opened, if it drew any."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
