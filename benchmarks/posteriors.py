"""Sixteen posteriors of posteriordb by every method, ours and the peers', against their reference draws.

    python benchmarks/posteriors.py                     everything that has not been measured yet
    python benchmarks/posteriors.py --accuracy          one fit each: errors and verdicts, on however busy a machine
    python benchmarks/posteriors.py --bounds            the best mean-field ELBO of each model, by long runs; likewise
    python benchmarks/posteriors.py --times --minutes 30   on a quiet machine: seconds of fits whose accuracy is known
    python benchmarks/posteriors.py --estimate          how long what is left will take; measures nothing
    python benchmarks/posteriors.py --models arK,garch --methods advi   those whose names contain one of these
    python benchmarks/posteriors.py --again             what was measured before, too
    python benchmarks/posteriors.py --quick             two models, three methods; kept nowhere
    python benchmarks/posteriors.py --render            measures nothing: the tables anew from the JSON

Every row is kept when it is done, so that a run can be broken off and gone on with; the page is written after each
model. What is compared and how is said in docs/benchmarks/posteriors.md.
"""

import argparse
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import _posterior_bounds as bounds
import _posterior_fits as ways
import _posterior_tables as tables
import _posteriordb as posteriordb
import _rows
import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/posteriors.json"
PAGE = ROOT / "docs/benchmarks/posteriors.md"
QUICK = {"models": ("eight_schools", "momiq"), "methods": ("posterion advi", "pm.fit advi", "AutoMultivariateNormal")}
_RECOMPILES = 1.0
"""Of a first fit's processor seconds, what the second call of a package that compiles anew in every call takes."""
_WARM = 1.2
"""The same for the two calls, first and second, that a warm time of ours takes in a new process."""


class OverLimit(Exception):
    """A fit took more processor time than it is given."""


