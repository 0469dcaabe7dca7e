"""Several devices and processes against one, and fits killed at random moments: numbers first, then what it costs.

Processes are started on this machine with gloo on the loopback, devices are forced host devices: that tests equality
and shows what keeping in step costs. It cannot show what several machines or accelerators gain.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _rows
import numpy as np
from _measure import middle
from _rows import Check, Row

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "distributed.json", HERE.parent / "docs" / "benchmarks" / "distributed.md"
HEADINGS = {"1x1": "1 process", "1x4": "1 process, 4 devices", "2x1": "2 processes", "2x2": "2 processes, 4 devices"}
LAYOUTS = [(1, 1), (1, 4), (2, 1), (2, 2)]
ROWS = 10_001
"""Not divided by two or four devices, nor by the batches."""


# ---- jobs
def start(layout: tuple[int, int], task: str, arguments: dict) -> list[subprocess.Popen]:
    """The processes of a job."""
    processes, devices = layout
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, str(HERE / "_distributed_child.py"), coordinator, str(processes)]
    return [
        subprocess.Popen(
            [*command, str(number), task, json.dumps(arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def finish(job: list[subprocess.Popen]) -> dict:
    """What the first process says, once all have ended well."""
    said = []
    for process in job:
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"a process failed:\n{err[-3000:]}")
        said.append(json.loads(out.splitlines()[-1]))
    return said[0]


# ---- rows
def equality(folder: Path, quick: bool) -> list[Row]:  # noqa: FBT001
    """Parameters after 200 steps, against one process on one device."""
    rows = []
    cases = [
        ("1a", "all rows, float64", {}),
        ("1b", "batches of 511 rows, float64", {"batch_size": 511}),
        ("1c", "batches of 511 rows, float32", {"batch_size": 511, "precision": "float32"}),
    ]
    for key, title, options in cases:
        options = {"n": 200, "precision": "float64", **options}
        found = {}
        for layout in LAYOUTS:
            result = folder / f"{key}-{layout[0]}x{layout[1]}"
            finish(start(layout, "numbers", {"options": options, "rows": ROWS, "result": str(result)}))
            found[layout] = [np.load(f"{result}-{number}.npz")["params"] for number in range(layout[0])]
        (alone,) = found[1, 1]
        off = {f"{p}x{d}": max(float(np.max(np.abs(x - alone))) for x in found[p, d]) for p, d in LAYOUTS}
        cells = {name: "reference" if name == "1x1" else f"{value:.1e}" for name, value in off.items()}
        checks = [Check(f"{HEADINGS[name]}:", off[name], 1e-6) for name in off if name != "1x1"]
        rows.append(Row(key, f"Largest difference of a parameter after 200 steps, {title}", cells, tuple(checks), off))
    return rows


def overhead(folder: Path, quick: bool) -> list[Row]:  # noqa: FBT001
    """Milliseconds per step."""
    rows = []
    sizes = [("2a", 1000, 2020), ("2b", 10_000 if quick else 200_000, 220)]
    for key, size, long in sizes:
        arguments = {"options": {}, "rows": size, "short": 20, "long": 40 if quick else long}
        found = {
            f"{p}x{d}": [finish(start((p, d), "speed", arguments))["step"] for _ in range(1 if quick else 3)]
            for p, d in LAYOUTS
        }
        cells = {name: f"{1e3 * middle(seconds):.2f}" for name, seconds in found.items()}
        rows.append(Row(key, f"Milliseconds per step, all of {size:,} rows x 20 columns", cells, (), found))
    return rows


def killed(folder: Path, quick: bool) -> list[Row]:  # noqa: FBT001
    """Kill at random moments, start again, compare with a fit that was left alone."""
    kills, cells, values = 2 if quick else 20, {}, {}
    options, chance = {"n": 4000, "batch_size": 511}, random.Random(0)
    for layout in ((1, 1), (2, 1)):
        name, same, done = f"{layout[0]}x{layout[1]}", 0, 0
        whole = folder / f"whole-{name}"
        finish(start(layout, "numbers", {"options": options, "rows": ROWS, "result": str(whole)}))
        want = np.load(f"{whole}-0.npz")
        while done < kills:
            run = Path(tempfile.mkdtemp(dir=folder))
            arguments, killed_here = {"options": options, "rows": ROWS, "folder": str(run)}, 0
            while done < kills:
                job = start(layout, "to_be_killed", arguments)
                if not _kill(job, run, chance):
                    break
                done, killed_here = done + 1, killed_here + 1
            finish(start(layout, "to_be_killed", arguments))
            got = np.load(run / "result-0.npz")
            same += killed_here * all(np.array_equal(want[key], got[key]) for key in want)
        cells[name], values[name] = f"{same} of {done}", {"kills": done, "bit_identical": same}
    check = Check("bit-identical", sum(v["bit_identical"] for v in values.values()), 2 * kills, at_least=True)
    return [Row("3", "Killed by SIGKILL at random moments and gone on: bit-identical", cells, (check,), values)]


def _kill(job: list[subprocess.Popen], folder: Path, chance: random.Random) -> bool:
    """Kill one process at a random moment after the job's first new checkpoint; False if it had ended by itself."""
    before = set(folder.glob("checkpoint-*"))
    while all(process.poll() is None for process in job) and set(folder.glob("checkpoint-*")) <= before:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.5))
    victim = chance.choice(job)
    running = victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    for process in job:  # the others notice by themselves
        process.communicate()
    return running


