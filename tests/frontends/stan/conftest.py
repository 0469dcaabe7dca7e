"""Programs that are compiled once for all tests that need them, and what compiling them needs."""

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from posterion.compilation.cache import cache_folder
from posterion.frontends.stan import stan
from posterion.frontends.stan.toolchain import find_toolchain

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs/how-to/stan.md"


@pytest.fixture(scope="session")
def stan_files():
    """Stan's files, or a reason to skip."""
    if find_spec("httpstan") is None:
        pytest.skip("the package httpstan, whose files Stan programs are compiled with, is not installed")


@pytest.fixture(scope="session")
def toolchain(stan_files):
    """Stan's files and a compiler, or a reason to skip."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("there is no C++ compiler on this machine")
    # Whoever works on these tests gives a folder to keep compiled programs in from one run to the next.
    kept = os.environ.get("POSTERION_TEST_STAN_CACHE")
    place = cache_folder().parent / "stan"
    if kept and not place.exists():
        place.symlink_to(kept, target_is_directory=True)
    return find_toolchain()


SCHOOLS_DATA = {"J": 8, "y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}


def schools_program() -> str:
    """The program of the how-to page."""
    return re.search(r'^schools = """\n(.*?)^"""', PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]


@pytest.fixture(scope="session")
def schools(toolchain):
    dims = {"theta": ["school"], "eta": ["school"], "y": ["school"]}
    return stan(f"\n{schools_program()}", SCHOOLS_DATA, dims=dims, coords={"school": list("ABCDEFGH")}, progress=False)


def mixed_data() -> dict:
    """Twenty rows of an ordered outcome and a measured one, which share their predictor."""
    random = np.random.default_rng(3)
    x = random.normal(size=(20, 2))
    return {
        "N": 20,
        "K": 2,
        "x": x,
        "grade": 1 + (x[:, 0] > -0.5).astype(int) + (x[:, 0] + 0.5 * random.normal(size=20) > 0.7),
        "measured": x @ [1.0, -0.5] + 0.4 * random.normal(size=20),
        "scale": 1.0,
        "mean_of_rows": 0,
        "ceiling": 50.0,
        "fail": 0,
    }


@pytest.fixture(scope="session")
def mixed(toolchain):
    return stan(HERE / "mixed.stan", mixed_data(), include_paths=[HERE / "include"], progress=False)
