"""Decisions on the breast cancer data, over random splits: what referral leaves, and whether promises hold.

    python benchmarks/decisions.py              20 splits; JSON into benchmarks/results/decisions.json, and the page
    python benchmarks/decisions.py --learning   which labels to ask for: examples/active_learning.py, 20 repeats
    python benchmarks/decisions.py --census     `posterion fit` on the adult census: log score and calibration, 4 splits
    python benchmarks/decisions.py --fits       seconds of `posterion fit`, report included, in processes of their own
    python benchmarks/decisions.py --quick      3 splits, 2 repeats or 1 split; tests the script, writes nothing
    python benchmarks/decisions.py --render     measures nothing, writes the tables anew from the JSON

A logistic regression on all 30 inputs by Laplace's method. Each split has 285 rows to fit, 142 to calibrate and 142 to
judge. But for --fits no times are measured, so it can run beside other work. Each part keeps what the others have
written, and repeats of active learning are kept one by one: after an interruption the same command goes on with the
next, and with --anew from the first.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _records
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
PAGE = Path(__file__).parent.parent / "docs/benchmarks/decisions.md"
EXAMPLE = Path(__file__).parent.parent / "examples/active_learning.py"
REPEATS = 20
LEVEL = 0.95
CENSUS_SPLITS, SIMULATIONS = 4, 200
FIT_REPEATS = 3


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
    found = [split(seed) for seed in range(3 if quick else REPEATS)]
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
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    # The last repeat is always made: what the example's own functions say of all is wanted, too.
    repeats = [] if quick else read().get("learning", {}).get("repeats", [])[: REPEATS - 1]
    for seed in range(len(repeats), 2 if quick else REPEATS):
        os.environ["POSTERION_SEEDS"] = str(seed)
        found = runpy.run_path(str(EXAMPLE))
        plt.close("all")
        scores = {name: values[0].tolist() for name, values in found["scores"].items()}
        repeats.append({"seed": seed, "full": float(found["full"][0]), "scores": scores, "commit": _rows.commit()})
        if not quick:
            keep("learning", {"labels": found["labels"].tolist(), "repeats": repeats})
    full = np.array([one["full"] for one in repeats])
    scores = {name: np.array([one["scores"][name] for one in repeats]) for name in repeats[0]["scores"]}
    needed, ratio, interval = found["labels_saved"](full, scores)
    record = {
        "labels": found["labels"].tolist(),
        "repeats": repeats,
        "needed": needed,
        "ratio": ratio,
        "interval": interval.tolist(),
    }
    return record, [_rows.Check("labels needed, as a share of those at random", ratio, 0.6)]


def census_split(frame, seed):
    """Scores of a model of the census and of boosting on the same rows, and what chance makes of the first's."""
    from posterion.tabular.training import fit_table

    model, held = fit_table(frame, "income", random_seed=seed)
    p, random = model.estimator.predict_proba(held.features)[:, 1], np.random.default_rng(0)
    drawn = [decisions.expected_calibration_error(p, random.random(len(p)) < p) for _ in range(SIMULATIONS)]
    return {
        "seed": seed,
        "rows": len(p),
        "posterion": model.summary["scores"],
        "boosting": model.summary["baselines"]["gradient boosting"],
        "by_chance": {"mean": float(np.mean(drawn)), "one_in_twenty": float(np.quantile(drawn, 0.95))},
    }


def census(*, quick):
    """What `posterion fit` makes of the adult census: a record and its checks."""
    frame = adult()
    found = []
    for seed in range(1 if quick else CENSUS_SPLITS):
        found.append(census_split(frame.sample(2000, random_state=0) if quick else frame, seed))
        print(found[-1])
    mean = lambda who, what: np.mean([one[who][what] for one in found])
    checks = [
        _rows.Check(
            "log score of boosting less that of `posterion fit`",
            float(mean("boosting", "log_score") - mean("posterion", "log_score")),
            0.01,
        ),
        _rows.Check("calibration error of `posterion fit`", float(mean("posterion", "calibration_error")), 0.01),
    ]
    return {"splits": found}, checks


