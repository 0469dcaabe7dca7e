"""What must not be importable, so that a test proves what it says."""

from importlib.util import find_spec

PACKAGES = {"pymc": "pymc", "stan": "httpstan", "flax": "flax", "equinox": "equinox"}
"""The package that each extra of a front end brings."""


def only(extra: str) -> None:
    """Fail unless this extra's package is here and those of the others are not."""
    found = {name for name, package in PACKAGES.items() if find_spec(package) is not None}
    assert found == {extra} - {"none"}, f"the environment holds the extras {sorted(found)}, and should hold {extra}"
