"""The tables of benchmarks/posteriors.py: targets, one line per method, one line per model."""

from collections.abc import Iterable, Sequence

import _posterior_bounds as bounds
import _posterior_fits as ways
import _rows
import numpy as np

SILENT = 0.3
"""A mean further off than so many posterior standard deviations must be flagged by the verdict."""
GOOD = 0.03
"""Median error in posterior standard deviations that counts as accurate."""
SPREAD = 1.2
"""A spread off by a larger factor must be flagged as well."""
NARROW, WIDE = 0.95, 1.05
"""Ratios of a standard deviation to the reference's that count as right."""


def one_line(record: dict) -> str:
    """For the terminal."""
    if record["failed"]:
        return f"FAILED: {record['failed']}"
    error, ratio = np.array(record["error"]), np.array(record["ratio"])
    said = {True: "trusted", False: "flagged", None: ""}[record.get("trustworthy")]
    return f"error {np.median(error):.3f}, worst {error.max():.3f}; sd {ratio.min():.2f} to {ratio.max():.2f}; {said}"


def page(records: Sequence[dict]) -> str:
    """Targets, methods, models and provenance in Markdown."""
    if not records:
        return "Not measured yet: `python benchmarks/posteriors.py` fills this in.\n"
    fits = [record for record in records if record["method"] != bounds.NAME]
    parts = ["### Targets\n", _targets(fits, [r for r in records if r["method"] == bounds.NAME])]
    parts += ["### By method\n", _by_method(fits), "### Time to a median error below 0.03\n", _times(fits)]
    return "\n".join([*parts, "### By model\n", _by_model(fits), "", _provenance(records)])


def is_silent_failure(record: dict) -> bool:
    """A mean is far off and the verdict says that all is well."""
    return bool(record.get("trustworthy")) and max(record["error"]) > SILENT


def is_silent_spread(record: dict) -> bool:
    """A spread is far off and the verdict says that all is well."""
    return bool(record.get("trustworthy")) and not 1 / SPREAD <= min(record["ratio"]) <= max(record["ratio"]) <= SPREAD


def is_accurate(record: dict) -> bool:
    """Whether the median error of the model's means is small."""
    return not record["failed"] and float(np.median(record["error"])) < GOOD


def _by(records: Iterable[dict], key: str) -> dict[str, list[dict]]:
    """In the order of `ways.fits` and of the models."""
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record[key], []).append(record)
    order = list(ways.fits()) if key == "method" else sorted(groups)
    return {name: groups[name] for name in order if name in groups}


def _figures(records: Sequence[dict]) -> dict:
    done = [record for record in records if not record["failed"]]
    errors = np.concatenate([record["error"] for record in done]) if done else np.array([np.nan])
    ratios = np.concatenate([record["ratio"] for record in done]) if done else np.array([np.nan])
    errors = np.where(np.isnan(errors) & bool(done), np.inf, errors)  # draws that are no numbers are as wrong as can be
    timed = [record["seconds"] for record in done if record["seconds"] is not None]
    return {
        "done": len(done),
        "tried": len(records),
        "median": float(np.median(errors)),
        "worst": float(np.max(errors)),
        "within": float(np.mean((ratios >= NARROW) & (ratios <= WIDE))),
        "timed": len(timed),
        "seconds": float(np.exp(np.mean(np.log(timed)))) if timed else float("nan"),
        "accurate": sum(is_accurate(record) for record in done),
    }


