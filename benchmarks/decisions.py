"""Decisions on the breast cancer data, over random splits: what referral leaves, and whether promises hold.

    python benchmarks/decisions.py              20 splits; JSON into benchmarks/results/decisions.json
    python benchmarks/decisions.py --learning   which labels to ask for: examples/active_learning.py, 20 repeats
    python benchmarks/decisions.py --quick      3 splits; tests the script, writes nothing

A logistic regression on all 30 inputs by Laplace's method. Each split has 285 rows to fit, 142 to calibrate and 142 to
judge. No times are measured, so it can run beside other work. Each of the two parts keeps what the other has written.
"""

import argparse
import json
import os
import runpy
from pathlib import Path

import _rows
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import posterion as po
from posterion import decisions

RESULTS = Path(__file__).parent / "results/decisions.json"
EXAMPLE = Path(__file__).parent.parent / "examples/active_learning.py"
LEVEL = 0.95


def logit(params, rows):
    return params["level"] + rows["x"] @ params["slopes"]


def model(x, y):
    return po.log_density(
        initial={"level": 0.0, "slopes": np.zeros(x.shape[1])},
        data={"x": x, "y": y},
        log_prior=lambda p: jnp.sum(stats.norm.logpdf(p["slopes"], 0, 0.7)) + stats.norm.logpdf(p["level"], 0, 2),
        log_likelihood=lambda params, rows: -jax.nn.softplus((1 - 2 * rows["y"]) * logit(params, rows)),
        predict_mean=lambda params, rows: jax.nn.sigmoid(logit(params, rows)),
        kind="binary",
        name="out",
    )


def split(seed):
    """Errors of all and of the 80 % kept, by each uncertainty; coverage of conformal sets; the promised referral."""
    X, Y = load_breast_cancer(return_X_y=True)
    Y = 1.0 - Y
    x, rest, y, others = train_test_split(X, Y, test_size=0.5, random_state=seed, stratify=Y)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    held, new, y_held, y_new = train_test_split((rest - centre) / spread, others, test_size=0.5, random_state=seed)
    approx = po.fit(model((x - centre) / spread, y), "laplace", progress=False, random_seed=seed)
    before, after = approx.predict({"x": held}), approx.predict({"x": new})
    p_held, p = before.mean["out"], after.mean["out"]
    wrong = (p >= 0.5) != y_new
    kinds = decisions.uncertainties(after)
    curve = decisions.referral_curve(wrong.astype(float), kinds)
    kept = curve.sel(referred=0.2, method="nearest")
    sets = decisions.fit_conformal_sets(p_held, y_held, level=LEVEL)(p)
    rule = decisions.fit_referral(decisions.uncertainties(before)["doubt"], rate=0.2)
    return {
        "error": float(wrong.mean()),
        "error_of_kept": {name: float(kept.loss.sel(uncertainty=name)) for name in kinds},
        "covered": float(sets[np.arange(len(p)), y_new.astype(int)].mean()),
        "promised": float(np.ceil((len(p_held) + 1) * LEVEL) / (len(p_held) + 1)),
        "set_size": float(sets.sum(axis=1).mean()),
        "referred": float(rule(kinds["doubt"]).mean()),
        "log_score": decisions.log_score(p, y_new),
        "calibration_error": decisions.expected_calibration_error(p, y_new, binning="equal_mass"),
    }


def referral(*, quick):
    """What referral leaves and what conformal sets cover: a record and its checks."""
    found = [split(seed) for seed in range(3 if quick else 20)]
    column = lambda name: np.array([one[name] for one in found])
    error = column("error").mean()
    kept = {name: np.mean([one["error_of_kept"][name] for one in found]) for name in found[0]["error_of_kept"]}
    covered = column("covered")
    missed = abs(covered.mean() - column("promised").mean()) / (covered.std(ddof=1) / np.sqrt(len(found)))
    checks = [
        _rows.Check("error among the 80 % kept, as a share of the error over all", kept["doubt"] / error, 0.5),
        _rows.Check("conformal coverage, standard errors from what is promised", float(missed), 3.0),
        _rows.Check("rows referred where 20 % may be", column("referred").mean() - 0.2, 0.02),
    ]
    print(f"{len(found)} splits: error {error:.4f}, log score {column('log_score').mean():.4f}")
    print("error among the 80 % kept: " + ", ".join(f"{name} {value:.4f}" for name, value in kept.items()))
    print(f"sets of {LEVEL:.0%}: covered {covered.mean():.4f}, {column('set_size').mean():.3f} labels on average")
    return {"splits": found}, checks


def learning(*, quick):
    """The labels needed if they are asked for, and at random: a record and its checks."""
    import matplotlib

    matplotlib.use("Agg")
    os.environ["POSTERION_REPEATS"] = "2" if quick else "20"
    found = runpy.run_path(str(EXAMPLE))
    needed = {name: int(count) for name, count in found["needed"].items()}
    asked = next(name for name in needed if name != "random")
    record = {
        "labels": found["labels"].tolist(),
        "full": found["full"].tolist(),
        "scores": {name: values.tolist() for name, values in found["scores"].items()},
        "needed": needed,
        "ratio": needed[asked] / needed["random"],
        "interval": [float(found["low"]), float(found["high"])],
    }
    return record, [_rows.Check("labels needed, as a share of those at random", record["ratio"], 0.6)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--learning", action="store_true")
    options = parser.parse_args()
    part = learning if options.learning else referral
    record, checks = part(quick=options.quick)
    for check in checks:
        print(check)
    if not options.quick:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept[part.__name__] = record | {
            "checks": [str(check) for check in checks],
            **_rows.circumstances(quick=False),
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if all(check.met for check in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
