"""Classification of nine tables: log score, Brier score, calibration and time, against boosting, forests and networks.

    python benchmarks/tabular.py                             everything; goes on where it stopped
    python benchmarks/tabular.py --methods Posterion --splits 0
    python benchmarks/tabular.py --quick                     one split of two small sets; nothing is kept
    python benchmarks/tabular.py --render                    measures nothing: the page anew from the records

Records go to benchmarks/results/tabular.jsonl, the tables into docs/benchmarks/tabular.md.
"""

import _records
import numpy as np
from _peers import CLASSIFIERS
from _study import Study, table
from scipy.stats import rankdata

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
FEWEST, BINS, SIMULATIONS = 1e-12, 15, 200


def splits(data, kind) -> int:
    return len(data["test_mask_packed"])


def measure(data, kind, split, method) -> dict | None:
    x, y = data["X"].astype(float), data["y"].astype(int)
    test = np.unpackbits(data["test_mask_packed"][split])[: len(y)].astype(bool)
    p, truth = method(x[~test], y[~test], x[test], split), y[test]
    if p is None:
        return None
    return {
        "log_score": float(np.log(np.maximum(p[np.arange(len(truth)), truth], FEWEST)).mean()),
        "brier": float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(1).mean()),
        "calibration": calibration_error(p, truth),
        "calibration_of_perfect": calibration_of_perfect(p),
        "accuracy": float((p.argmax(1) == truth).mean()),
    }


