"""Stopwatches: repeats, differences that leave compiling out, and fresh processes."""

import gc
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A function's value and the wall seconds it took. It must return values of NumPy, or wait for those of JAX."""
    gc.collect()
    begin = time.perf_counter()
    value = function()
    return value, time.perf_counter() - begin


def seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    """Wall seconds of each of ``repeats`` calls."""
    return [timed(function)[1] for _ in range(repeats)]


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list]:
    """Each function's findings, taken in turn, so that a busy moment of the machine hits all of them."""
    found: dict[str, list] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            found[name].append(function())
    return found


def marginal(run: Callable[[int], Any], short: int, long: int) -> dict[str, float]:
    """Seconds per step and seconds before the first, from two lengths.

    What does not depend on the length, compiling above all, cancels in the difference, and is what remains of the
    shorter run without its steps.
    """
    (_, base), (_, whole) = timed(lambda: run(short)), timed(lambda: run(long))
    step = (whole - base) / (long - short)
    return {"step": step, "before": base - short * step}


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


# ---- fresh processes
@contextmanager
def empty_caches() -> Iterator[dict[str, str]]:
    """Environment in which every cache of every package involved lies in a new, empty folder."""
    with tempfile.TemporaryDirectory(prefix="posterion-bench-") as folder:
        root = Path(folder)
        flags = [flag for flag in os.environ.get("PYTENSOR_FLAGS", "").split(",") if flag]
        flags = [flag for flag in flags if not flag.startswith(("base_compiledir", "compiledir"))]
        yield {
            "POSTERION_CACHE": str(root / "posterion"),
            "PYTENSOR_FLAGS": ",".join([*flags, f"base_compiledir={root / 'pytensor'}"]),
            "NUMBA_CACHE_DIR": str(root / "numba"),
            "MPLCONFIGDIR": str(root / "matplotlib"),
            "XDG_CACHE_HOME": str(root / "cache"),
        }


def fresh(task: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict:
    """Run a task of `_child.py` in a process of its own; it answers with one line of JSON."""
    command = [sys.executable, str(HERE / "_child.py"), task, *arguments]
    return json.loads(_output(command, environment).splitlines()[-1])


def command_seconds(*words: str, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> float:
    """Wall seconds of the command ``posterion`` with these words, from start to end of its process."""
    command = [str(Path(sysconfig.get_path("scripts")) / "posterion"), *words]
    return timed(lambda: _output(command, environment, folder))[1]


def script_seconds(script: str, *arguments: str, environment: Mapping[str, str]) -> float:
    """Wall seconds of a script beside this one, from start to end of its process."""
    command = [sys.executable, str(HERE / script), *arguments]
    return timed(lambda: _output(command, environment))[1]


def _output(command: list[str], environment: Mapping[str, str] | None, folder: Path | None = None) -> str:
    run = subprocess.run(
        command, env={**os.environ, **(environment or {})}, cwd=folder, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr[-4000:]}")
    return run.stdout
