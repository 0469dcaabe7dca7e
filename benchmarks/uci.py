"""Regression on six sets of the UCI repository: log score and error on standard splits and splits with a gap.

    python benchmarks/uci.py                                 everything; goes on where it stopped
    python benchmarks/uci.py --methods Posterion --splits 0,1
    python benchmarks/uci.py --kinds gap                     the middle third of one feature left out
    python benchmarks/uci.py --quick                         one split each of two sets; nothing is kept
    python benchmarks/uci.py --render                        measures nothing: the page anew from the records

Records go to benchmarks/results/uci.jsonl, the tables into docs/benchmarks/uci.md.
"""

import argparse
import sys
import time
from pathlib import Path

import _records
import numpy as np
from _peers import REGRESSORS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/uci.jsonl"
PAGE = ROOT / "docs/benchmarks/uci.md"
SETS = ("boston", "concrete", "energy", "power", "wine", "yacht")

PUBLISHED = {
    "MC dropout (published)": {
        "boston": -2.40,
        "concrete": -2.93,
        "energy": -1.21,
        "power": -2.80,
        "wine": -0.93,
        "yacht": -1.25,
    },
    "deep ensembles (published)": {
        "boston": -2.41,
        "concrete": -3.06,
        "energy": -1.38,
        "power": -2.79,
        "wine": -0.94,
        "yacht": -1.18,
    },
}
"""Mean test log densities: Gal's corrected table for the same 20 splits; Lakshminarayanan et al. (2017), Table 1."""


def main() -> None:
    options = _options()
    records = _records.Records(None if options.quick else options.json or RESULTS)
    if not options.render:
        for name in options.sets:
            data = np.load(_records.data_folder() / "uci_regression" / f"{name}.npz")
            for kind in options.kinds:
                available = len(data["train_idx"]) if kind == "standard" else len(data["gap_mask"])
                for split in _records.splits_of(options.splits, available):
                    for method in options.methods:
                        if not records.has(data=name, kind=kind, split=split, method=method):
                            measure(records, data, name, kind, split, method)
    if not options.quick and records.rows:
        _records.update_page(PAGE, page(records))
    print(page(records))


def measure(records, data, name, kind, split, method) -> None:
    x, y = data["X"], data["y"]
    if kind == "standard":
        train, test = data["train_idx"][split].astype(int), data["test_idx"][split].astype(int)
    else:
        gap = data["gap_mask"][split].astype(bool)
        train, test = np.flatnonzero(~gap), np.flatnonzero(gap)
    wall, cpu = time.perf_counter(), time.process_time()
    result = REGRESSORS[method](x[train], y[train], x[test], split)
    if result is None:
        return
    seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
    mean, sd, density = result[:3]
    row = {"data": name, "kind": kind, "split": split, "method": method}
    row |= {
        "log_score": float(np.mean(density(y[test]))),
        "rmse": float(np.sqrt(np.mean((y[test] - mean) ** 2))),
        "coverage90": float(np.mean(np.abs(y[test] - mean) <= 1.6449 * sd)),
        "seconds": seconds,
        "cpu_seconds": cpu,
    }
    if len(result) > 3 and kind == "gap":
        inside = REGRESSORS[method](x[train], y[train], x[train][: len(test)], split)[3]
        row["epistemic_gap"] = float(np.sqrt(result[3]).mean())
        row["epistemic_data"] = float(np.sqrt(inside).mean())
    records.add(row | _records.circumstances())
    print(
        name,
        kind,
        split,
        method,
        f"{row['log_score']:.3f}",
        f"{row['rmse']:.3f}",
        f"{cpu:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def page(records) -> str:
    parts = []
    for kind, title in (("standard", "Standard splits"), ("gap", "Gap splits")):
        rows = [r for r in records.rows if r["kind"] == kind]
        if not rows:
            continue
        methods = [m for m in REGRESSORS if any(r["method"] == m for r in rows)]
        for measure_name, what in (
            ("log_score", "mean test log density, more is better"),
            ("rmse", "root mean square error"),
        ):
            lines = [f"**{title}: {what}**", "", f"| | {' | '.join(SETS)} |", "|---|" + "---|" * len(SETS)]
            for method in methods:
                cells = []
                for name in SETS:
                    values = records.values(measure_name, data=name, kind=kind, method=method)
                    full = {"standard": 20}.get(kind, len(values))
                    count = f" ({len(values)})" if 0 < len(values) < full else ""
                    cells.append(_records.mean_and_error(values, 2 if measure_name == "rmse" else 3) + count)
                lines.append(f"| {method} | {' | '.join(cells)} |")
            if kind == "standard" and measure_name == "log_score":
                for method, published in PUBLISHED.items():
                    lines.append(f"| {method} | {' | '.join(f'{published[name]:.2f}' for name in SETS)} |")
            parts.append("\n".join(lines) + "\n")
        if kind == "standard":
            parts.append(verdicts(records))
        else:
            parts.append(gap_verdicts(records))
    if records.rows:
        parts.append(_records.provenance(records.rows))
    return "\n".join(parts)


def verdicts(records) -> str:
    lines = []
    scores = {name: records.values("log_score", data=name, kind="standard", method="Posterion") for name in SETS}
    measured = [name for name in SETS if len(scores[name])]
    for rival, published in PUBLISHED.items():
        better = [name for name in measured if scores[name].mean() > published[name]]
        worse = [name for name in measured if name not in better]
        short = f"; not on {', '.join(worse)}" if worse else ""
        lines.append(f"- Posterion's mean is above {rival} on {len(better)} of {len(measured)}{short}")
    if any(len(scores[name]) < 20 for name in SETS):
        lines.append("- Not all of the 20 splits are measured yet: single splits differ by more than methods do.")
    return "\n".join(lines) + "\n"


def gap_verdicts(records) -> str:
    worse, ratios, total = [], [], 0
    for row in records.rows:
        if row["kind"] != "gap" or row["method"] != "Posterion":
            continue
        base = records.values(
            "log_score", data=row["data"], kind="gap", method="training mean and sd", split=row["split"]
        )
        if len(base):
            total += 1
            if row["log_score"] < base[0]:
                worse.append(f"{row['data']} {row['split']}")
        if "epistemic_gap" in row:
            ratios.append(row["epistemic_gap"] / row["epistemic_data"])
    lines = [
        f"- Worse than the training mean and sd on {len(worse)} of {total} gap splits"
        + (f": {', '.join(worse)}" if worse else "")
    ]
    if ratios:
        lines.append(
            f"- Epistemic standard deviation in the gap over that in the data: median {np.median(ratios):.2f}, "
            f"larger than one on {np.sum(np.array(ratios) > 1)} of {len(ratios)}"
        )
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")
    parser.add_argument("--sets", type=listed, default=list(SETS))
    parser.add_argument("--methods", type=lambda text: text.split(";"), default=list(REGRESSORS), help="separated by ;")
    parser.add_argument("--kinds", type=listed, default=["standard", "gap"])
    parser.add_argument("--splits", type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.splits = ["boston", "yacht"], [0]
    return options


if __name__ == "__main__":
    main()