def calibration_error(p: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error of the predicted class: equal-width bins, weighted by their rows."""
    confidence, right = p.max(1), p.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in np.unique(bins)]
    return float(np.sum(gaps) / len(truth))


def calibration_of_perfect(p: np.ndarray) -> float:
    """The error that these very probabilities are expected to have if they are right: what chance alone makes of it."""
    random, p = np.random.default_rng(0), p / p.sum(1, keepdims=True)
    edges = p.cumsum(1)[:, :-1]
    drawn = [(random.random((len(p), 1)) > edges).sum(1) for _ in range(SIMULATIONS)]
    return float(np.mean([calibration_error(p, labels) for labels in drawn]))


def common(records, name: str, methods: list[str]) -> list[int]:
    """Splits that every method has been measured on which has been measured on the set at all."""
    sets = [{r["split"] for r in records.rows if r["data"] == name and r["method"] == m} for m in methods]
    return sorted(set.intersection(*found)) if (found := [s for s in sets if s]) else []


def averaged(records, measure_name: str, methods: list[str], average=np.mean) -> np.ndarray:
    """Averages over common splits, (methods, sets)."""
    means = np.full((len(methods), len(SETS)), np.nan)
    for j, name in enumerate(SETS):
        splits = common(records, name, methods)
        for i, method in enumerate(methods):
            found = [
                r[measure_name]
                for r in records.rows
                if r["data"] == name and r["method"] == method and r["split"] in splits
            ]
            if found:
                means[i, j] = average(found)
    return means


def page(records) -> str:
    if not records.rows:
        return ""
    methods = [m for m in CLASSIFIERS if m != "NUTS" and any(r["method"] == m for r in records.rows)]
    parts = []
    for figure, what, sign, decimals in (
        ("log_score", "Log score, more is better", 1, 4),
        ("brier", "Brier score, less is better", -1, 4),
        ("calibration", "Expected calibration error, less is better", -1, 4),
        ("accuracy", "Accuracy", 1, 4),
        ("cpu_seconds", "Processor seconds to fit and predict (median over splits)", -1, 2),
    ):
        means = averaged(records, figure, methods, np.median if figure == "cpu_seconds" else np.mean)
        whole = ~np.isnan(means).any(axis=0)
        ranks = np.mean([rankdata(-sign * column) for column in means[:, whole].T], axis=0) if whole.any() else None
        rows = {
            method: ["" if np.isnan(v) else f"{v:.{decimals}f}" for v in means[i]]
            + ["" if ranks is None else f"{ranks[i]:.2f}"]
            for i, method in enumerate(methods)
        }
        parts.append(table(what, [*SETS.values(), "mean rank"], rows))
    counts = [f"{label} {len(common(records, name, methods))}" for name, label in SETS.items()]
    parts.append(f"Splits in these means: {', '.join(counts)}.\n")
    parts.append(against_nuts(records))
    parts.append(verdicts(records, methods))
    parts.append(_records.provenance(records.rows))
    return "\n".join(parts)


def against_nuts(records) -> str:
    """Scores and times on the tables that NUTS can manage, and the ratio of times."""
    columns, rows = [], {"Posterion": [], "NUTS": [], "processor time over that of NUTS": []}
    for name, label in SETS.items():
        splits = common(records, name, ["Posterion", "NUTS"])
        if not splits or not len(records.values("cpu_seconds", data=name, method="NUTS")):
            continue
        columns.append(label)
        middle = {}
        for method in ("Posterion", "NUTS"):
            found = [r for r in records.rows if (r["data"], r["method"]) == (name, method) and r["split"] in splits]
            middle[method] = np.median([r["cpu_seconds"] for r in found])
            rows[method].append(f"{np.mean([r['log_score'] for r in found]):.4f} ({middle[method]:.1f} s)")
        rows["processor time over that of NUTS"].append(f"{middle['Posterion'] / middle['NUTS']:.3f}")
    if not columns:
        return ""
    ratios = sorted(float(cell) for cell in rows["processor time over that of NUTS"])
    # Tables that NUTS was not run on count as above all others: the median is no easier without them.
    middle = f"{ratios[len(SETS) // 2]:.3f}" if len(ratios) > len(SETS) // 2 else "not known"
    said = f"- processor time over that of NUTS: median set at most {middle} (≤ 0.2 wanted)\n"
    return table("Log score and processor seconds beside NUTS", columns, rows) + "\n" + said


def verdicts(records, methods: list[str]) -> str:
    lines = []
    rival = "HistGradientBoosting, calibrated"
    if {"Posterion", rival} <= set(methods):
        for measure_name, sign in (("log_score", 1), ("brier", -1)):
            pair = averaged(records, measure_name, ["Posterion", rival])
            better = [label for label, (a, b) in zip(SETS.values(), pair.T, strict=True) if sign * a > sign * b]
            known = np.sum(~np.isnan(pair).any(axis=0))
            lines.append(
                f"- {measure_name.replace('_', ' ')}: better than calibrated boosting on {len(better)} of {known} "
                f"({', '.join(better)})"
            )
    for name in (rival, "HistGradientBoosting"):
        seconds = [[records.values("cpu_seconds", data=d, method=m) for m in ("Posterion", name)] for d in SETS]
        ratios = [np.median(own) / np.median(other) for own, other in seconds if len(own) and len(other)]
        if ratios:
            lines.append(f"- processor time over that of {name}: median set {np.median(ratios):.1f} (≤ 2 wanted)")
    said = []
    for name in LARGE:
        rows = [r for r in records.rows if r["data"] == name and r["method"] == "Posterion"]
        chance = [r["calibration_of_perfect"] for r in rows if "calibration_of_perfect" in r]
        if rows:
            beside = f" ({np.mean(chance):.4f})" if chance else ""
            said.append(f"{SETS[name]} {np.mean([r['calibration'] for r in rows]):.4f}{beside}")
    lines.append(
        "- calibration error on sets of 4,000 rows or more (below 0.02 wanted), and in brackets what these very "
        f"probabilities would have on as many rows if they were right: {', '.join(said)}"
    )
    return "\n".join(lines) + "\n"


STUDY = Study(
    "tabular",
    "tabular_classification",
    tuple(SETS),
    ("breast_cancer_wdbc", "pima"),
    ("standard",),
    CLASSIFIERS,
    splits,
    measure,
    page,
)

if __name__ == "__main__":
    STUDY.main(__doc__)
