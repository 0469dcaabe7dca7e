"""What is measured in a process of its own; called by `_measure.fresh`. Prints one line of JSON at the end."""

import builtins
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

BEGAN = time.perf_counter()


def since(begin: float) -> float:
    """Seconds from ``begin`` until now."""
    return time.perf_counter() - begin


class LateImports:
    """Counts the seconds that imports take while it is on: packages load parts of themselves when first used."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._original = 0.0, 0, builtins.__import__

    def __enter__(self) -> "LateImports":
        def counted(*arguments, **options):
            if self._depth or threading.current_thread() is not threading.main_thread():
                return self._original(*arguments, **options)
            self._depth, begin = 1, time.perf_counter()
            try:
                return self._original(*arguments, **options)
            finally:
                self._depth, self.seconds = 0, self.seconds + since(begin)

        builtins.__import__ = counted
        return self

    def __exit__(self, *exception: object) -> None:
        builtins.__import__ = self._original


# ---- row 4
def first_fit(package: str, steps: str, seed: str) -> dict:
    """Seconds of the first fit in a process; what it imports on the way is told apart."""
    from _network import pymc_model
    from _session import Session, Size

    session = Session(Size(steps=int(steps)))
    if package == "numpyro":
        import jax.numpy  # noqa: F401
        import numpyro.infer.autoguide  # noqa: F401

        run = lambda: session.numpyro_run(session.size.steps)
    else:
        import pymc  # noqa: F401

        model = pymc_model(session.data)
        if package == "pymc":
            run = lambda: session.pymc_fit(model, session.size.steps)
        else:
            from posterion import fit

            run = lambda: fit(model, progress=False, random_seed=int(seed))
    before = since(BEGAN)
    begin = time.perf_counter()
    with LateImports() as late:
        run()
    return {"imports_data_model": before, "late_imports": late.seconds, "call": since(begin)}


# ---- row 6
def memory(package: str, draws: str, lines: str) -> dict:
    """Largest resident memory during a prediction, beyond what was resident before it."""
    import _network as network
    from _session import Session, Size

    session = Session(Size())
    points, few, number = network.grid(int(lines)), network.grid(3), int(draws)
    approx = session.fit(n=1000, random_seed=0)
    if package == "posterion":
        predict = posterion_prediction(approx)
    else:
        predict = pymc_prediction(session.model, approx.sample(number))
    predict(few, number)
    first = extra_memory(lambda: predict(points, number))
    again = extra_memory(lambda: predict(points, number))
    return {"first": first, "again": again}


def posterion_prediction(approx) -> Callable:
    """Mean and sd of the outcome at points, by Posterion."""

    def predict(points, draws: int) -> tuple:
        found = approx.predict({"ann_input": points}, draws=draws)
        return found.mean["out"], found.std["out"]

    return predict


def pymc_prediction(model, trace) -> Callable:
    """The same by ``pm.sample_posterior_predictive``, as the notebook does it."""
    import numpy as np
    import pymc as pm

    def predict(points, draws: int) -> tuple:
        with model:
            pm.set_data({"ann_input": points, "ann_output": np.zeros(len(points))})
            found = pm.sample_posterior_predictive(trace, progressbar=False, random_seed=0)
        outcomes = found.posterior_predictive["out"]
        return outcomes.mean(("chain", "draw")).values, outcomes.std(("chain", "draw")).values

    return predict


def extra_memory(function: Callable[[], object]) -> float:
    """MB by which resident memory rose while ``function`` ran, at its highest."""
    import gc

    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
        before = _status("VmRSS")
        function()
        return (_status("VmHWM") - before) / 2**20
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        function()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 2**20


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"the system does not tell {name}")


# ---- row 8
def importing() -> dict:
    """Seconds to import JAX, and Posterion after it: its name, and what loads when `fit` is first asked for."""
    begin = time.perf_counter()
    import jax  # noqa: F401

    jax_seconds = since(begin)
    begin = time.perf_counter()
    import posterion

    name_seconds = since(begin)
    assert callable(posterion.fit)
    return {"jax": jax_seconds, "name": name_seconds, "posterion": since(begin)}


if __name__ == "__main__":
    tasks = {"first_fit": first_fit, "memory": memory, "importing": importing}
    print(json.dumps(tasks[sys.argv[1]](*sys.argv[2:])))
