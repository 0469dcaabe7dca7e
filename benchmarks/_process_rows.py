"""Rows 4, 7 and 8: what a user waits for in a fresh process."""

import os
import tempfile
from pathlib import Path

import _measure as measure
from _rows import Check, Row, number, times_faster
from _session import Session


def first_fit(session: Session) -> list[Row]:
    """Row 4: the first fit of a process, with empty caches and with those the first left behind."""
    size = session.size
    empty: dict[str, list[dict]] = {"pymc": [], "numpyro": [], "posterion": []}
    filled: dict[str, list[dict]] = {"pymc": [], "numpyro": [], "posterion": []}
    for package in empty:
        for seed in range(1 if package == "pymc" else size.processes):  # PyMC's empty caches cost a minute
            arguments = (package, str(size.steps), str(seed))
            with measure.empty_caches() as environment:
                empty[package].append(measure.fresh("first_fit", *arguments, environment=environment))
                filled[package].append(measure.fresh("first_fit", *arguments, environment=environment))
    rows = []
    for key, state, found, bound in (("4a", "empty", empty, 2.5), ("4b", "filled", filled, 0.6)):
        apart = {name: measure.middle([run["call"] - run["late_imports"] for run in found[name]]) for name in found}
        rows.append(
            Row(
                key,
                f"first fit in a fresh process, caches {state}, imports apart; ours until it stops, "
                f"peers {size.steps:,} steps (s)",
                {name: number(value) for name, value in apart.items()},
                (Check("", apart["posterion"], bound, unit=" s"),),
                {"runs": found},
            )
        )
    return rows


def demo(session: Session) -> list[Row]:
    """Row 7: the whole demonstration, and the notebook in PyMC, whose empty caches cost minutes: once each."""
    ours: dict[str, list[float]] = {"empty": [], "filled": []}
    theirs: dict[str, list[float]] = {"empty": [], "filled": []}
    with measure.empty_caches() as environment:
        for times in theirs.values():
            with tempfile.TemporaryDirectory() as folder:
                arguments = (folder, str(session.size.steps))
                times.append(measure.script_seconds("_notebook_pymc.py", *arguments, environment=environment))
    for _ in range(min(3, session.size.processes)):
        with measure.empty_caches() as environment, tempfile.TemporaryDirectory() as folder:
            for times in ours.values():
                words = ("demo", *session.size.demo)
                times.append(measure.command_seconds(*words, environment=environment, folder=Path(folder)))
    rows = []
    for key, state, bound, quoted in (("7a", "empty", 20, 110), ("7b", "filled", 10, 35)):
        pymc, posterion = measure.middle(theirs[state]), measure.middle(ours[state])
        checks = (Check("", posterion, bound, unit=" s"), times_faster("PyMC", pymc / posterion, quoted / bound))
        rows.append(
            Row(
                key,
                f"`posterion demo`, fresh process, caches {state}; PyMC: the notebook (s)",
                {"pymc": number(pymc), "posterion": number(posterion)},
                checks,
                {"seconds": {"pymc": theirs[state], "posterion": ours[state]}},
            )
        )
    return rows


def start(session: Session) -> list[Row]:
    """Row 8: importing, and asking for help."""
    repeats = session.size.processes + 2
    measure.fresh("importing")  # files into the system's cache, byte code onto the disk
    imports = [measure.fresh("importing") for _ in range(repeats)]
    helps = [measure.command_seconds("--help", environment=dict(os.environ)) for _ in range(repeats)]
    name, ours, jax = (measure.middle([run[part] for run in imports]) for part in ("name", "posterion", "jax"))
    return [
        Row(
            "8a",
            f"`import posterion` beyond `import jax`, which takes {number(jax)} s / until `posterion.fit` is there (s)",
            {"posterion": f"{number(name)} / {number(ours)}"},
            (Check("the import", name, 0.3, unit=" s"), Check("with `posterion.fit`", ours, 0.3, unit=" s")),
            {"runs": imports},
        ),
        Row(
            "8b",
            "`posterion --help` (s)",
            {"posterion": number(measure.middle(helps))},
            (Check("", measure.middle(helps), 0.5, unit=" s"),),
            {"seconds": helps},
        ),
    ]
