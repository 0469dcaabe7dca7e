"""Records of benchmarks over splits: one for each data set, split and method, kept as soon as it is measured."""

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _rows import commit, processor

PACKAGES = ("posterion", "jax", "numpy", "scipy", "scikit-learn", "lightgbm", "flax")
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def data_folder() -> Path:
    """Where the data are (see the environment variable POSTERION_DATA)."""
    folder = Path(os.environ.get("POSTERION_DATA", Path(__file__).parent.parent / "../shared/data"))
    if not folder.is_dir():
        raise SystemExit(f"no data in {folder}: name their folder in POSTERION_DATA")
    return folder


class Records:
    """A file of records, one line each; what is in it is not measured again."""

    def __init__(self, path: Path | None):
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.rows = [json.loads(line) for line in lines]
        self._keys = {self._key(row) for row in self.rows}

    @staticmethod
    def _key(row: dict) -> tuple:
        return tuple(row[name] for name in ("data", "kind", "split", "method"))

    def has(self, **key) -> bool:
        return self._key(key) in self._keys

    def add(self, row: dict) -> None:
        self.rows.append(row)
        self._keys.add(self._key(row))
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(row, default=float) + "\n")

    def values(self, name: str, **where) -> np.ndarray:
        rows = [r for r in self.rows if all(r[key] == value for key, value in where.items())]
        return np.array([r[name] for r in sorted(rows, key=lambda r: r["split"])], float)

    def names(self, key: str) -> list[str]:
        return list(dict.fromkeys(row[key] for row in self.rows))


def circumstances() -> dict:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "load": round(os.getloadavg()[0], 1),
        "commit": commit(),
        "versions": {"python": platform.python_version()} | versions,
    }


def mean_and_error(values: np.ndarray, decimals: int = 3) -> str:
    """The mean over splits with its standard error, and how many splits if fewer than all."""
    if not len(values):
        return ""
    if len(values) == 1:
        return f"{values[0]:.{decimals}f}"
    return f"{values.mean():.{decimals}f} ± {values.std(ddof=1) / np.sqrt(len(values)):.{decimals}f}"


def provenance(rows: Sequence[dict]) -> str:
    dates = sorted({row["date"][:10] for row in rows})
    commits = sorted({row["commit"] for row in rows if row["commit"]})
    versions = {name: version for row in rows for name, version in row["versions"].items()}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{len(rows)} fits, measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"
        f"{' at ' * bool(commits)}{', '.join(commits[:4])} on {rows[-1]['processor']}; {packages}.\n"
    )


def update_page(page: Path, text: str) -> None:
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no {BEGIN} ... {END} to fill in")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
