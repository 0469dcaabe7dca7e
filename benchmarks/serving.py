"""The service on the breast cancer data: how soon it answers, how fast, how many at once, and in how much memory.

    python benchmarks/serving.py                all figures, into benchmarks/results/serving.json and docs/benchmarks
    python benchmarks/serving.py --quick        100,000 rows instead of a million; tests the script, writes nothing
    python benchmarks/serving.py --render       measures nothing, writes the table anew from the JSON

A logistic regression on all 30 inputs, saved, and loaded by a process of its own that serves it with 500 draws. Times
are as the client sees them, through HTTP on this machine. The start is that of a process whose compilation cache is
filled, up to the first answer of /health.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _rows
import httpx
import numpy as np

RESULTS = Path(__file__).parent / "results/serving.json"
PAGE = Path(__file__).parent.parent / "docs/benchmarks/serving.md"
CLIENTS = 50


def fit(folder):
    import jax
    import jax.numpy as jnp
    from jax.scipy import stats
    from sklearn.datasets import load_breast_cancer

    import posterion as po

    bunch = load_breast_cancer(as_frame=True)
    x, y = bunch.data, 1.0 - bunch.target
    logit = lambda p, rows: p["level"] + (rows["x"] - np.asarray(x.mean())) / np.asarray(x.std()) @ p["slopes"]
    target = po.log_density(
        initial={"level": 0.0, "slopes": np.zeros(x.shape[1])},
        data={"x": x.to_numpy(), "y": y.to_numpy()},
        log_prior=lambda p: jnp.sum(stats.norm.logpdf(p["slopes"], 0, 0.7)) + stats.norm.logpdf(p["level"], 0, 2),
        log_likelihood=lambda p, rows: -jax.nn.softplus((1 - 2 * rows["y"]) * logit(p, rows)),
        predict_mean=lambda p, rows: jax.nn.sigmoid(logit(p, rows)),
        kind="binary",
        name="malignant",
    )
    po.fit(target, "laplace", progress=False, random_seed=1).save(folder / "cancer.posterion")
    x.assign(diagnosis=y.map({0: "benign", 1: "malignant"})).to_csv(folder / "training.csv", index=False)
    return x


def serve(folder, port):
    import pandas as pd

    import posterion as po
    from posterion import serving

    approx = po.load(Path(folder) / "cancer.posterion")
    training = pd.read_csv(Path(folder) / "training.csv")
    options = {"input": "x", "target": "diagnosis", "classes": ("benign", "malignant")}
    serving.serve(serving.PosteriorModel(approx, training, **options), port=int(port), quiet=True)


class Running:
    """A service in a process of its own."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        began = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", str(folder), str(self.port)])
        while True:
            try:
                if httpx.get(f"{self.address}/health", timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                if self.process.poll() is not None or time.perf_counter() - began > 300:
                    raise
                time.sleep(0.02)
        self.seconds = time.perf_counter() - began

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def one_row(service, row, repeats=300):
    with httpx.Client(base_url=service.address) as client:
        times, before = [], None
        for k in range(repeats + 20):
            if k == 20:
                before = service.cpu_seconds()
            began = time.perf_counter()
            client.post("/predict", json={"rows": [row]}).raise_for_status()
            times.append(time.perf_counter() - began)
        return 1e3 * np.array(times[20:]), 1e3 * (service.cpu_seconds() - before) / repeats


def parallel(service, row, each=20):
    def visit(_):
        failed = 0
        with httpx.Client(base_url=service.address, timeout=120) as client:
            for k in range(each):
                path, body = ("/predict", {"rows": [row]}) if k % 5 else ("/nearest", {"row": row})
                failed += client.post(path, json=body).status_code != 200
        return failed

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(visit, range(CLIENTS)))


def upload(service, table):
    lines, began = 0, time.perf_counter()
    with (
        table.open("rb") as file,
        httpx.stream("POST", f"{service.address}/upload?refer=0.1", content=file, timeout=None) as answer,
    ):
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            lines += piece.count(b"\n")
    return lines - 1, time.perf_counter() - began


def render():
    """Write the table of what was measured into its page."""
    record = json.loads(RESULTS.read_text())
    values, machine = record["values"], record["machine"]
    lines = ["| figure, target |", "|---|", *(f"| {check} |" for check in record["checks"])]
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("python", "posterion", "jax", "commit"))
    text = (
        f"One row takes {values['cpu_ms']:.1f} ms of the server's processor time, and at the 95th percentile "
        f"{np.quantile(values['one_row_ms'], 0.95):.1f} ms as the client sees it. A million rows took "
        f"{values['upload_seconds']:.0f} s, and the service held {values['peak_before_MiB']:.0f} MiB before them.\n\n"
        f"Measured {record['date'][:10]} on {machine['cores']} cores of {machine['processor']}, load "
        f"{machine['load_before']:g} before the start; {versions}.\n"
    )
    _rows.fill(PAGE, "\n".join(lines) + "\n\n" + text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"))
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return 0
    if options.render:
        render()
        return 0
    rows = 100_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = fit(folder)
        Running(folder).stop()  # fills the compilation cache
        service = Running(folder)
        try:
            row = x.iloc[0].to_dict()
            times, cpu = one_row(service, row)
            print(f"one row: median {np.median(times):.2f} ms; all that depends on a quiet machine is done", flush=True)
            failed = parallel(service, row)
            table = folder / "many.csv"
            block = x.sample(10_000, replace=True, random_state=0)
            for k in range(rows // 10_000):
                block.to_csv(table, mode="a", header=k == 0, index=False, float_format="%.5g")
            before = service.peak_mib()
            answered, seconds = upload(service, table)
            peak = service.peak_mib()
        finally:
            service.stop()
    checks = [
        _rows.Check("start", service.seconds, 4.0, unit=" s"),
        _rows.Check("one row, median", float(np.median(times)), 5.0, unit=" ms"),
        _rows.Check(f"errors of {CLIENTS} parallel clients", failed, 0),
        _rows.Check(f"{rows:,} rows, peak memory", peak, 600.0, unit=" MiB"),
    ]
    print(f"processor time of one row {cpu:.2f} ms, 95th percentile of its time {np.quantile(times, 0.95):.2f} ms")
    print(f"{answered:,} rows answered in {seconds:.1f} s; peak before it {before:.0f} MiB")
    for check in checks:
        print(check)
    if not options.quick:
        values = {"one_row_ms": times.tolist(), "cpu_ms": cpu, "upload_seconds": seconds, "peak_before_MiB": before}
        record = {"checks": [str(check) for check in checks], "values": values, **_rows.circumstances(quick=False)}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")
        render()
    return 0 if all(check.met for check in checks) and answered == rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