def fits(*, quick):
    """Seconds of `posterion fit` on two tables in a new process, once for the caches and then for the record."""
    found, checks = {}, []
    with tempfile.TemporaryDirectory() as folder:
        frames = {"breast_cancer": (breast_cancer(), "diagnosis", 15)}
        if not quick:
            frames["adult"] = (adult(), "income", 60)
        for name, (frame, target, most) in frames.items():
            frame.to_csv(f"{folder}/{name}.csv", index=False)
            command = [sys.executable, "-m", "posterion", "fit", f"{folder}/{name}.csv", "--target", target, "--quiet"]
            seconds = []
            for k in range(2 if quick else 1 + FIT_REPEATS):
                begin = time.perf_counter()
                subprocess.run([*command, "--seed", str(k), "--out", f"{folder}/{name}-{k}"], check=True)
                seconds.append(time.perf_counter() - begin)
            rows = f"{len(frame):,} rows x {len(frame.columns) - 1}"
            found[name] = {"rows": rows, "first": seconds[0], "seconds": seconds[1:]}
            median = float(np.median(seconds[1:]))
            checks.append(_rows.Check(f"`posterion fit` on {name}, {rows}, report included", median, most, unit=" s"))
    return {"fits": found}, checks


def breast_cancer():
    """All 30 columns, the diagnosis in words."""
    frame = load_breast_cancer(as_frame=True).frame
    return frame.assign(diagnosis=frame.pop("target").map({0: "malignant", 1: "benign"}))


def adult():
    """The table as one finds it: labels in words, and nothing where the census has a question mark."""
    import pandas as pd

    folder = _records.data_folder() / "tabular_classification"
    about = json.loads((folder / "meta.json").read_text())["adult"]
    with np.load(folder / "adult.npz") as data:
        frame = pd.DataFrame(data["X"].astype(int), columns=about["columns"])
        outcome = np.array(about["classes"])[data["y"]]
    for name, labels in about["categories"].items():
        frame[name] = pd.Series(np.array(labels, object)[frame[name]]).where(lambda label: label != "?", None)
    return frame.assign(income=outcome)


def read():
    """All parts' records, as far as there are any."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(part, record):
    """Write a part's record beside that of the other."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(read() | {part: record}, indent=1) + "\n")


def render():
    """Write the tables of what was measured into their page."""
    records = read()
    whole = [part for part in TABLES if "checks" in records.get(part, {})]
    parts = [f"{TABLES[part](records[part])}\n{measured(records[part])}" for part in whole]
    _rows.fill(PAGE, "\n".join(parts))


def referral_table(record):
    """Referral and conformal sets, as Markdown."""
    splits = record["splits"]
    mean = lambda name: np.mean([one[name] for one in splits])
    kept = {name: np.mean([one["error_of_kept"][name] for one in splits]) for name in splits[0]["error_of_kept"]}
    lines = [
        "## Referral and conformal sets",
        "",
        f"{len(splits)} random splits: 285 rows to fit, 142 to calibrate, 142 to judge.",
        "",
        "| figure, target |",
        "|---|",
        *(f"| {check} |" for check in record["checks"]),
        "",
        "| | mean over the splits |",
        "|---|---|",
        f"| error over all rows | {mean('error'):.2%} |",
        *(f"| error among the 80 % kept, referred by {WORDS[name]} | {kept[name]:.2%} |" for name in WORDS),
        f"| rows that {LEVEL:.0%} conformal sets held, of {mean('promised'):.2%} promised | {mean('covered'):.2%} |",
        f"| labels in a set | {mean('set_size'):.3f} |",
        f"| rows referred by a rule that may refer 20 % | {mean('referred'):.1%} |",
        f"| log score (nats a row) | {mean('log_score'):.4f} |",
        f"| calibration error, ten bins of equally many rows | {mean('calibration_error'):.4f} |",
    ]
    return "\n".join(lines) + "\n"


