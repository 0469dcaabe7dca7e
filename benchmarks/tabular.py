"""Classification of nine tables: log score, Brier score, calibration and time, against boosting, forests and networks.

    python benchmarks/tabular.py                             everything; goes on where it stopped
    python benchmarks/tabular.py --methods Posterion --splits 0
    python benchmarks/tabular.py --quick                     one split of two small sets; nothing is kept
    python benchmarks/tabular.py --render                    measures nothing: the page anew from the records

Records go to benchmarks/results/tabular.jsonl, the tables into docs/benchmarks/tabular.md. Seconds mean something only
on a machine that does nothing else. The first fit of a method in a process compiles or warms up, so that time to fit is
the median over splits.
"""

import argparse
import sys
import time
from pathlib import Path

import _records
import numpy as np
from _peers import CLASSIFIERS
from scipy.stats import rankdata

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/tabular.jsonl"
PAGE = ROOT / "docs/benchmarks/tabular.md"
SETS = {
    "breast_cancer_wdbc": "breast cancer",
    "pima": "pima",
    "german_credit_categorical": "german credit",
    "digits8x8": "digits",
    "bank_additional": "bank",
    "spambase": "spambase",
    "banana": "banana",
    "letter": "letter",
    "adult": "adult",
}
LARGE = ("bank_additional", "spambase", "banana", "letter", "adult")
"""Sets of 4,000 rows or more, where calibration can be measured."""
FEWEST, BINS = 1e-12, 15


def main() -> None:
    options = _options()
    records = _records.Records(None if options.quick else options.json or RESULTS)
    if not options.render:
        for split in range(10) if options.splits is None else options.splits:
            for name in options.sets:
                data = np.load(_records.data_folder() / "tabular_classification" / f"{name}.npz")
                masks = np.unpackbits(data["test_mask_packed"], axis=1)[:, : len(data["y"])].astype(bool)
                for method in options.methods if split < len(masks) else ():
                    if not records.has(data=name, kind="standard", split=split, method=method):
                        measure(records, data, masks[split], name, split, method)
    if not options.quick and records.rows:
        _records.update_page(PAGE, page(records))
    print(page(records))


def measure(records, data, test, name, split, method) -> None:
    x, y = data["X"].astype(float), data["y"].astype(int)
    wall, cpu = time.perf_counter(), time.process_time()
    p = CLASSIFIERS[method](x[~test], y[~test], x[test], split)
    seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
    truth = y[test]
    row = {"data": name, "kind": "standard", "split": split, "method": method}
    row |= {
        "log_score": float(np.log(np.maximum(p[np.arange(len(truth)), truth], FEWEST)).mean()),
        "brier": float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(1).mean()),
        "calibration": calibration_error(p, truth),
        "accuracy": float((p.argmax(1) == truth).mean()),
        "seconds": seconds,
        "cpu_seconds": cpu,
    }
    records.add(row | _records.circumstances())
    what = f"{row['log_score']:.4f} {row['brier']:.4f} {row['calibration']:.4f}"
    print(name, split, method, what, f"{cpu:.1f} s", file=sys.stderr, flush=True)


