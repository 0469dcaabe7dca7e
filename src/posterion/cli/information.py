"""What there is to say about an installation, for people and for bug reports."""

import os
import platform
import sys
from importlib import metadata

_PACKAGES = ("jax", "jaxlib", "numpy", "xarray", "pymc", "pytensor", "matplotlib", "arviz-base", "scikit-learn")


def installation() -> dict[str, str]:
    """Versions, devices and settings, by name."""
    import jax

    import posterion as po

    found = {"posterion": po.__version__, "python": f"{platform.python_version()} ({sys.executable})"}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    devices = ", ".join(str(device) for device in jax.devices())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found | {
        "devices": f"{jax.default_backend()}: {devices}",
        "cores": str(cores),
        "system": platform.platform(),
        "cache": os.environ.get("POSTERION_CACHE", "in the user's cache folder") or "turned off",
    }