def cost(folder: Path, quick: bool) -> list[Row]:  # noqa: FBT001
    """Milliseconds that a checkpoint of 4 MB and one of 120 MB hold up the fit."""
    from posterion import Checkpoints
    from posterion.checkpoints import logbook

    values = {}
    for megabytes in (4, 4 if quick else 120):
        arrays = {"state": np.random.default_rng(0).standard_normal(megabytes * 2**17)}
        with logbook(Checkpoints(folder / f"cost-{megabytes}", every_seconds=0)) as book:
            assert book is not None
            waits, writes = [], []
            for _ in range(5):
                begin = time.perf_counter()
                book.offer(lambda arrays=arrays: (arrays, {}))
                waits.append(time.perf_counter() - begin)
                book.wait()
                writes.append(time.perf_counter() - begin)
        values[f"{megabytes} MB"] = {"fit_waits": waits, "until_on_disk": writes}
    parts = (
        f"{name}: waits {1e3 * middle(v['fit_waits']):.1f}, on the disk after {1e3 * middle(v['until_on_disk']):.0f}"
        for name, v in values.items()
    )
    return [
        Row(
            "4", "Milliseconds of a checkpoint, beyond copying it off the device", {"1x1": "; ".join(parts)}, (), values
        )
    ]


ALL: dict[str, Callable[[Path, bool], list[Row]]] = {"1": equality, "2": overhead, "3": killed, "4": cost}


def main() -> None:
    """Measure the rows asked for, keep them as JSON, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ALL), help="numbers of rows, by default all")
    parser.add_argument("--quick", action="store_true", help="tests the script; figures are not kept")
    parser.add_argument("--render", action="store_true", help="only write the table anew")
    options = parser.parse_args()
    records = _rows.read(RESULTS)
    if not options.render:
        circumstances = _rows.circumstances(quick=options.quick)
        for key in options.rows.split(","):
            with tempfile.TemporaryDirectory(prefix="posterion-bench-") as folder:
                new = ALL[key](Path(folder), options.quick)
            for row in new:
                print(row.key, row.title, row.cells, *map(str, row.checks), flush=True)
            if not options.quick:
                records = _rows.merge(records, [row.as_record(circumstances) for row in new])
                _rows.write(RESULTS, records)
    if records and not options.quick:
        _rows.update_page(PAGE, records, HEADINGS)


if __name__ == "__main__":
    main()