# ---- targets
def _targets(fits: Sequence[dict], found_bounds: Sequence[dict]) -> str:
    methods = {name: _figures(group) for name, group in _by(fits, "method").items()}
    ours = [record for record in fits if ways.is_ours(record["method"]) and not record["failed"]]
    lines: list[str] = []
    if (default := methods.get(ways.DEFAULT)) is not None:
        check = _rows.Check("models the default fit finishes", default["done"], default["tried"], at_least=True)
        lines.append(f"- {check}")
    silent = [record for record in ours if is_silent_failure(record)]
    lines.append(f"- {_rows.Check(f'silent failures in {len(ours)} fits by our methods', len(silent), 0)}")
    lines += [f"    - silent: {record['method']} on {record['model']}" for record in silent]
    spreads = [record for record in ours if is_silent_spread(record)]
    lines.append(f"- {_rows.Check('of them with an sd that is off by more than 20 %, and trusted', len(spreads), 0)}")
    lines += [f"    - {record['method']} on {record['model']}" for record in spreads]
    if (automatic := methods.get(ways.AUTOMATIC)) is not None:
        lines.append(f"- {_rows.Check('median error in posterior sds, method auto,', automatic['median'], GOOD)}")
        within = _rows.Check("of its sds within 0.95 to 1.05", automatic["within"], 0.9, at_least=True)
        lines += [f"- {within}", *_against_peers(methods)]
        ratios, without = _ratios(fits)
        if ratios:
            mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
            than = f"the fastest peer that is as accurate, geometric mean over {len(ratios)} models,"
            lines.append(f"- {_rows.times_faster(than, mean, 10)}")
        if without:
            lines.append(f"    - no peer is as accurate on {', '.join(without)}")
    lines += _linear_response(fits)
    if found_bounds:
        gaps = {record["model"]: record["gap"] for record in found_bounds}
        over = f"of the default fit to the best mean-field ELBO, nats, over {len(gaps)} models"
        worst = max(gaps, key=lambda name: gaps[name])
        lines.append(f"- {_rows.Check(f'median gap {over},', float(np.median(list(gaps.values()))), 0.3, decimals=3)}")
        lines.append(f"- {_rows.Check(f'worst gap ({worst})', gaps[worst], 0.6, decimals=3)}")
    return "\n".join(lines) + "\n"


def _against_peers(methods: dict[str, dict]) -> list[str]:
    """Which peers are as accurate over all models, and not slower; nothing as long as some are not measured."""
    automatic = methods[ways.AUTOMATIC]
    peers = {name: figures for name, figures in methods.items() if not ways.is_ours(name)}
    if len(peers) < _num_peers() or any(figures["tried"] < automatic["tried"] for figures in peers.values()):
        return []
    better = [name for name, f in peers.items() if f["done"] == f["tried"] and f["median"] <= automatic["median"]]
    faster = [name for name in better if not peers[name]["seconds"] > automatic["seconds"]]
    what = f"peers, of {len(peers)}, that are as accurate over all parameters and as fast:"
    check = _rows.Check(what, len(faster), 0)
    return [f"- {check}" + (f" ({', '.join(better)} as accurate)" if better else "")]


def _num_peers() -> int:
    return sum(not ways.is_ours(name) for name in ways.fits())


def _ratios(fits: Sequence[dict]) -> tuple[dict[str, float], list[str]]:
    """By model, seconds of the fastest peer that is accurate over those of auto; and the models where there is none."""
    ratios, without = {}, []
    for model, group in _by(fits, "model").items():
        mine = next((record for record in group if record["method"] == ways.AUTOMATIC), None)
        peers = [record for record in group if not ways.is_ours(record["method"])]
        reach = [record for record in peers if is_accurate(record)]
        if mine is None or not is_accurate(mine) or not peers:
            continue
        if not reach:
            if len(peers) == _num_peers():  # else it is not known yet
                without.append(model)
        elif mine["seconds"] is not None and all(record["seconds"] is not None for record in reach):
            ratios[model] = min(record["seconds"] for record in reach) / mine["seconds"]
    return ratios, without


def _linear_response(fits: Sequence[dict]) -> list[str]:
    lines: list[str] = []
    for method, what in (
        (ways.RESPONSE, "linear response, corrected by importance where k-hat allows,"),
        (ways.UNCORRECTED, "linear response by itself"),
    ):
        right, off, wrong = 0, 0, {}
        for model, group in _by([r for r in fits if not r["failed"]], "model").items():
            by = {record["method"]: record for record in group}
            if not {method, ways.INDEPENDENT} <= set(by):
                continue
            independent, ratio = np.array(by[ways.INDEPENDENT]["ratio"]), np.array(by[method]["ratio"])
            needed = (independent < NARROW) | (independent > WIDE)
            missed = int(np.sum(needed & ~((ratio >= NARROW) & (ratio <= WIDE))))
            off, right = off + int(needed.sum()), right + int(needed.sum()) - missed
            if missed:
                wrong[model] = f"{missed} of them on {model}{', flagged' if not by[method]['trustworthy'] else ''}"
        if off:
            text = f"{what} within 5 % for {right} of the {off} sds by which mean-field is off by more: share"
            lines += [f"- {_rows.Check(text, right / off, 1.0, at_least=True)}"]
            lines += [f"    - {line}" for line in wrong.values()]
    return lines


