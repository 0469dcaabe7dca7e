"""The tables of benchmarks/posteriors.py: targets, one line per method, one line per model."""

from collections.abc import Sequence

import _rows
import numpy as np

SILENT = 0.3
"""A mean further off than so many posterior standard deviations must be flagged by the verdict."""
GOOD = 0.03
"""Median error in posterior standard deviations that counts as accurate."""


def one_line(record: dict) -> str:
    """For the terminal."""
    if record["failed"]:
        return f"FAILED: {record['failed']}"
    error, ratio = np.array(record["error"]), np.array(record["ratio"])
    said = {True: "trusted", False: "flagged", None: ""}[record["trustworthy"]]
    return f"error {np.median(error):.3f}, worst {error.max():.3f}; sd {ratio.min():.2f} to {ratio.max():.2f}; {said}"


def page(records: Sequence[dict]) -> str:
    """Targets, methods, models and provenance in Markdown."""
    if not records:
        return "Not measured yet: `python benchmarks/posteriors.py` fills this in.\n"
    parts = ["### Targets\n", _targets(records), "### By method\n", _by_method(records), "### By model\n"]
    return "\n".join([*parts, _by_model(records), "", _provenance(records)])


def is_silent_failure(record: dict) -> bool:
    """A mean is far off and the verdict says that all is well."""
    return bool(record.get("trustworthy")) and max(record["error"]) > SILENT


def _ours(records: Sequence[dict]) -> list[dict]:
    return [record for record in records if record["method"].startswith("posterion")]


def _by(records: Sequence[dict], key: str) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record[key], []).append(record)
    return groups


def _figures(records: Sequence[dict]) -> dict:
    done = [record for record in records if not record["failed"]]
    errors = np.concatenate([record["error"] for record in done]) if done else np.array([np.nan])
    ratios = np.concatenate([record["ratio"] for record in done]) if done else np.array([np.nan])
    warm = [record["seconds_warm"] for record in done if record["seconds_warm"]]
    return {
        "done": len(done),
        "tried": len(records),
        "median": float(np.median(errors)),
        "worst": float(np.max(errors)),
        "within": float(np.mean((ratios >= 0.95) & (ratios <= 1.05))),
        "seconds": float(np.exp(np.mean(np.log(warm)))) if warm else float("nan"),
        "accurate": sum(float(np.median(record["error"])) < GOOD for record in done),
    }


def _targets(records: Sequence[dict]) -> str:
    methods = {name: _figures(group) for name, group in _by(records, "method").items()}
    ours = {name: figures for name, figures in methods.items() if name.startswith("posterion")}
    peers = {name: figures for name, figures in methods.items() if name not in ours}
    checks: list[_rows.Check] = []
    default = ours.get("posterion advi")
    if default:
        checks.append(_rows.Check("models the default fit finishes", default["done"], default["tried"], at_least=True))
    silent = [record for record in _ours(records) if not record["failed"] and is_silent_failure(record)]
    checks.append(_rows.Check("silent failures of all our methods", len(silent), 0))
    whole = {name: figures for name, figures in ours.items() if figures["done"] == figures["tried"]}
    if whole:
        best = min(whole, key=lambda name: whole[name]["median"])
        checks.append(_rows.Check(f"median error in posterior sds ({best})", whole[best]["median"], GOOD))
        checks.append(_rows.Check("of its sds within 0.95 to 1.05", whole[best]["within"], 0.9, at_least=True))
        reach = [f["seconds"] for f in peers.values() if f["median"] < GOOD and np.isfinite(f["seconds"])]
        if reach and np.isfinite(whole[best]["seconds"]):
            ratio = min(reach) / whole[best]["seconds"]
            checks.append(_rows.times_faster("the fastest peer that is as accurate", ratio, 10))
    lines = [f"- {check}" for check in checks]
    lines += [f"    - silent: {record['method']} on {record['model']}" for record in silent]
    return "\n".join(lines) + "\n"


def _by_method(records: Sequence[dict]) -> str:
    lines = [
        "| method | models | median error | worst error | sds within 5 % | models with median < 0.03 | "
        "trusted / flagged / silent | seconds, warm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in _by(records, "method").items():
        f = _figures(group)
        done = [record for record in group if not record["failed"]]
        verdicts = ""
        if any(record["trustworthy"] is not None for record in done):
            trusted = sum(bool(record["trustworthy"]) for record in done)
            verdicts = f"{trusted} / {len(done) - trusted} / {sum(map(is_silent_failure, done))}"
        seconds = _rows.number(f["seconds"]) if np.isfinite(f["seconds"]) else ""
        lines.append(
            f"| {name} | {f['done']} of {f['tried']} | {f['median']:.3f} | {_rows.number(f['worst'])} | "
            f"{f['within']:.0%} | {f['accurate']} | {verdicts} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def _by_model(records: Sequence[dict]) -> str:
    methods = list(_by(records, "method"))
    lines = [
        "Worst error of a mean in posterior sds; in brackets the least and largest ratio of an sd to the reference's; "
        "an exclamation mark where our verdict flags it.\n",
        f"| model | {' | '.join(methods)} |",
        f"|---|{'---|' * len(methods)}",
    ]
    for name, group in sorted(_by(records, "model").items()):
        cells = {record["method"]: _cell(record) for record in group}
        lines.append(f"| {name} | {' | '.join(cells.get(method, '') for method in methods)} |")
    return "\n".join(lines) + "\n"


def _cell(record: dict) -> str:
    if record["failed"]:
        return "failed"
    flag = "!" if record["trustworthy"] is False else ""
    low, high = min(record["ratio"]), max(record["ratio"])
    return f"{_rows.number(max(record['error']))}{flag} ({low:.2f} to {high:.2f})"


def _provenance(records: Sequence[dict]) -> str:
    sentences: dict[str, int] = {}
    for record in records:
        machine, versions = record["machine"], record["versions"]
        packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        sentence = f"{record['date'][:10]} on {machine['cores']} cores of {machine['processor']}; {packages}"
        sentences[sentence] = sentences.get(sentence, 0) + 1
    return "\n".join(f"{count} fits measured {sentence}.\n" for sentence, count in sentences.items())
