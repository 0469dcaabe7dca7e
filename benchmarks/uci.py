"""Regression on six sets of the UCI repository: log score and error on standard splits and splits with a gap.

    python benchmarks/uci.py                                 everything; goes on where it stopped
    python benchmarks/uci.py --methods Posterion --splits 0,1
    python benchmarks/uci.py --kinds gap                     the middle third of one feature left out
    python benchmarks/uci.py --quick                         one split each of two sets; nothing is kept
    python benchmarks/uci.py --render                        measures nothing: the page anew from the records

Records go to benchmarks/results/uci.jsonl, the tables into docs/benchmarks/uci.md.
"""

import _records
import numpy as np
from _peers import REGRESSORS
from _study import Study, table

SETS = ("boston", "concrete", "energy", "power", "wine", "yacht")

WHOLE = {
    "standard": dict.fromkeys(SETS, 20),
    "gap": {"boston": 13, "concrete": 8, "energy": 8, "power": 4, "wine": 11, "yacht": 6},
}
"""Splits that there are."""

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


def measure(data, kind, split, method) -> dict | None:
    x, y = data["X"], data["y"]
    if kind == "standard":
        train, test = data["train_idx"][split].astype(int), data["test_idx"][split].astype(int)
    else:
        gap = data["gap_mask"][split].astype(bool)
        train, test = np.flatnonzero(~gap), np.flatnonzero(gap)
    looked_at = test if kind == "standard" else np.concatenate([test, train])
    result = method(x[train], y[train], x[looked_at], split)
    if result is None:
        return None
    mean, sd, density = result[:3]
    away, tested = y[looked_at] - mean, slice(len(test))
    figures = {
        "log_score": float(np.mean(density(y[looked_at])[tested])),
        "rmse": float(np.sqrt(np.mean(away[tested] ** 2))),
        "coverage90": float(np.mean(np.abs(away) <= 1.6449 * sd, where=np.arange(len(away)) < len(test))),
    }
    if len(result) > 3 and kind == "gap":
        epistemic = np.sqrt(result[3])
        figures["epistemic_gap"] = float(epistemic[tested].mean())
        figures["epistemic_data"] = float(epistemic[len(test) :].mean())
    return figures


def page(records) -> str:
    parts = []
    for kind, title, said in (("standard", "Standard splits", verdicts), ("gap", "Gap splits", gap_verdicts)):
        methods = [m for m in REGRESSORS if len(records.values("split", kind=kind, method=m))]
        if not methods:
            continue
        for figure, what, decimals in (
            ("log_score", "mean test log density, more is better", 3),
            ("rmse", "root mean square error", 2),
        ):
            rows = {
                method: [cell(records, figure, name, kind, method, decimals) for name in SETS] for method in methods
            }
            if kind == "standard" and figure == "log_score":
                rows |= {method: [f"{published[name]:.2f}" for name in SETS] for method, published in PUBLISHED.items()}
            parts.append(table(f"{title}: {what}", SETS, rows))
        peers = [m for m in methods if m not in ("Posterion", "training mean and sd")]
        if kind == "standard" and peers:
            rows = {method: [lead(records, name, method) for name in SETS] for method in peers}
            parts.append(table(f"{title}: log density of Posterion less theirs, on the same splits", SETS, rows))
        parts.append(said(records))
    if records.rows:
        parts.append(_records.provenance(records.rows))
    return "\n".join(parts)


def cell(records, figure: str, name: str, kind: str, method: str, decimals: int) -> str:
    values = records.values(figure, data=name, kind=kind, method=method)
    count = f" ({len(values)})" if 0 < len(values) < WHOLE[kind][name] else ""
    return _records.mean_and_error(values, decimals) + count


def lead(records, name: str, method: str) -> str:
    """Mean difference over the splits that both have been measured on, and its standard error."""
    of = lambda method: {
        r["split"]: r["log_score"]
        for r in records.rows
        if (r["data"], r["kind"], r["method"]) == (name, "standard", method)
    }
    ours, theirs = of("Posterion"), of(method)
    differences = np.array([ours[split] - theirs[split] for split in sorted(set(ours) & set(theirs))])
    return _records.mean_and_error(differences, 3) + (f" ({len(differences)})" if 0 < len(differences) < 20 else "")


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


STUDY = Study(
    "uci",
    "uci_regression",
    SETS,
    ("boston", "yacht"),
    ("standard", "gap"),
    REGRESSORS,
    lambda data, kind: len(data["train_idx"] if kind == "standard" else data["gap_mask"]),
    measure,
    page,
)

if __name__ == "__main__":
    STUDY.main(__doc__)