# ---- tables
def _by_method(fits: Sequence[dict]) -> str:
    lines = [
        "| method | models | median error | worst error | sds within 5 % | models with median < 0.03 | "
        "trusted / flagged / silent | seconds, warm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in _by(fits, "method").items():
        f = _figures(group)
        done = [record for record in group if not record["failed"]]
        verdicts = ""
        if any(record.get("trustworthy") is not None for record in done):
            trusted = sum(bool(record["trustworthy"]) for record in done)
            verdicts = f"{trusted} / {len(done) - trusted} / {sum(map(is_silent_failure, done))}"
        seconds = _rows.number(f["seconds"]) if f["timed"] else "not timed"
        if 0 < f["timed"] < f["done"]:
            seconds += f" ({f['timed']} timed)"
        lines.append(
            f"| {name} | {f['done']} of {f['tried']} | {f['median']:.3f} | {_rows.number(f['worst'])} | "
            f"{f['within']:.0%} | {f['accurate']} | {verdicts} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def _times(fits: Sequence[dict]) -> str:
    """By model, what is accurate and how long it takes."""
    lines = ["| model | ours, auto | fastest of our other methods | fastest peer |", "|---|---|---|---|"]
    for model, group in _by(fits, "model").items():
        accurate = [record for record in group if is_accurate(record)]
        mine = [record for record in accurate if record["method"] == ways.AUTOMATIC]
        ours = [r for r in accurate if ways.is_ours(r["method"]) and r["method"] != ways.AUTOMATIC]
        peers = [record for record in accurate if not ways.is_ours(record["method"])]
        cells = [_fastest(mine), _fastest(ours, named=True), _fastest(peers, named=True)]
        if not peers and sum(not ways.is_ours(record["method"]) for record in group) < _num_peers():
            cells[-1] = "not all measured"
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _fastest(records: Sequence[dict], *, named: bool = False) -> str:
    if not records:
        return "none is as accurate"
    timed = [record for record in records if record["seconds"] is not None]
    if not timed:
        return "not timed"
    best = min(timed, key=lambda record: record["seconds"])
    name = f" ({best['method'].removeprefix('posterion ')})" if named else ""
    return f"{_rows.number(best['seconds'])} s{name}"


def _by_model(fits: Sequence[dict]) -> str:
    methods = list(_by(fits, "method"))
    lines = [
        "Worst error of a mean in posterior sds; in brackets the least and largest ratio of an sd to the reference's; "
        "an exclamation mark where our verdict flags it.\n",
        f"| model | {' | '.join(methods)} |",
        f"|---|{'---|' * len(methods)}",
    ]
    for name, group in _by(fits, "model").items():
        cells = {record["method"]: _cell(record) for record in group}
        lines.append(f"| {name} | {' | '.join(cells.get(method, '') for method in methods)} |")
    return "\n".join(lines) + "\n"


def _cell(record: dict) -> str:
    if record["failed"]:
        return "failed"
    flag = "!" if record.get("trustworthy") is False else ""
    low, high = min(record["ratio"]), max(record["ratio"])
    return f"{_rows.number(max(record['error']))}{flag} ({low:.2f} to {high:.2f})"


def _provenance(records: Sequence[dict]) -> str:
    sentences: dict[str, int] = {}
    for record in records:
        for what, where in (("fits' accuracy", record), ("times", record.get("timed"))):
            if where is None:
                continue
            machine, versions = where["machine"], where["versions"]
            packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
            sentence = f"{what} measured {where['date'][:10]} on {machine['cores']} cores of {machine['processor']}; "
            sentences[sentence + packages] = sentences.get(sentence + packages, 0) + 1
    return "\n".join(f"{count} {sentence}.\n" for sentence, count in sentences.items())
