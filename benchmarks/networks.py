"""Posteriors of networks: held-out log score by width, and agreement with NUTS where NUTS can be had.

Accuracy only; nothing here is timed to the second, so it may run on a busy machine. Every posterior sees the same
splits, the same network and the same prior, scales learned per layer; but for SWAG and the MAP ensemble, which have no
use for a joint mode with those scales and take the fan-in prior.

    python benchmarks/networks.py --quick          # two splits, short chains: tests the script
    python benchmarks/networks.py                  # all of it
    python benchmarks/networks.py --noise          # noise of gradients and fits in equal time, by row or shared
    python benchmarks/networks.py --render         # writes the documentation's table from the JSON
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import _network_noise
import _records
import jax
import jax.numpy as jnp
import numpy as np

import posterion as po
from posterion.predictive import predict

HERE = Path(__file__).parent
DATA = Path(os.environ.get("POSTERION_DATA", HERE.parent.parent / "shared/data"))
NOISE = HERE / "results/networks_noise.json"
MOST_RHAT = 1.1
"""Of NUTS's predictions, above which its chains are no reference."""
RESULTS, PAGE = HERE / "results/networks.json", HERE.parent / "docs/benchmarks/networks.md"


@dataclass(frozen=True)
class Case:
    """A data set, a network, and whether NUTS can be had for it."""

    name: str
    hidden: tuple[int, ...]
    likelihood: str
    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    size: str
    reference: bool = False
    activation: Callable = jnp.tanh


