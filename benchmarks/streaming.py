"""Fits of files: memory and speed by number of rows, and the time to a given held-out log score.

    python benchmarks/streaming.py                       # what is not there yet; 4 GB on the disk, deleted after
    python benchmarks/streaming.py --rows 100000,1000000
    python benchmarks/streaming.py --score               # time to the same held-out log score, against PyMC
    python benchmarks/streaming.py --quick               # tests the script; keeps nothing
    python benchmarks/streaming.py --render

Every fit runs in a process of its own (`_streaming_child.py`), and every figure is written to results/streaming.json as
soon as it is there, so that a run can be cut short and taken up again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import _rows
import _streaming_child as child
import numpy as np

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "streaming.json", HERE.parent / "docs" / "benchmarks" / "streaming.md"
ROWS = (10**5, 10**6, 10**7, 5 * 10**7)
BATCH = {"logistic": 8192, "network": 512}
MOST_IN_MEMORY = 10**7
REPEATS = 3
LIMIT = 600
"""Megabytes that a fit of 840 MB of rows gets."""


def run_child(folder: Path, model: str, kept: str, steps: int, group: Path | None = None) -> dict:
    command = [sys.executable, str(HERE / "_streaming_child.py"), str(folder), "--model", model, "--kept", kept]
    command += ["--batch-size", str(BATCH[model]), "--steps", str(steps)]
    if group is not None:
        command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@contextmanager
def limited_to(megabytes: int) -> Iterator[Path | None]:
    """A control group whose processes together get so much memory, pages of files included; None without the right."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"posterion-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(megabytes * 10**6))
        except OSError:
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None


def middle_of(runs: list[dict]) -> dict:
    """The median of every figure; one process differs from the next by a third in speed."""
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


def measure(found: dict, rows: int, steps: int, *, keep: bool) -> None:
    """Both models on one file, streamed and in memory; what is known already is not measured again."""
    wanted = [
        (model, kept) for model in BATCH for kept in ("stream", "memory") if kept == "stream" or rows <= MOST_IN_MEMORY
    ]
    if rows == ROWS[1]:
        wanted += [(model, "one batch") for model in BATCH]
    wanted = [case for case in wanted if key(*case, rows) not in found]
    if not wanted:
        return
    folder = Path(tempfile.mkdtemp(prefix="posterion-streaming-"))
    try:
        child.generate(folder, rows)
        for model, kept in wanted:
            runs = [run_child(folder, model, kept, steps) for _ in range(REPEATS if keep else 1)]
            found[key(model, kept, rows)] = middle_of(runs) | {"date": time.strftime("%F %T"), "runs": runs}
            print(key(model, kept, rows), middle_of(runs), flush=True)
            if keep:
                save(found)
        if rows == MOST_IN_MEMORY:
            steps = rows // BATCH["logistic"]
            with limited_to(LIMIT) as group:
                if group is not None:
                    found["limited"] = run_child(folder, "logistic", "stream", steps, group) | {
                        "bytes": sum(file.stat().st_size for file in folder.iterdir())
                    }
                    print("limited", found["limited"], flush=True)
            if keep:
                save(found)
    finally:
        shutil.rmtree(folder)


def key(model: str, kept: str, rows: int) -> str:
    return f"{model} {kept} {rows}"


