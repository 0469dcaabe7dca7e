"""What a benchmark hands over: rows with their targets, the machine and versions behind them, and the table."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

PACKAGES = (
    "posterion",
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "pymc",
    "pymc-extras",
    "pytensor",
    "numba",
    "numpyro",
    "scikit-learn",
)
HEADINGS = {"pymc": "PyMC", "numpyro": "NumPyro", "posterion": "Posterion"}
"""Columns of the notebook's table; other benchmarks pass their own."""


@dataclass(frozen=True)
class Check:
    """One target: what it is about, what was measured, and the bound it is held against."""

    what: str
    measured: float
    bound: float
    at_least: bool = False
    unit: str = ""
    decimals: int | None = None  # three significant digits if None

    @property
    def met(self) -> bool:
        """NaN meets nothing."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign, what = ("≥", "≤")[not self.at_least], f"{self.what} " if self.what else ""
        verdict = "met" if self.met else "**missed**"
        measured = number(self.measured) if self.decimals is None else f"{self.measured:.{self.decimals}f}"
        return f"{what}{measured}{self.unit}, {sign} {self.bound:,g}{self.unit}: {verdict}"


def times_faster(than: str, measured: float, bound: float) -> Check:
    """A target for a ratio of speeds."""
    return Check(f"than {than}", measured, bound, at_least=True, unit="x")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    key
        Number of the row, with a letter where a row has several lines: "4b".
    title
        What was measured, with its unit.
    cells
        What the table shows, by column.
    checks
        The targets.
    values
        Everything measured, repeats included; seconds unless the name says otherwise.
    """

    key: str
    title: str
    cells: dict[str, str]
    checks: tuple[Check, ...] = ()
    values: dict = field(default_factory=dict)

    def as_record(self, circumstances: dict) -> dict:
        """The row as plain values for JSON, with the circumstances it was measured in."""
        checks = [asdict(check) | {"met": check.met, "text": str(check)} for check in self.checks]
        return {
            "row": self.key,
            "title": self.title,
            "cells": self.cells,
            "checks": checks,
            "values": self.values,
            **circumstances,
        }


def number(value: float) -> str:
    """Three significant digits, thousands apart, in powers of ten only below 0.0001; large numbers whole."""
    if not math.isfinite(value):
        return str(value)
    if 0 < abs(value) < 1e-4:
        return f"{value:.1e}"
    digits = 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def circumstances(*, quick: bool) -> dict:
    """Machine, versions, commit and time, for every row: rows of one file may come from different runs."""
    import pytensor

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "quick": quick,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor(),
            "cores": cores,
            "memory_GiB": round(memory, 1),
            "system": f"{platform.system()} {platform.machine()}",
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES}
        | {"commit": commit()},
        "pytensor": {
            "linker": "numba" if pytensor.config.linker == "auto" else str(pytensor.config.linker),
            "floatX": str(pytensor.config.floatX),
        },
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit measured, with a plus if the checkout differs from it; empty outside of a checkout."""
    here = Path(__file__).parent
    try:
        git = lambda *words: subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "../src"))
    except (OSError, subprocess.CalledProcessError):
        return ""


# ---- files
def read(path: Path) -> list[dict]:
    """The records of an earlier run, none if there is no file."""
    return json.loads(path.read_text()) if path.exists() else []


def merge(old: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """Old records with those of newly measured rows replaced, in order."""
    measured = {_number_of(record) for record in new}
    kept = [record for record in old if _number_of(record) not in measured]
    return sorted([*kept, *new], key=lambda record: (_number_of(record), record["row"]))


def _number_of(record: dict) -> int:
    return int(record["row"].rstrip("abcdefgh"))


def write(path: Path, records: Sequence[dict]) -> None:
    """Write the records as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False, default=float) + "\n")


# ---- table
def table(records: Iterable[dict], headings: Mapping[str, str] = HEADINGS) -> str:
    """The rows as one Markdown table; ``headings`` names the columns by the keys of the cells."""
    lines = [
        f"| | figure | {' | '.join(headings.values())} | target |",
        f"|---|---|{'---|' * len(headings)}---|",
    ]
    for record in records:
        cells = [record["cells"].get(column, "") for column in headings]
        targets = "<br>".join(check["text"] for check in record["checks"])
        lines.append(f"| {record['row']} | {record['title']} | {' | '.join(cells)} | {targets} |")
    return "\n".join(lines)


def provenance(records: Sequence[dict]) -> str:
    """Sentences that say when, on what and with which versions the rows were measured."""
    sentences: dict[str, list[str]] = {}
    for record in records:
        machine, versions = record["machine"], record["versions"]
        packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        sentence = (
            f"measured {record['date'][:10]} on {machine['cores']} cores of {machine['processor']}, "
            f"{machine['memory_GiB']:g} GiB, load {machine['load_before']:g} before the start; {packages}; "
            f"PyMC on PyTensor's {record['pytensor']['linker']} linker, "
            f"{record['pytensor']['floatX']}"
        )
        sentences.setdefault(sentence, []).append(record["row"])
    return "\n".join(f"Rows {', '.join(rows)}: {sentence}.\n" for sentence, rows in sentences.items())


BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def update_page(page: Path, records: Sequence[dict], headings: Mapping[str, str] = HEADINGS) -> None:
    """Write table and provenance of the records between the page's two marks."""
    fill(page, f"{table(records, headings)}\n\n{provenance(records)}")


def fill(page: Path, text: str) -> None:
    """Replace what stands between the page's two marks."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no {BEGIN} ... {END} to fill in")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