def calibration_error(p: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error of the predicted class: equal-width bins, weighted by their rows."""
    confidence, right = p.max(1), p.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in np.unique(bins)]
    return float(np.sum(gaps) / len(truth))


def common(records, name: str, methods: list[str]) -> list[int]:
    """Splits that every method has been measured on."""
    sets = [{r["split"] for r in records.rows if r["data"] == name and r["method"] == m} for m in methods]
    return sorted(set.intersection(*sets)) if sets else []


def averaged(records, measure_name: str, methods: list[str]) -> np.ndarray:
    """Means over common splits, (methods, sets)."""
    table = np.full((len(methods), len(SETS)), np.nan)
    for j, name in enumerate(SETS):
        splits = common(records, name, methods)
        for i, method in enumerate(methods):
            found = [
                r[measure_name]
                for r in records.rows
                if r["data"] == name and r["method"] == method and r["split"] in splits
            ]
            if found:
                table[i, j] = np.mean(found)
    return table


def page(records) -> str:
    if not records.rows:
        return ""
    methods = [m for m in CLASSIFIERS if any(r["method"] == m for r in records.rows)]
    parts, ranks = [], {}
    measures = (
        ("log_score", "log score, more is better", 1, 4),
        ("brier", "Brier score, less is better", -1, 4),
        ("calibration", "expected calibration error, less is better", -1, 4),
        ("accuracy", "accuracy", 1, 4),
        ("cpu_seconds", "processor seconds to fit and predict (median over splits)", -1, 2),
    )
    counts = [len(common(records, name, methods)) for name in SETS]
    for measure_name, what, sign, decimals in measures:
        table = averaged(records, measure_name, methods)
        if measure_name == "cpu_seconds":
            for i, method in enumerate(methods):
                for j, name in enumerate(SETS):
                    found = records.values(measure_name, data=name, method=method)
                    table[i, j] = np.median(found) if len(found) else np.nan
        whole = ~np.isnan(table).any(axis=0)
        rank = np.mean([rankdata(-sign * table[:, j]) for j in np.flatnonzero(whole)], axis=0) if whole.any() else None
        ranks[measure_name] = rank
        lines = [
            f"**{what[0].upper()}{what[1:]}**",
            "",
            f"| | {' | '.join(SETS.values())} | mean rank |",
            "|---|" + "---|" * (len(SETS) + 1),
        ]
        for i, method in enumerate(methods):
            cells = ["" if np.isnan(v) else f"{v:.{decimals}f}" for v in table[i]]
            lines.append(f"| {method} | {' | '.join(cells)} | {'' if rank is None else f'{rank[i]:.2f}'} |")
        parts.append("\n".join(lines) + "\n")
    shared = ", ".join(f"{label} {count}" for label, count in zip(SETS.values(), counts, strict=True))
    parts.append(f"Splits that all methods have: {shared}.\n")
    parts.append(verdicts(records, methods))
    parts.append(_records.provenance(records.rows))
    return "\n".join(parts)


def verdicts(records, methods: list[str]) -> str:
    lines = []
    rival = "HistGradientBoosting, calibrated"
    if {"Posterion", rival} <= set(methods):
        for measure_name, sign in (("log_score", 1), ("brier", -1)):
            table = averaged(records, measure_name, ["Posterion", rival])
            better = [label for label, (a, b) in zip(SETS.values(), table.T, strict=True) if sign * a > sign * b]
            known = np.sum(~np.isnan(table[0]))
            lines.append(
                f"- {measure_name.replace('_', ' ')}: better than calibrated boosting on {len(better)} of {known} "
                f"({', '.join(better)})"
            )
        times = []
        for name in SETS:
            own, other = (records.values("cpu_seconds", data=name, method=m) for m in ("Posterion", rival))
            if len(own) and len(other):
                times.append(np.median(own) / np.median(other))
        if times:
            lines.append(
                f"- processor time over that of calibrated boosting: median set {np.median(times):.2f} (≤ 2 wanted)"
            )
    errors = {n: records.values("calibration", data=n, method="Posterion") for n in LARGE}
    said = [f"{SETS[n]} {v.mean():.4f}" for n, v in errors.items() if len(v)]
    lines.append(f"- calibration error on sets of 4,000 rows or more (below 0.02 wanted): {', '.join(said)}")
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")
    parser.add_argument("--sets", type=listed, default=list(SETS))
    parser.add_argument(
        "--methods", type=lambda text: text.split(";"), default=list(CLASSIFIERS), help="separated by ;"
    )
    parser.add_argument("--splits", type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.splits = ["breast_cancer_wdbc", "pima"], [0]
    return options


if __name__ == "__main__":
    main()