# ---- time to a held-out log score
def score_of(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Mean held-out log score of logistic regression, averaged over draws of the weights."""
    log_odds = x @ weights.T
    probability = np.mean(1 / (1 + np.exp(-log_odds)), axis=1)
    return float(np.mean(np.log(np.where(y > 0, probability, 1 - probability))))


def measure_score(found: dict, rows: int, *, keep: bool) -> None:
    """Seconds, without compiling, to a held-out log score within 1e-4 of the best, by doubled numbers of steps."""
    folder = Path(tempfile.mkdtemp(prefix="posterion-streaming-"))
    try:
        child.generate(folder, rows + 10_000)
        x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))
        x, y, held = np.array(x[:rows]), np.array(y[:rows]), (np.array(x[rows:]), np.array(y[rows:]))
        goal = score_of(child.true_weights()[None], *held) - 1e-4
        for name, fit in CONTENDERS.items():
            if f"score {name} {rows}" in found:
                continue
            steps, path = 1280 if name.startswith("PyMC") and "all" not in name else 20, []
            while not path or (path[-1][2] < goal and path[-1][1] < 60):
                weights, seconds = fit(x, y, steps, folder)
                path.append((steps, seconds, score_of(weights, *held)))
                steps *= 2
            reached = path[-1][2] >= goal
            found[f"score {name} {rows}"] = {"seconds": path[-1][1], "reached": reached, "path": path, "goal": goal}
            print(name, found[f"score {name} {rows}"], flush=True)
            if keep:
                save(found)
    finally:
        shutil.rmtree(folder)


@cache
def _same_target(folder: Path):
    return child.target("logistic", folder)


def _posterion(x, y, steps, folder, batch_size):
    import posterion as po

    options = dict(batch_size=batch_size, precision="float32", random_seed=0, progress=False)
    data = po.data.arrays({"x": x, "y": y})
    po.fit(_same_target(folder), data=data, n=2, **options)  # compiles
    began = time.perf_counter()
    approx = po.fit(_same_target(folder), data=data, n=steps, **options)
    seconds = time.perf_counter() - began
    return approx.sample_unconstrained(500), seconds


def _pymc(x, y, steps, folder, learning_rate, batch_size=512):
    import pymc as pm

    with pm.Model():
        some_x, some_y = x, y.astype("int32")
        if batch_size is not None:
            some_x, some_y = pm.Minibatch(some_x, some_y, batch_size=batch_size)
        w = pm.Normal("w", 0, 1, shape=child.COLUMNS)
        pm.Bernoulli("y", logit_p=some_x @ w, observed=some_y, total_size=len(x))
        inference = pm.ADVI(random_seed=0)
        inference.fit(2, progressbar=False)  # compiles
        began = time.perf_counter()
        approx = inference.fit(steps, progressbar=False, obj_optimizer=pm.adam(learning_rate=learning_rate))
        seconds = time.perf_counter() - began
        return approx.sample(500, random_seed=0).posterior["w"].values[0], seconds


CONTENDERS = {
    "Posterion, 512 rows a step": lambda *a: _posterion(*a, 512),
    "Posterion, all rows": lambda *a: _posterion(*a, None),
    "PyMC, all rows": lambda *a: _pymc(*a, 0.01, None),
    "PyMC, 512 rows a step": lambda *a: _pymc(*a, 0.01),
    "PyMC at a tenth of that learning rate, 512 rows a step": lambda *a: _pymc(*a, 0.001),
}


# ---- files
def save(found: dict) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, default=float) + "\n")


def render(found: dict) -> None:
    """The table and the targets, between the marks of the page."""
    lines = [
        "| model | rows | private memory, streamed | million rows/s streamed | from memory | ratio |",
        "|---|---|---|---|---|---|",
    ]
    checks = []
    for model in BATCH:
        memory = {}
        for rows in ROWS:
            streamed, resident = found.get(key(model, "stream", rows)), found.get(key(model, "memory", rows))
            if streamed is None:
                continue
            memory[rows] = streamed["private_megabytes"]
            speed = streamed["rows_per_second"]
            ratio = "" if resident is None else f"{resident['rows_per_second'] / speed:.2f}"
            other = "" if resident is None else f"{resident['rows_per_second'] / 1e6:.2f}"
            lines.append(f"| {model} | {rows:,} | {memory[rows]:.0f} MB | {speed / 1e6:.2f} | {other} | {ratio} |")
            if resident is not None and rows >= 10**6:
                what = f"{model}, {rows:,} rows: slower than from memory by"
                checks.append(_rows.Check(what, resident["rows_per_second"] / speed, 1.3, unit="x"))
        large = [value for rows, value in memory.items() if rows >= 10**6]
        if large:
            checks.append(_rows.Check(f"{model}: private memory", max(large), 600, unit=" MB"))
            checks.append(
                _rows.Check(f"{model}: most over least memory from 10^6 rows on", max(large) / min(large), 1.1)
            )
    for model in BATCH:
        cases = [found.get(key(model, kept, ROWS[1])) for kept in ("stream", "memory", "one batch")]
        if all(cases):
            streamed, resident, still = (BATCH[model] / case["rows_per_second"] * 1e6 for case in cases)
            lines += [
                "",
                f"{model.capitalize()}, {BATCH[model]} rows a step: {still:.0f} microseconds where all see the same "
                f"rows, {resident:.0f} with rows from memory, {streamed:.0f} with rows from files.",
            ]
            if model == "network":
                checks.append(
                    _rows.Check("network, step with rows from memory, over one without", resident / still, 1.15)
                )
    if (limited := found.get("limited")) is not None:
        speed = limited["rows_per_second"] / 1e6
        what = f"{limited['bytes'] / 1e6:.0f} MB of rows once through, in {LIMIT} MB of memory: million rows a second"
        checks.append(_rows.Check(what, speed, 1, at_least=True))
    scores = {name.split(" ", 1)[1]: values for name, values in found.items() if name.startswith("score ")}
    if scores:
        lines += ["", "| to the same held-out log score | steps | seconds without compiling | |", "|---|---|---|---|"]
        for name, values in scores.items():
            steps, reached = values["path"][-1][0], "" if values["reached"] else "not reached"
            lines.append(f"| {name} rows | {steps:,} | {values['seconds']:.2f} | {reached} |")
        taken = {name.rpartition(" ")[0]: values["seconds"] for name, values in scores.items()}
        ours, all_rows, theirs, *peers = (taken.get(name, float("nan")) for name in CONTENDERS)
        checks.append(_rows.times_faster("all rows a step, to the same held-out log score", all_rows / ours, 40))
        checks.append(_rows.times_faster("all rows a step in PyMC, to the same held-out log score", theirs / ours, 40))
        checks.append(_rows.times_faster("PyMC's mini-batches, to the same held-out log score", min(peers) / ours, 15))
    if "circumstances" in found:
        machine = found["circumstances"]["machine"]
        lines += [
            "",
            f"Measured on {machine['cores']} cores of {machine['processor']}, load {machine['load_before']:g} before.",
        ]
    _rows.fill(PAGE, "\n".join([*lines, "", *(f"- {check}" for check in checks)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and not options.quick else {}
    if not options.render:
        found["circumstances"] = _rows.circumstances(quick=options.quick)
        if options.score:
            measure_score(found, 20_000 if options.quick else 10**6, keep=not options.quick)
        else:
            for rows in [50_000] if options.quick else [int(part) for part in options.rows.split(",")]:
                measure(found, rows, 300 if options.quick else 1000, keep=not options.quick)
    if not options.quick:
        render(found)


if __name__ == "__main__":
    main()