class Run:
    """Records and where they are kept, and the time that is left."""

    def __init__(self, options: argparse.Namespace, path: Path | None) -> None:
        self.options, self.path = options, path
        self.records: list[dict] = _rows.read(path) if path is not None else []
        self.circumstances = _rows.circumstances(quick=options.quick)
        self.end = time.perf_counter() + 60 * options.minutes
        self._used: set[str] = set()

    # ---- what there is
    def known(self, model: str, method: str) -> dict | None:
        """The record of a pair."""
        return next((r for r in self.records if (r["model"], r["method"]) == (model, method)), None)

    def keep(self, record: dict) -> None:
        """Put a record in the place of the one of the same pair."""
        pair = (record["model"], record["method"])
        self.records = [r for r in self.records if (r["model"], r["method"]) != pair] + [record]
        if self.path is not None:
            _rows.write(self.path, self.records)

    def page(self) -> str:
        """The tables of what there is, on the terminal and in the page."""
        text = tables.page(self.records)
        if self.records and not self.options.quick:
            _rows.fill(self.options.page or PAGE, text)
        return text

    @property
    def models(self) -> list[str]:
        return [name for name in posteriordb.MODELS if _matches(name, self.options.models)]

    @property
    def methods(self) -> list[str]:
        return [name for name in ways.fits() if _matches(name, self.options.methods)]

    # ---- accuracy
    def measure_accuracy(self) -> None:
        """One fit of every pair that has none."""
        for model_name in self.models:
            model = posteriordb.model(model_name)
            for method in self.methods:
                if self.known(model_name, method) and not self.options.again:
                    continue
                begin = time.process_time()
                self.keep(self._accuracy(model_name, model, method))
                line = tables.one_line(self.records[-1])
                self._say(model_name, method, f"{line} ({time.process_time() - begin:.0f} s of processor)")
            self.page()

    def _accuracy(self, model_name: str, model: object, method: str) -> dict:
        record: dict = {"model": model_name, "method": method, "failed": "", "seconds": None, "cpu_seconds": None}
        try:
            with _quiet(), limited(self.options.limit):
                begin = time.process_time()
                found = ways.fits()[method](model, 1)
                record["cpu_seconds"] = round(time.process_time() - begin, 2)
                accuracy = posteriordb.accuracy(model_name, posteriordb.parameters(model_name, found.draws))
                record |= {"error": accuracy.error.round(5).tolist(), "ratio": accuracy.ratio.round(5).tolist()}
                record |= found.judged()
        except OverLimit:
            record["failed"] = f"took more than {self.options.limit:g} s of processor time"
        except Exception as error:  # a peer that fails on a model is a result, too
            record["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return record | self.circumstances

    # ---- bounds
    def measure_bounds(self) -> None:
        """The best mean-field ELBO of every model that has none, and how far the default fit is from it."""
        for model_name in self.models:
            if self.known(model_name, bounds.NAME) and not self.options.again:
                continue
            with _quiet():
                found = bounds.gap(posteriordb.model(model_name))
            self.keep({"model": model_name, "method": bounds.NAME, **found, **self.circumstances})
            self._say(model_name, bounds.NAME, bounds.one_line(found))
        self.page()

    # ---- times
    def left(self) -> list[tuple[float, str, str]]:
        """Estimated seconds, model and method of the fits that have an accuracy and no time, in order of worth.

        First what the targets ask: ours that pick themselves, and the peers that are accurate enough to be compared
        with; then our other methods; then the peers that are not, the quickest first.
        """
        pairs = []
        for record in self.records:
            model, method = record["model"], record["method"]
            if model not in self.models or method not in self.methods or record["failed"]:
                continue
            if record["seconds"] is not None and not self.options.again:
                continue
            ours = ways.is_ours(method)
            compared = tables.is_accurate(record) and not ours
            worth = 0 if compared or method in (ways.AUTOMATIC, ways.DEFAULT) else 1 if ours else 2
            estimate = record["cpu_seconds"] * (_WARM if ours else _RECOMPILES)
            pairs.append((worth, self.models.index(model) if worth < 2 else estimate, estimate, model, method))
        return [(estimate, model, method) for _, _, estimate, model, method in sorted(pairs)]

    def measure_times(self) -> None:
        """Seconds of fits whose accuracy is known, as many as the time that is left allows."""
        built: dict[str, object] = {}
        for estimate, model_name, method in self.left():
            if time.perf_counter() + estimate > self.end:
                continue
            model = built.setdefault(model_name, posteriordb.model(model_name))
            record = self.known(model_name, method)
            assert record is not None  # it is left to be timed
            try:
                with _quiet(), limited(self.options.limit):
                    seconds = self._seconds(model, method)
            except Exception as error:  # it went well before; what is known stays known
                self._say(model_name, method, f"not timed: {type(error).__name__}: {error}")
                continue
            self.keep(record | {"seconds": round(seconds, 4), "timed": self.circumstances})
            self._say(model_name, method, f"{seconds:.2f} s")
            self.page()

    def _seconds(self, model: object, method: str) -> float:
        """Of a fit and its draws, warm as far as the package keeps anything from one call to the next."""
        fit = ways.fits()[method]
        if ways.is_ours(method) or method not in self._used:  # the peers compile anew in every call
            fit(model, 2)
            self._used.add(method)
        begin = time.perf_counter()
        fit(model, 3)
        return time.perf_counter() - begin

    def estimate(self) -> str:
        """How long the times that are missing will take."""
        left, missing = self.left(), sum(not self.known(m, w) for m in self.models for w in self.methods)
        unknown = f"; {missing} fits have no accuracy yet and are not among them" if missing else ""
        return f"{len(left)} fits to be timed, about {sum(estimate for estimate, *_ in left) / 60:.0f} minutes{unknown}"

    def _say(self, model: str, method: str, text: str) -> None:
        left = f"{max(0.0, self.end - time.perf_counter()) / 60:.0f} min left" if self.end < float("inf") else ""
        print(f"{model:40s} {method:34s} {text} {left}", file=sys.stderr, flush=True)


def main() -> int:
    options = _options()
    run = Run(options, options.json or (None if options.quick else RESULTS))
    everything = not (options.accuracy or options.bounds or options.times or options.render or options.estimate)
    try:
        if options.accuracy or everything:
            run.measure_accuracy()
        if options.bounds or (everything and not options.quick):
            run.measure_bounds()
        if options.estimate or options.times or everything:
            print(run.estimate(), file=sys.stderr, flush=True)
        if options.times or everything:
            run.measure_times()
    finally:
        print(run.page())
    return int(any(record.get("failed") and ways.is_ours(record["method"]) for record in run.records))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Within, `OverLimit` is raised after so many seconds of processor time of this process, all threads together."""

    def over(*_: object) -> None:
        raise OverLimit

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _matches(name: str, parts: list[str]) -> bool:
    return not parts or any(part in name for part in parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/posteriors.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = lambda text: [part.strip() for part in text.split(",") if part.strip()]
    parser.add_argument("--models", type=parts, default=[], help="parts of models' names")
    parser.add_argument("--methods", type=parts, default=[], help="parts of methods' names")
    parser.add_argument("--accuracy", action="store_true", help="one fit each, no times")
    parser.add_argument("--bounds", action="store_true", help="the best mean-field ELBOs")
    parser.add_argument("--times", action="store_true", help="times of fits whose accuracy is known")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing that would end later")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of processor time that a fit may take")
    parser.add_argument("--estimate", action="store_true", help="how long the times that are missing will take")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    parser.add_argument("--quick", action="store_true", help="two models and three methods, to test the script")
    parser.add_argument("--json", type=Path, help=f"where the rows go ({RESULTS.relative_to(ROOT)}; none if quick)")
    parser.add_argument("--page", type=Path, help=f"the page to fill in ({PAGE.relative_to(ROOT)}; none if quick)")
    parser.add_argument("--render", action="store_true", help="only write the tables anew")
    options = parser.parse_args()
    if options.quick:
        options.models = options.models or list(QUICK["models"])
        options.methods = options.methods or list(QUICK["methods"])
    return options


if __name__ == "__main__":
    sys.exit(main())
