"""Rows 4, 7 and 8: what a user waits for in a fresh process."""

import os
import tempfile
from pathlib import Path

import _measure as measure
from _rows import Check, Row, number
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
    """Row 7: the whole demonstration."""
    empty, filled = [], []
    words = ("demo", *session.size.demo)
    for _ in range(min(3, session.size.processes)):
        with measure.empty_caches() as environment, tempfile.TemporaryDirectory() as folder:
            empty.append(measure.command_seconds(*words, environment=environment, folder=Path(folder)))
            filled.append(measure.command_seconds(*words, environment=environment, folder=Path(folder)))
    return [
        Row(
            key,
            f"`posterion demo`, fresh process, caches {state} (s); PyMC: the notebook, quoted",
            {"pymc": quoted, "posterion": number(measure.middle(times))},
            (Check("", measure.middle(times), bound, unit=" s"),),
            {"seconds": times},
        )
        for key, state, quoted, times, bound in (
            ("7a", "empty", "110 (quoted)", empty, 20),
            ("7b", "filled", "35 (quoted)", filled, 10),
        )
    ]


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
