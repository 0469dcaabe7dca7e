"""Sixteen posteriors of posteriordb by every method, ours and the peers', against their reference draws.

    python benchmarks/posteriors.py                     what has not been measured yet; each row is kept when it is done
    python benchmarks/posteriors.py --again             everything anew
    python benchmarks/posteriors.py --accuracy          without the second fit, on a busy machine: no times
    python benchmarks/posteriors.py --models arK,garch --methods advi   those whose names contain one of these
    python benchmarks/posteriors.py --quick             two models, our methods; kept nowhere
    python benchmarks/posteriors.py --render            measures nothing: the tables anew from the JSON

What is compared and how is said in docs/benchmarks/posteriors.md.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import _posterior_fits
import _posterior_tables as tables
import _posteriordb as posteriordb
import _rows
import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/posteriors.json"
PAGE = ROOT / "docs/benchmarks/posteriors.md"
QUICK = ("eight_schools", "momiq")


def main() -> int:
    options = _options()
    path = options.json or (None if options.quick else RESULTS)
    records = _rows.read(path) if path is not None else []
    if not options.render:
        records = _measure(options, path, records)
    text = tables.page(records)
    print(text)
    if not options.quick and records:
        _rows.fill(options.page or PAGE, text)
    return int(any(record.get("failed") and record["method"].startswith("posterion") for record in records))


def _measure(options: argparse.Namespace, path: Path | None, records: list[dict]) -> list[dict]:
    circumstances = _rows.circumstances(quick=options.quick)
    for model_name in _chosen(posteriordb.MODELS, options.models):
        for method, fit in _posterior_fits.fits().items():
            if not _matches(method, options.methods):
                continue
            done = [r for r in records if (r["model"], r["method"]) == (model_name, method)]
            if done and not options.again and (options.accuracy or done[0].get("seconds_warm") or done[0]["failed"]):
                continue
            begin = time.perf_counter()
            record = _row(model_name, method, fit, timed=not options.accuracy) | circumstances
            records = [r for r in records if (r["model"], r["method"]) != (model_name, method)] + [record]
            if path is not None:
                _rows.write(path, records)
            took = f"{time.perf_counter() - begin:.0f} s"
            print(f"{model_name:40s} {method:34s} {tables.one_line(record)} ({took})", file=sys.stderr, flush=True)
    return records


def _row(model_name: str, method: str, fit: _posterior_fits.Fit, *, timed: bool) -> dict:
    record: dict = {"model": model_name, "method": method, "failed": "", "seconds_warm": None}
    model = posteriordb.model(model_name)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            begin, begin_cpu = time.perf_counter(), time.process_time()
            found = fit(model, 1)
            record["cpu_seconds_first"] = time.process_time() - begin_cpu
            record["seconds_first"] = time.perf_counter() - begin
            if timed:
                begin = time.perf_counter()
                fit(model, 2)
                record["seconds_warm"] = time.perf_counter() - begin
        accuracy = posteriordb.accuracy(model_name, posteriordb.parameters(model_name, found.draws))
    except Exception as error:  # a peer that fails on a model is a result, too
        record["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return record
    return record | {
        "error": accuracy.error.round(5).tolist(),
        "ratio": accuracy.ratio.round(5).tolist(),
        "trustworthy": found.trustworthy,
        "khat": found.khat,
        "sentence": found.sentence,
        "seconds_compiling": found.seconds_compiling,
    }


def _chosen(names, parts) -> list[str]:
    return [name for name in names if _matches(name, parts)]


def _matches(name: str, parts: list[str]) -> bool:
    return not parts or any(part in name for part in parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/posteriors.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = lambda text: [part.strip() for part in text.split(",") if part.strip()]
    parser.add_argument("--models", type=parts, default=[], help="parts of models' names")
    parser.add_argument("--methods", type=parts, default=[], help="parts of methods' names")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    parser.add_argument("--accuracy", action="store_true", help="one fit each, no times")
    parser.add_argument("--quick", action="store_true", help="two models and our methods, to test the script")
    parser.add_argument("--json", type=Path, help=f"where the rows go ({RESULTS.relative_to(ROOT)}; none if quick)")
    parser.add_argument("--page", type=Path, help=f"the page to fill in ({PAGE.relative_to(ROOT)}; none if quick)")
    parser.add_argument("--render", action="store_true", help="only write the tables anew")
    options = parser.parse_args()
    if options.quick:
        options.models, options.accuracy = options.models or list(QUICK), True
        options.methods = options.methods or ["posterion advi", "pm.fit advi", "AutoMultivariateNormal"]
    return options


if __name__ == "__main__":
    sys.exit(main())
