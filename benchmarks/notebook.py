"""The figures of the notebook's model: PyMC, NumPyro and Posterion side by side, as one table.

    python benchmarks/notebook.py                   all rows; JSON into benchmarks/results, table into the documentation
    python benchmarks/notebook.py --rows 1,3        some rows; the others keep what was measured before
    python benchmarks/notebook.py --quick           tests the script in a few minutes; its figures mean nothing
    python benchmarks/notebook.py --render          measures nothing: the table anew from the JSON

What each row measures and how is said in docs/benchmarks/notebook.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import _fit_rows
import _prediction_rows
import _process_rows
import _rows
from _session import QUICK, Session, Size

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/notebook.json"
PAGE = ROOT / "docs/benchmarks/notebook.md"

MEASURES: dict[int, Callable[[Session], list[_rows.Row]]] = {
    1: _fit_rows.step,
    2: _fit_rows.reach,
    3: _fit_rows.stop,
    4: _process_rows.first_fit,
    5: _fit_rows.minibatch,
    6: _prediction_rows.surface,
    7: _process_rows.demo,
    8: _process_rows.start,
    9: _prediction_rows.splits,
}


def main() -> int:
    options = _options()
    if options.render:
        records = _rows.read(options.json or RESULTS)
        _rows.update_page(options.page or PAGE, records)
        print(_rows.table(records), _rows.provenance(records), sep="\n\n")
        return 0
    circumstances = _rows.circumstances(quick=options.quick)
    session, failed = Session(QUICK if options.quick else Size()), 0
    path = options.json or (None if options.quick else RESULTS)
    records = [] if path is None else [r for r in _rows.read(path) if r["quick"] == options.quick]
    for number in options.rows:
        begin = time.perf_counter()
        try:
            rows = MEASURES[number](session)
        except Exception as error:  # the other rows are worth having
            failed += 1
            print(f"row {number} failed: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        records = _rows.merge(records, [row.as_record(circumstances) for row in rows])
        if path is not None:  # at once: a run that is cut off keeps what it has measured
            _rows.write(path, records)
        if not options.quick:
            _rows.update_page(options.page or PAGE, records)
        print(f"row {number} took {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    print(_rows.table(records), _rows.provenance(records), sep="\n\n")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/notebook.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = lambda text: sorted({_row(part) for part in text.split(",")})
    parser.add_argument("--rows", type=numbers, default=list(MEASURES), help="row numbers, such as 1,3")
    parser.add_argument("--quick", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--json", type=Path, help=f"where the rows go ({RESULTS.relative_to(ROOT)}; none if quick)")
    parser.add_argument("--page", type=Path, help=f"the page to fill in ({PAGE.relative_to(ROOT)}; none if quick)")
    parser.add_argument("--render", action="store_true", help="only write the table anew")
    return parser.parse_args()


def _row(text: str) -> int:
    if text.strip().isdigit() and int(text) in MEASURES:
        return int(text)
    raise argparse.ArgumentTypeError(f"there is no row {text!r}; rows are {', '.join(map(str, MEASURES))}")


if __name__ == "__main__":
    sys.exit(main())
