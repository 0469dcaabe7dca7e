"""Methods on data sets and splits: the loop over what is not measured yet, its command line, and tables of its records.

Seconds mean something only on a machine that does nothing else. The first fit of a method in a process compiles or
warms up, so that time to fit is the median over splits.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import _records
import numpy as np

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Study:
    """What is measured, and where it goes.

    Parameters
    ----------
    name
        Of the records' file and of the documentation's page.
    sets, quick_sets
        Files in ``folder`` of the data; those of a trial run.
    kinds
        Of splits.
    methods
        By the names that tables give them.
    splits
        ``(data, kind) -> number of splits``.
    measure
        ``(data, kind, split, method) -> figures``, or None where the method is not for these data.
    page
        The tables.
    """

    name: str
    folder: str
    sets: Sequence[str]
    quick_sets: Sequence[str]
    kinds: Sequence[str]
    methods: Mapping[str, Callable]
    splits: Callable[[Mapping[str, np.ndarray], str], int]
    measure: Callable[[Mapping[str, np.ndarray], str, int, Callable], dict | None]
    page: Callable[[_records.Records], str]

    def main(self, description: str | None) -> None:
        """Run from the command line."""
        options = self._options(description)
        kept = options.json or ROOT / f"benchmarks/results/{self.name}.jsonl"
        records = _records.Records(None if options.quick else kept)
        if not options.render:
            self._run(records, options)
        text = self.page(records)
        if not options.quick and options.json is None and records.rows:
            _records.update_page(ROOT / f"docs/benchmarks/{self.name}.md", text)
        print(text)

    def _run(self, records: _records.Records, options: argparse.Namespace) -> None:
        """Splits go round the sets, so that what a short run leaves says something of each."""

        @cache
        def load(name: str) -> dict[str, np.ndarray]:
            with np.load(_records.data_folder() / self.folder / f"{name}.npz") as file:
                return dict(file)

        available = {(name, kind): self.splits(load(name), kind) for name in options.sets for kind in options.kinds}
        for split in range(max(available.values())) if options.splits is None else options.splits:
            for name, kind in (each for each, count in available.items() if split < count):
                for method in options.methods:
                    key = {"data": name, "kind": kind, "split": split, "method": method}
                    if not records.has(**key):
                        self._measure(records, load(name), key)

    def _measure(self, records: _records.Records, data: Mapping[str, np.ndarray], key: dict) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        figures = self.measure(data, key["kind"], key["split"], self.methods[key["method"]])
        if figures is None:
            return
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        records.add(key | figures | seconds | _records.circumstances())
        said = " ".join(f"{name} {value:.4g}" for name, value in (figures | seconds).items())
        print(*key.values(), said, file=sys.stderr, flush=True)

    def _options(self, description: str | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        listed = lambda text: text.split(",")
        parser.add_argument("--sets", type=listed, default=list(self.sets))
        parser.add_argument("--kinds", type=listed, default=list(self.kinds))
        parser.add_argument("--splits", type=lambda text: [int(split) for split in text.split(",")])
        parser.add_argument(
            "--methods", type=lambda text: text.split(";"), default=list(self.methods), help="separated by ;"
        )
        parser.add_argument(
            "--json", type=Path, help="file of records, instead of the project's, whose page then stays as it is"
        )
        parser.add_argument("--quick", action="store_true")
        parser.add_argument("--render", action="store_true")
        options = parser.parse_args()
        if options.quick:
            options.sets, options.splits = list(self.quick_sets), [0]
        return options


def table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A title in bold and a table of cells that are text."""
    lines = [f"**{title}**", "", f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    return "\n".join(lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]) + "\n"
