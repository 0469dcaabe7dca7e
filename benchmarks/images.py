"""MNIST by a small convolutional network: mean-field posteriors against the same network trained without uncertainty.

    python benchmarks/images.py                        everything; goes on where it stopped (half an hour of one core)
    python benchmarks/images.py --quick                two epochs of a tenth of the images: tests the script
    python benchmarks/images.py --render               measures nothing: the page anew from the records

Posteriors are of the images as they are: none is shifted, turned or scaled to make more of them, since the likelihood
of a row that was made up is not one. The network that is trained without uncertainty, whose last layer then gets a
posterior, sees every image moved by up to two pixels at random, as is usual. Each member of a mixture (or of the deep
ensemble) is a fit of its own from its own seed; its weights and what it predicts are kept in a folder, so that mixtures
cost nothing more. The test images are looked at once, to be scored.

Strange inputs are the first 1,000 test images turned by a quarter, with light and dark exchanged, and pixels of noise.
A 0, 1 or 8 turned by a quarter is still one, or nearly, so that no score can tell all turned images from upright ones.
"""

import argparse
import sys
import time
from itertools import product
from pathlib import Path

import _records
import flax.linen as nn
import jax
import numpy as np
import optax
from flax import serialization
from scipy.stats import rankdata

import posterion as po

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks/results/images.jsonl", ROOT / "docs/benchmarks/images.md"
OURS, TEMPERED = "Posterion, IVON", "Posterion, IVON, tempered (0.1)"
LAST, PLAIN = "Posterion, last layer", "the network alone"
MEMBERS, MOVED, EPOCHS, BATCH, DRAWS, STRANGE = 6, 3, 8, 128, 16, 1000
KL_WEIGHT, IVON_EPOCHS, PIXELS = 0.1, 10, 2
FEWEST = 1e-12


