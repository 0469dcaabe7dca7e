"""Sixteen posteriors of posteriordb by every method, ours and the peers', against their reference draws.

    python benchmarks/posteriors.py                     everything that has not been measured yet
    python benchmarks/posteriors.py --accuracy          one fit each: errors and verdicts, on however busy a machine
    python benchmarks/posteriors.py --bounds            the best mean-field ELBO of each model, by long runs; likewise
    python benchmarks/posteriors.py --times --minutes 30   on a quiet machine: seconds, and what accuracies are missing
    python benchmarks/posteriors.py --estimate          how long what is left will take; measures nothing
    python benchmarks/posteriors.py --models arK,garch --methods advi   those whose names contain one of these
    python benchmarks/posteriors.py --again             what was measured before, too
    python benchmarks/posteriors.py --quick             two models, three methods; kept nowhere
    python benchmarks/posteriors.py --render            measures nothing: the tables anew from the JSON

Every row is kept when it is done, so that a run can be broken off and gone on with; the page is written after each
model. What is compared and how is said in docs/benchmarks/posteriors.md.
"""

import argparse
import functools
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
_SMALLEST = "kidiq-kidscore_momiq"
QUICK = {"models": ("eight_schools", "momiq"), "methods": ("posterion advi", "pm.fit advi", "AutoMultivariateNormal")}
_WARM = 1.2
"""Of the processor seconds of a fit by us in a new process, what a first and a second call take together."""
_REPEATS, _LONG = 5, 10.0
"""Fits whose median time is taken, and seconds after which none is added: short fits vary by a third."""
_GUESSES = {"pymc-extras fit_dadvi": 80.0, "pymc-extras fit_pathfinder": 70.0, "pymc-extras fit_laplace": 30.0}
"""Seconds that a first fit may take where nothing is known of it; ten for all others."""


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
        """One fit of every pair that has none, method by method."""
        for method in self.methods:
            for model_name in self.models:
                if self.known(model_name, method) and not self.options.again:
                    continue
                self.keep(self._accuracy(model_name, method))
                cpu = self.records[-1]["cpu_seconds"] or float("nan")
                self._say(model_name, method, f"{tables.one_line(self.records[-1])} ({cpu:.0f} s of processor)")
            self.page()

    def _accuracy(self, model_name: str, method: str, *, timed: bool = False) -> dict:
        record: dict = {"model": model_name, "method": method, "failed": "", "seconds": None, "cpu_seconds": None}
        model = self._model(model_name)
        try:
            with _quiet(), limited(self.options.limit):
                begin, begin_wall = time.process_time(), time.perf_counter()
                found = ways.fits()[method](model, 1)
                record["cpu_seconds"] = round(time.process_time() - begin, 2)
                if timed:
                    record |= {
                        "seconds": round(time.perf_counter() - begin_wall, 4),
                        "timed": self.circumstances,
                    }
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
        """Estimated seconds, model and method of the fits that have no time yet, in order of worth.

        First what the targets ask: ours that pick themselves, and the peers that are accurate enough to be compared
        with; then the peers of which nothing is known; then our other methods; then the peers that are not accurate.
        Of each kind but the first the quickest come first.
        """
        pairs = []
        for method in self.methods:
            ours = ways.is_ours(method)
            for order, model in enumerate(self.models):
                record = self.known(model, method)
                estimate = _GUESSES.get(method, 10.0)
                worth = 1.5 if ours else 1.0
                if record is not None:
                    if record["failed"] or (record["seconds"] is not None and not self.options.again):
                        continue
                    estimate = record["cpu_seconds"] * (_WARM if ours else 1.0)
                    compared = tables.is_accurate(record) and not ours
                    worth = 0.0 if compared or method in (ways.AUTOMATIC, ways.DEFAULT) else 2.0 if ours else 3.0
                pairs.append((worth, order if worth == 0 else estimate, estimate, model, method))
        return [(estimate, model, method) for _, _, estimate, model, method in sorted(pairs)]

    def measure_times(self) -> None:
        """Times, and accuracies where there are none, as many as fit into the time that is left."""
        for estimate, model_name, method in self.left():
            if time.perf_counter() + estimate > self.end:
                continue
            record = self.known(model_name, method)
            try:
                if record is None and not ways.is_ours(method):  # its first fit is as long as any other
                    self._warm_up(method)
                    record = self._accuracy(model_name, method, timed=True)
                else:
                    record = record or self._accuracy(model_name, method)
                    with _quiet(), limited(self.options.limit):
                        record |= {"seconds": self._seconds(model_name, method), "timed": self.circumstances}
            except Exception as error:  # it went well before; what is known stays known
                self._say(model_name, method, f"not timed: {type(error).__name__}: {error}")
                continue
            self.keep(record)
            seconds = "" if record["seconds"] is None else f"{record['seconds']:.2f} s; "
            self._say(model_name, method, f"{seconds}{tables.one_line(record)}")
            self.page()

    def _warm_up(self, method: str) -> None:
        """The first call of a package in a process loads and compiles what all later ones share."""
        if method not in self._used:
            self._used.add(method)
            with _quiet(), limited(self.options.limit):
                ways.fits()[method](self._model(_SMALLEST), 2)

    @functools.cache  # noqa: B019 - there is one run
    def _model(self, name: str) -> object:
        return posteriordb.model(name)

    def _seconds(self, model_name: str, method: str) -> float:
        """Of a fit and its draws, warm as far as the package keeps anything from one call to the next."""
        fit, model = ways.fits()[method], self._model(model_name)
        if ways.is_ours(method):
            fit(model, 2)
        else:  # they compile anew in every call
            self._warm_up(method)
        spans: list[float] = []
        while len(spans) < _REPEATS and sum(spans) < _LONG:
            begin = time.perf_counter()
            fit(model, 3 + len(spans))
            spans.append(time.perf_counter() - begin)
        return round(float(np.median(spans)), 4)

    def estimate(self) -> str:
        """How long the times that are missing will take."""
        left = self.left()
        unknown = sum(self.known(model, method) is None for _, model, method in left)
        minutes = sum(estimate for estimate, *_ in left) / 60
        return (
            f"{len(left)} fits to be timed, about {minutes:.0f} minutes of processor; of {unknown} of them nothing "
            "is known yet, and their time is a guess"
        )

    def _say(self, model: str, method: str, text: str) -> None:
        left = f"{max(0.0, self.end - time.perf_counter()) / 60:.0f} min left" if self.end < float("inf") else ""
        print(f"{model:40s} {method:34s} {text} {left}", file=sys.stderr, flush=True)


def main() -> int:
    options = _options()
    run = Run(options, options.json or (None if options.quick else RESULTS))
    everything = not (options.accuracy or options.bounds or options.times or options.render or options.estimate)
    try:
        if options.accuracy or (everything and not options.quick):
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