def uci(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(DATA / f"uci_regression/{name}.npz") as file:
        return file["X"].astype(float), file["y"].astype(float)


def table(name: str, columns: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    with np.load(DATA / f"tabular_classification/{name}.npz") as file:
        return file["X"].astype(float)[:, columns], file["y"].astype(int)


CASES = (
    Case("breast cancer, 2 columns", (5, 5), "bernoulli", lambda: table("breast_cancer_wdbc", slice(2)), "small", True),
    Case("yacht", (10,), "normal", lambda: uci("yacht"), "small", True),
    Case("pima", (10,), "bernoulli", lambda: table("pima"), "small", True),
    Case("concrete", (50,), "normal", lambda: uci("concrete"), "middle", activation=jax.nn.relu),
    Case("energy", (50,), "normal", lambda: uci("energy"), "middle", activation=jax.nn.relu),
    Case("banana", (50,), "bernoulli", lambda: table("banana"), "middle", activation=jax.nn.relu),
    Case("digits", (200, 200), "categorical", lambda: table("digits8x8"), "large", activation=jax.nn.relu),
)


@dataclass(frozen=True)
class Split:
    """Standardised training and test rows; ``shift`` turns a log score back to the outcome's own units."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    shift: float


def split(case: Case, seed: int) -> Split:
    x, y = case.load()
    order = np.random.default_rng([seed, 7]).permutation(len(x))
    if len(order) > 1500 and case.size != "large":
        order = order[:1500]
    cut = len(order) // 2 if len(order) < 600 else int(0.9 * len(order))
    train, test = order[:cut], order[cut:]
    keep = x[train].std(axis=0) > 0
    centre, scale = x[train][:, keep].mean(axis=0), x[train][:, keep].std(axis=0)
    standard = lambda rows: (x[rows][:, keep] - centre) / scale
    if case.likelihood != "normal":
        return Split(standard(train), y[train], standard(test), y[test], 0.0)
    mean, sd = y[train].mean(), y[train].std()
    return Split(standard(train), (y[train] - mean) / sd, standard(test), (y[test] - mean) / sd, float(np.log(sd)))


def network(case: Case, data: Split, prior: object = None) -> object:
    outputs = int(data.y.max()) + 1 if case.likelihood == "categorical" else 1
    widths = (data.x.shape[1], *case.hidden, outputs)

    def init(key):
        keys = jax.random.split(key, len(widths))
        return [
            {"w": jax.random.normal(k, (a, b)) / jnp.sqrt(a), "b": jnp.zeros(b)}
            for k, a, b in zip(keys, widths, widths[1:], strict=False)
        ]

    def apply(layers, x):
        for layer in layers[:-1]:
            x = case.activation(x @ layer["w"] + layer["b"])
        return x @ layers[-1]["w"] + layers[-1]["b"]

    return po.network((init, apply), data={"x": data.x, "y": data.y}, prior=prior, likelihood=case.likelihood)


# ---- posteriors: each gives a prediction of the test rows
def fitted(method: object, prior: object = None, **options: object) -> Callable:
    def run(case: Case, data: Split, seed: int, quick: bool):
        approx = po.fit(network(case, data, prior), method, random_seed=seed, progress=False, **options)
        return approx.predict({"x": data.x_test}, draws=500)

    return run


def map_ensemble(case: Case, data: Split, seed: int, quick: bool, members: int = 8):
    """Modes under the fan-in prior from fresh starts: the baseline, whose spread is no posterior."""
    import optax

    target = network(case, data, prior="fan_in")
    arrays = target.as_arrays(target.data)
    steps = 300 if quick else 3000

    @jax.jit
    def train(z):
        optimiser = optax.adam(optax.cosine_decay_schedule(0.02, steps))

        def step(carry, _):
            z, memory = carry
            updates, memory = optimiser.update(jax.grad(lambda z: -target.log_density(z, arrays))(z), memory)
            return (optax.apply_updates(z, updates), memory), None

        return jax.lax.scan(step, (z, optimiser.init(z)), None, length=steps)[0][0]

    modes = [np.asarray(train(jnp.asarray(target.initial_point(100 * seed + k), jnp.float32))) for k in range(members)]
    return predict(target, np.stack(modes), {"x": data.x_test}, key=jax.random.key(seed), x64=False)


def nuts_chains(target, seeds: list[tuple[int, int]], *, warmup: int, draws: int) -> list[np.ndarray]:
    """Draws of NUTS, (draws, dim) for each pair of seeds: of the chain, and of where it starts."""
    from numpyro.infer import MCMC, NUTS

    chains = []
    with jax.enable_x64(True):
        arrays = target.as_arrays(target.data)
        kernel = NUTS(potential_fn=lambda z: -target.log_density(z, arrays), max_tree_depth=8)
        for seed, start in seeds:
            mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
            mcmc.run(jax.random.key(seed), init_params=jnp.asarray(target.initial_point(start)))
            chains.append(np.asarray(mcmc.get_samples()))
    return chains


def nuts(case: Case, data: Split, seed: int, quick: bool):
    """Its predictions, and R-hat of their means: the ninth decile over test rows, between two chains."""
    target, steps = network(case, data), 100 if quick else 1000
    seeds = [(1000 * seed + chain, 10 * seed + chain) for chain in range(2)]
    chains = nuts_chains(target, seeds, warmup=steps // 2, draws=steps)
    new, key = {"x": data.x_test}, jax.random.key(seed)
    chains = [draws[:: 1 if quick else 4] for draws in chains]
    alone = [predict(target, draws, new, key=key, x64=True) for draws in chains]
    between = np.var([found.mean["y"] for found in alone], axis=0, ddof=1)
    within = np.mean([found.epistemic["y"] for found in alone], axis=0)
    rhat = np.sqrt(1 - 1 / len(chains[0]) + between / np.maximum(within, 1e-12))
    return predict(target, np.concatenate(chains), new, key=key, x64=True), float(np.quantile(rhat, 0.9))


POSTERIORS: dict[str, Callable] = {
    "mean-field": fitted("advi"),
    "low rank (10)": fitted(po.ADVI(family=po.LowRank(rank=10))),
    "IVON": fitted("ivon"),
    "linearised Laplace": fitted("linearised_laplace"),
    "last layer": fitted(po.LinearisedLaplace(weights="last")),
    "variational last layer": fitted("variational_last_layer"),
    "SWAG": fitted("swag", "fan_in", batch_size=32, n=10_000),
    "MAP ensemble (8)": map_ensemble,
}


def measure(case: Case, name: str, run: Callable, data: Split, seed: int, quick: bool, reference: object) -> dict:
    began = time.process_time()
    found = run(case, data, seed, quick)
    scores = found.log_score("y", data.y_test) - data.shift
    row = {"case": case.name, "posterior": name, "split": seed, "log_score": float(np.mean(scores))}
    row["cpu_seconds"] = time.process_time() - began
    if reference is not None:
        spread, known = np.asarray(found.epistemic["y"]), np.asarray(reference.epistemic["y"])
        row["sd_ratio"] = float(np.median(np.sqrt(spread / np.maximum(known, 1e-12))))
        if case.likelihood == "bernoulli":
            row["total_variation"] = float(np.mean(np.abs(found.mean["y"] - reference.mean["y"])))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--cases", default="", help="beginnings of names, with commas")
    parser.add_argument("--posteriors", default="", help="beginnings of names, with commas")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--reference", action="store_true", help="NUTS too, where it can be had")
    options = parser.parse_args()
    if options.render:
        render()
        return
    if options.noise:
        noise(options.quick)
        return
    wanted = lambda name, given: not given or any(name.startswith(part) for part in given.split(","))
    for case in CASES:
        if not wanted(case.name, options.cases):
            continue
        for seed in range(1 if options.quick else options.splits if case.size != "large" else min(2, options.splits)):
            data = split(case, seed)
            reference = None
            if options.reference and case.reference and seed < 2:
                began = time.process_time()
                reference, rhat = nuts(case, data, seed, options.quick)
                seconds = time.process_time() - began
                score = float(np.mean(reference.log_score("y", data.y_test))) - data.shift
                row = {"case": case.name, "posterior": "NUTS", "split": seed, "log_score": score}
                keep(row | {"cpu_seconds": seconds, "rhat": rhat}, options.quick)
            for name, run in POSTERIORS.items():
                if wanted(name, options.posteriors):
                    try:
                        row = measure(case, name, run, data, seed, options.quick, reference)
                    except Exception as error:  # a posterior that fails is a row that says so
                        row = {"case": case.name, "posterior": name, "split": seed, "error": str(error)[:200]}
                    keep(row, options.quick)


def noise(quick: bool) -> None:
    """One draw of the weights for a batch against draws by row (see `_network_noise`)."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    steps = _network_noise.measure((50,), (32,)) if quick else _network_noise.measure()
    fits = []
    for name, batch_size, seconds, splits in (("concrete", 32, 4, 3), ("energy", 32, 4, 3), ("digits", 64, 20, 2)):
        case = next(case for case in CASES if case.name == name)
        for seed in range(0 if quick else splits):
            data = split(case, seed)
            test = {"x": data.x_test, "y": data.y_test}
            found = _network_noise.equal_time(partial(network, case, data), test, batch_size, seconds)
            found |= {f"score_{way}": found[f"score_{way}"] - data.shift for way in _network_noise.WAYS}
            label = f"{name}, {'-'.join(map(str, case.hidden))}"
            fits.append({"case": label, "batch": batch_size, "seconds": seconds, "split": seed} | found)
            print(json.dumps(fits[-1]), flush=True)
    if not quick:
        NOISE.write_text(json.dumps({"steps": steps, "fits": fits} | _records.circumstances(), indent=1) + "\n")


def keep(row: dict, quick: bool) -> None:
    print(json.dumps(row), flush=True)
    if quick:
        return
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    same = ("case", "posterior", "split")
    rows = [old for old in rows if any(old[k] != row[k] for k in same)] + [row]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def render() -> None:
    """Write the table into the documentation's page, between its marks."""
    rows = json.loads(RESULTS.read_text())
    known = {case.name: [r["rhat"] for r in rows if r["case"] == case.name and "rhat" in r] for case in CASES}
    mixed = {name for name, values in known.items() if values and max(values) < MOST_RHAT}
    rows = [r for r in rows if r["posterior"] != "NUTS" or r["case"] in mixed]
    names = [name for name in (*POSTERIORS, "NUTS") if any(row["posterior"] == name for row in rows)]
    lines = ["| data, network | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        scores = {
            name: {
                r["split"]: r["log_score"]
                for r in rows
                if (r["case"], r["posterior"]) == (case.name, name) and "log_score" in r
            }
            for name in names
        }
        if not any(scores.values()):
            continue
        means = {name: np.mean(list(found.values())) for name, found in scores.items() if found}
        comparable = {
            name: value for name, value in means.items() if len(scores[name]) == max(map(len, scores.values()))
        }
        best = max(comparable, key=comparable.__getitem__)
        cells = []
        for name in names:
            found = scores[name]
            if not found:
                cells.append("")
                continue
            common = sorted(set(found) & set(scores[best]))
            differences = [found[s] - scores[best][s] for s in common]
            error = np.std(differences, ddof=1) / np.sqrt(len(common)) if len(common) > 1 and name != best else 0.0
            few = f" ({len(found)})" if len(found) < max(map(len, scores.values())) else ""
            # Of fewer splits, the best's mean and the difference on those: means over other splits say nothing.
            mean = means[best] + np.mean(differences) if few else means[name]
            text = f"{mean:.3f}" + (f" ± {error:.3f}" if error else "") + few
            cells.append(f"**{text}**" if name == best else text)
        lines.append(f"| {case.name}, {'-'.join(map(str, case.hidden))} | " + " | ".join(cells) + " |")
    agreement = [r for r in rows if "sd_ratio" in r and r["case"] in mixed]
    lines += agreement and [
        "",
        "| agreement with NUTS | spread / NUTS's, median over test rows | total variation of probabilities |",
        "|---|---|---|",
    ]
    for case in CASES:
        for name in names:
            found = [r for r in agreement if (r["case"], r["posterior"]) == (case.name, name)]
            if found:
                variation = [r["total_variation"] for r in found if "total_variation" in r]
                shown = f"{np.mean(variation):.3f}" if variation else ""
                lines.append(f"| {case.name}: {name} | {np.mean([r['sd_ratio'] for r in found]):.2f} | {shown} |")
    if any(known.values()):
        said = [f"{name} {', '.join(f'{value:.2f}' for value in values)}" for name, values in known.items() if values]
        lines += ["", "R-hat of NUTS's predictions between its two chains, ninth decile of the test rows, by split: "]
        lines[-1] += "; ".join(said) + "."
    fill_in("table", lines)
    if NOISE.exists():
        fill_in("noise", _network_noise.tables(json.loads(NOISE.read_text())))


def fill_in(mark: str, lines: list[str]) -> None:
    """Write lines into the documentation's page, between their marks."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found, rest = PAGE.read_text().partition(begin)
    if not found:
        raise ValueError(f"{PAGE} has no {begin} to fill in")
    PAGE.write_text(before + begin + "\n\n" + "\n".join(lines) + "\n\n" + end + rest.partition(end)[2])


if __name__ == "__main__":
    main()
