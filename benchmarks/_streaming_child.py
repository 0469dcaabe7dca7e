"""One fit of a stream, or of the same rows in memory, in a process of its own: its memory is nobody else's."""

import argparse
import json
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import posterion as po

COLUMNS = 20


def true_weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(COLUMNS) * 0.3


def generate(folder: Path, rows: int) -> None:
    """Rows of a logistic regression as .npy files, written piece by piece."""
    random, weights = np.random.default_rng(1), true_weights()
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, COLUMNS))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int8, (rows,))
    for start in range(0, rows, 1 << 18):
        part = random.standard_normal((min(1 << 18, rows - start), COLUMNS), np.float32)
        x[start : start + len(part)] = part
        y[start : start + len(part)] = random.random(len(part)) < 1 / (1 + np.exp(-part @ weights))
    x.flush()
    y.flush()


def logistic(p, d):
    return d["x"] @ p["w"]


def network(p, d):
    hidden = jnp.tanh(jnp.tanh(d["x"] @ p["first"]) @ p["second"])
    return hidden @ p["last"]


MODELS = {
    "logistic": (logistic, {"w": (COLUMNS,)}),
    "network": (network, {"first": (COLUMNS, 50), "second": (50, 50), "last": (50,)}),
}


def target(model: str, folder: Path):
    """The model, built on the first thousand rows; weights are scaled by the number of inputs of their layer."""
    eta, shapes = MODELS[model]
    random = np.random.default_rng(2)
    initial = {name: random.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    spread = {name: 1.0 if model == "logistic" else shape[0] ** -0.5 for name, shape in shapes.items()}
    sample = {name: np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[:1000]) for name in ("x", "y")}
    return po.log_density(
        initial=initial,
        data=sample,
        log_prior=lambda p: sum(-0.5 * jnp.sum((p[name] / spread[name]) ** 2) for name in shapes),
        log_likelihood=lambda p, d: -jax.nn.softplus(jnp.where(d["y"] > 0, -1, 1) * eta(p, d)),
        predict_mean=lambda p, d: jax.nn.sigmoid(eta(p, d)),
        kind="binary",
    )


def private_megabytes() -> float:
    """Memory of this process that no file backs; a memory map counts among the resident pages, but not here."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, default="logistic")
    parser.add_argument("--kept", choices=("stream", "memory", "one batch"), default="stream")
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    limit = 0 if options.kept == "stream" else 1 << 62
    files = {name: options.folder / f"{name}.npy" for name in ("x", "y")}
    source = po.data.memory_map(files, memory_limit=limit)
    if options.kept == "one batch":  # the same rows at every step, which move nowhere
        maps = {name: np.load(file, mmap_mode="r") for name, file in files.items()}
        source = po.data.arrays({name: np.array(rows[: options.batch_size]) for name, rows in maps.items()})
    peak, marks = [0.0], []

    def look(progress):
        peak[0] = max(peak[0], private_megabytes())
        marks.append((progress.step, time.perf_counter(), time.process_time()))

    found = po.fit(
        target(options.model, options.folder),
        data=source,
        batch_size=None if options.kept == "one batch" else options.batch_size,
        n=options.steps,
        callbacks=[look],
        precision="float32",
        random_seed=0,
        progress=False,
    )
    # Rows a second between two looks, without what comes before the first step and after the last.
    (first, began, began_cpu), (last, ended, ended_cpu) = marks[min(2, len(marks) - 2)], marks[-1]
    rows = (last - first) * options.batch_size
    print(
        json.dumps(
            {
                "rows_per_second": rows / (ended - began),
                "rows_per_processor_second": rows / (ended_cpu - began_cpu),
                "private_megabytes": peak[0],
                "seconds_running": found.record.seconds_running,
                "seconds_compiling": found.record.seconds_compiling,
                "loss": float(np.mean(found.hist[-100:])),
            }
        )
    )


if __name__ == "__main__":
    main()