class Convolutional(nn.Module):
    """16 and 32 filters of five by five, each followed by the largest of four; 128 units; ten outputs."""

    @nn.compact
    def __call__(self, x, *, top: bool = True):
        for filters in (16, 32):
            x = nn.Conv(filters, (5, 5), padding="VALID")(x)
            rows, height, width, _ = x.shape
            x = nn.relu(x.reshape(rows, height // 2, 2, width // 2, 2, filters).max(axis=(2, 4)))
        x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x) if top else x


def images() -> dict[str, np.ndarray]:
    with np.load(_records.data_folder() / "images/mnist.npz") as file:
        scaled = {name: (file[name].astype(np.float32) / 255)[..., None] for name in ("x_train", "x_test")}
        return scaled | {name: file[name].astype(int) for name in ("y_train", "y_test")}


def strange(x: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs that are no digits, or digits as nobody writes them."""
    noise = np.random.default_rng(0).uniform(size=x.shape).astype(x.dtype)
    return {"turned": np.rot90(x, axes=(1, 2)).copy(), "inverted": 1 - x, "noise": noise}


def ivon(x, y, sets, seed: int, options, kl_weight: float = 1.0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Probabilities and mean entropies by set of inputs, under one mean-field posterior."""
    target = po.network(Convolutional(), data={"x": x, "y": y}, likelihood="categorical")
    steps = (2 if options.quick else IVON_EPOCHS) * len(x) // BATCH
    approx = po.fit(
        target,
        "ivon",
        batch_size=BATCH,
        n=steps,
        kl_weight=kl_weight,
        random_seed=seed,
        progress=False,
        callbacks=[Said()],
    )
    found = {name: approx.predict({"x": rows}, draws=DRAWS, random_seed=seed) for name, rows in sets.items()}
    return {name: (p.mean["y"], p.aleatoric["y"]) for name, p in found.items()}


def tempered(x, y, sets, seed: int, options) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same with every row counted ten times."""
    return ivon(x, y, sets, seed, options, KL_WEIGHT)


def training(seed: int, options: argparse.Namespace) -> tuple[int, int]:
    """Epochs, and pixels by which an image may be moved, of the network of this seed."""
    return (options.epochs, PIXELS) if seed < MOVED else (max(1, options.epochs // 2), 0)


def trained(seed: int, options: argparse.Namespace) -> tuple[dict, float]:
    """The network trained by Adam, and the processor seconds of that; both kept in the folder.

    The first members see images moved at random, the others, for half the epochs, images as they are.
    """
    file = options.folder / f"trained-{seed}.msgpack"
    if file.exists() and not options.quick:
        kept = serialization.msgpack_restore(file.read_bytes())
        return kept["params"], kept["seconds"]
    began, data = time.process_time(), images()
    few = 10 if options.quick else 1
    x, y = data["x_train"][::few], data["y_train"][::few]
    epochs, pixels = training(seed, options)
    module, steps = Convolutional(), epochs * len(x) // BATCH
    params = module.init(jax.random.key(seed), x[:2])
    optimiser = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-4)

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(module.apply(params, x), y).mean()

    @jax.jit
    def step(params, memory, x, y):
        updates, memory = optimiser.update(jax.grad(loss)(params, x, y), memory, params)
        return optax.apply_updates(params, updates), memory

    memory, random = optimiser.init(params), np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(x)) for _ in range(epochs)])[: steps * BATCH]
    edge = ((0, 0), (pixels, pixels), (pixels, pixels))
    moved = np.lib.stride_tricks.sliding_window_view(np.pad(x[..., 0], edge), x.shape[1:3], axis=(1, 2))
    for rows in order.reshape(steps, BATCH):
        down, right = random.integers(0, 2 * pixels + 1, (2, BATCH))
        params, memory = step(params, memory, moved[rows, down, right][..., None], y[rows])
    params, seconds = jax.device_get(params), time.process_time() - began
    file.write_bytes(serialization.msgpack_serialize({"params": params, "seconds": seconds}))
    return params, seconds


def _blockwise(function, rows: np.ndarray) -> np.ndarray:
    function = jax.jit(function)
    return np.concatenate([function(rows[k : k + 500]) for k in range(0, len(rows), 500)])


def alone(x, y, sets, seed: int, options) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same of the network trained by Adam: one member of a deep ensemble."""
    params, _ = trained(seed, options)
    logits = {n: _blockwise(lambda x: Convolutional().apply(params, x), rows) for n, rows in sets.items()}
    found = {name: np.asarray(jax.nn.softmax(value)) for name, value in logits.items()}
    return {name: (p, entropy(p)) for name, p in found.items()}


def last_layer(x, y, sets, seed: int, options) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same of that network with Kronecker-factored linearised Laplace of its last layer, on its features."""
    params, _ = trained(seed, options)
    features = lambda rows: _blockwise(lambda x: Convolutional().apply(params, x, top=False), rows)
    top = jax.device_get(params["params"]["Dense_1"])
    linear = (top, lambda p, features: features @ p["kernel"] + p["bias"])
    target = po.network(linear, data={"features": features(x), "y": y}, likelihood="categorical")
    method = po.LinearisedLaplace(curvature="kronecker", turns=2)
    approx = po.fit(target, method, random_seed=seed, progress=False)
    found = {n: approx.predict({"features": features(rows)}, draws=100, random_seed=seed) for n, rows in sets.items()}
    return {name: (p.mean["y"], p.aleatoric["y"]) for name, p in found.items()}


class Said:
    """Tells how far a long fit is, once a minute."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, progress) -> None:
        if time.perf_counter() - self.last > 60:
            self.last = time.perf_counter()
            print(f"step {progress.step:,}: {np.mean(progress.losses[-50:]):,.0f} nats", file=sys.stderr, flush=True)


METHODS = {OURS: ivon, TEMPERED: tempered, LAST: last_layer, PLAIN: alone}


def entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(np.maximum(p, FEWEST)), axis=-1)


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The chance that an outside row has the larger value, ties counted half."""
    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :].sum()
    return float((ranks - len(outside) * (len(outside) + 1) / 2) / (len(inside) * len(outside)))


def measured(found: dict[str, tuple[np.ndarray, np.ndarray]], truth: np.ndarray) -> dict:
    """Scores of the test images, and how far epistemic uncertainty (for one network alone: total) tells the strange."""
    p = found["test"][0].astype(float)
    p = p / p.sum(axis=1, keepdims=True)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    bins = np.minimum((confidence * 15).astype(int), 14)
    row = {
        "accuracy": float(right.mean()),
        "log_score": float(np.log(np.maximum(p[np.arange(len(truth)), truth], FEWEST)).mean()),
        "brier": float(((p - np.eye(10)[truth]) ** 2).sum(axis=1).mean()),
        "calibration": float(
            sum(abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in set(bins)) / len(p)
        ),
    }
    total = {name: entropy(mean.astype(float)) for name, (mean, _) in found.items()}
    epistemic = {name: total[name] - expected for name, (_, expected) in found.items()}
    if max(np.abs(value).max() for value in epistemic.values()) < 1e-4:
        epistemic = total
    others = [name for name in found if name != "test"]
    row |= {f"auroc_{name}": auroc(epistemic["test"], epistemic[name]) for name in others}
    row["auroc_all"] = auroc(epistemic["test"], np.concatenate([epistemic[name] for name in others]))
    return row


def main() -> None:
    options = _options()
    records = _records.Records(None if options.quick else RESULTS)
    if not options.render:
        run(records, options)
    if not options.quick and records.rows:
        _records.update_page(PAGE, page(records))
    print(page(records))


def run(records: _records.Records, options: argparse.Namespace) -> None:
    data = images()
    few = 10 if options.quick else 1
    x, y, truth = data["x_train"][::few], data["y_train"][::few], data["y_test"][::few]
    sets = {"test": data["x_test"][::few]} | strange(data["x_test"][: STRANGE // few])
    folder, kept = options.folder, {method: [] for method in options.methods}
    for seed, method in product(range(options.members), options.methods):
        direct = method in (OURS, TEMPERED)
        if direct and seed > 0:
            continue
        file = folder / f"{METHODS[method].__name__}-{seed}.npz"
        if not file.exists() or options.quick:
            seconds = 0.0 if direct else trained(seed, options)[1]
            began = time.process_time()
            found = METHODS[method](x, y, sets, seed, options)
            cpu = seconds + time.process_time() - began
            epochs = IVON_EPOCHS if direct else training(seed, options)[0]
            row = {"data": "mnist", "kind": "single", "split": seed, "method": method, "epochs": epochs}
            row |= {"cpu_seconds": cpu, "training_seconds": seconds}
            records.add(row | measured(found, truth) | _records.circumstances())
            print(records.rows[-1], file=sys.stderr, flush=True)
            np.savez(file, **{f"{name}/{k}": a for name, pair in found.items() for k, a in enumerate(pair)})
        with np.load(file) as saved:
            kept[method].append({name: (saved[f"{name}/0"], saved[f"{name}/1"]) for name in sets})
    for method, size in product(options.methods, (MOVED, MEMBERS)):
        key = {"data": "mnist", "kind": "mixture", "split": size, "method": method}
        if len(kept[method]) >= size and not records.has(**key):
            members = kept[method][:size]
            mixed = {n: tuple(np.mean([one[n][k] for one in members], axis=0) for k in range(2)) for n in sets}
            seconds = records.values("cpu_seconds", method=method, kind="single")[:size].sum()
            records.add(key | {"cpu_seconds": float(seconds)} | measured(mixed, truth) | _records.circumstances())


def page(records: _records.Records) -> str:
    columns = {
        "accuracy": "accuracy",
        "log_score": "log score",
        "brier": "Brier",
        "calibration": "calibration error",
        "auroc_turned": "AUROC, turned",
        "auroc_inverted": "inverted",
        "auroc_noise": "noise",
        "auroc_all": "all three",
        "cpu_seconds": "processor seconds",
    }
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    groups: dict[str, list[dict]] = {}
    for row in sorted(records.rows, key=lambda row: (row["kind"] == "mixture", row["split"])):
        groups.setdefault(_name(row), []).append(row)
    for name, rows in groups.items():
        digits = {"accuracy": 4, "log_score": 4, "brier": 4, "calibration": 4, "cpu_seconds": 0}
        cells = [f"{np.mean([r[c] for r in rows]):.{digits.get(c, 3)}f}" for c in columns]
        several = f" (mean of {len(rows)})" if len(rows) > 1 else ""
        lines.append(f"| {name}{several} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n" + (_records.provenance(records.rows) if records.rows else "")


def _name(row: dict) -> str:
    method, size = row["method"], row["split"]
    if row["kind"] == "single":
        how = "" if method in (OURS, TEMPERED) else ", images moved" if size < MOVED else ", images as they are"
        return method + how
    which = f"{size} (images moved)" if size == MOVED else f"{size} (half of them moved)"
    return f"deep ensemble of {which}" if method == PLAIN else f"{method}, mixture of {which}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=lambda text: text.split(";"), default=list(METHODS), help="separated by ;")
    parser.add_argument("--members", type=int, default=MEMBERS, help="fits of each method; mixtures need all")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/posterion-images"), help="for what members predict")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the training on moved images")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.epochs, options.members, options.folder = 2, min(options.members, 2), options.folder / "quick"
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