def learning_table(record):
    """Which labels to ask for, as Markdown."""
    full = np.array([one["full"] for one in record["repeats"]])
    scores = {name: np.mean([one["scores"][name] for one in record["repeats"]], axis=0) for name in record["needed"]}
    shown = [place for place, count in enumerate(record["labels"]) if count in SHOWN]
    low, high = record["interval"]
    needed = ", ".join(
        f"{count} {'at ' if name == 'random' else 'by '}{name}" for name, count in record["needed"].items()
    )
    lines = [
        "## Which labels to ask for",
        "",
        f"{len(full)} random splits: 379 rows whose labels can be asked for, 190 to judge.",
        "",
        "| figure, target |",
        "|---|",
        *(f"| {check} |" for check in record["checks"]),
        "",
        f"The 95 % interval of that share over the repeats (bootstrap) is {low:.2f} to {high:.2f}. The labels needed "
        f"until the mean log score is within 0.01 nats of that of all labels, {full.mean():.4f}: {needed}.",
        "",
        f"| log score after so many labels | {' | '.join(str(record['labels'][place]) for place in shown)} |",
        "|---|" + "---|" * len(shown),
        *(f"| {name} | {' | '.join(f'{v[place]:.3f}' for place in shown)} |" for name, v in scores.items()),
    ]
    return "\n".join(lines) + "\n"


def census_table(record):
    """The census, as Markdown."""
    splits = record["splits"]
    figures = (
        ("log_score", "log score (nats a row)"),
        ("brier", "Brier score"),
        ("calibration_error", "calibration error"),
    )
    mean = lambda who, what: np.mean([one[who][what] for one in splits])
    each = lambda who: ", ".join(f"{one[who]['calibration_error']:.4f}" for one in splits)
    chance = np.mean([one["by_chance"]["mean"] for one in splits])
    limit = np.mean([one["by_chance"]["one_in_twenty"] for one in splits])
    lines = [
        "## A census, from the command line",
        "",
        "`posterion fit` on the adult census (48,842 rows, 14 columns, labels and missing cells as they are), "
        f"{len(splits)} random splits, {splits[0]['rows']:,} rows held out in each; boosting is scikit-learn's "
        "with its defaults, on the same rows and columns.",
        "",
        "| figure, target |",
        "|---|",
        *(f"| {check} |" for check in record["checks"]),
        "",
        "| mean over the splits | `posterion fit` | boosting |",
        "|---|---|---|",
        *(f"| {word} | {mean('posterion', name):.4f} | {mean('boosting', name):.4f} |" for name, word in figures),
        f"| calibration error, split by split | {each('posterion')} | {each('boosting')} |",
        "",
        "The calibration error has ten bins of equal width. Outcomes drawn from the predicted probabilities themselves "
        f"have one of {chance:.4f} on average on as many rows, and in one of twenty drawings more than {limit:.4f}: so "
        "much is chance.",
    ]
    return "\n".join(lines) + "\n"


def fits_table(record):
    """Seconds of fits, as Markdown."""
    lines = [
        "## From a table to a report",
        "",
        "Seconds of `posterion fit`, start of the process to its end: reading the table, fitting, scoring beside the "
        "simple models, and the report. The median of those after the first, which fills the caches; each has another "
        "seed.",
        "",
        "| figure, target |",
        "|---|",
        *(f"| {check} |" for check in record["checks"]),
        "",
        *(
            f"- {name}: {', '.join(f'{span:.1f}' for span in one['seconds'])} s; the first, {one['first']:.1f} s."
            for name, one in record["fits"].items()
        ),
    ]
    return "\n".join(lines) + "\n"


def measured(record):
    """When and with what."""
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("python", "posterion", "jax", "commit"))
    return f"Measured {record['date'][:10]}; {versions}.\n"


TABLES = {"referral": referral_table, "learning": learning_table, "census": census_table, "fits": fits_table}
SHOWN = (10, 30, 50, 70, 100, 150, 200, 250)
WORDS = {
    "doubt": "doubt (one minus the largest probability)",
    "epistemic": "mutual information",
    "aleatoric": "mean entropy",
    "total": "entropy of the mean",
    "mean_std": "spread of the probability",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--learning", action="store_true")
    parser.add_argument("--census", action="store_true")
    parser.add_argument("--fits", action="store_true")
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if options.render:
        render()
        return 0
    part = next((part for part in (learning, census, fits) if getattr(options, part.__name__)), referral)
    if options.anew and not options.quick:
        keep(part.__name__, {})
    record, checks = part(quick=options.quick)
    for check in checks:
        print(check)
    if not options.quick:
        keep(part.__name__, record | {"checks": [str(check) for check in checks], **_rows.circumstances(quick=False)})
        render()
    return 0 if all(check.met for check in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
