"""Noise of gradients and processor time of steps, with one draw of the weights for a batch and with draws by row."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import posterion as po
from posterion._typing import Batch
from posterion.compilation.row_noise import POOL
from posterion.families import MeanField
from posterion.methods.advi import ADVI
from posterion.objectives.bounds import log_joint
from posterion.objectives.gradients import sticking_the_landing
from posterion.objectives.local_noise import RowNoise, local_integrand, local_noise

WIDTHS, BATCHES = (50, 200, 1000), (32, 128, 512)
ROWS, INPUTS = 8192, 20
STEPS_TO_THE_PLACE, GRADIENTS, REPEATS = 1000, 32, 5
WAYS = ("shared", "local")


def target_of(width: int) -> Any:
    """A network of two hidden layers for rows whose outcome another function gives, with noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, INPUTS))
    y = np.sin(x[:, :5].sum(axis=1)) + 0.5 * x[:, 5] * x[:, 6] + 0.3 * random.normal(size=ROWS)
    widths = (INPUTS, width, width, 1)

    def init(key):
        keys = jax.random.split(key, 3)
        return [
            {"w": jax.random.normal(k, (a, b)) / jnp.sqrt(a), "b": jnp.zeros(b)}
            for k, a, b in zip(keys, widths, widths[1:], strict=False)
        ]

    def apply(layers, x):
        for layer in layers[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return x @ layers[-1]["w"] + layers[-1]["b"]

    return po.network((init, apply), data={"x": x, "y": y}, likelihood="normal")


class Bench:
    """Both kinds of noise for one network, at a place where a fit has come to.

    Parameters
    ----------
    width
        Of its hidden layers.
    """

    def __init__(self, width: int) -> None:
        self.target, self.layout = target_of(width), None
        approx = po.fit(self.target, "advi", n=STEPS_TO_THE_PLACE, batch_size=128, random_seed=1, progress=False)
        self.params = jnp.asarray(approx.params, jnp.float32)
        self.layout = self.target.layout
        self.data = self.target.as_arrays(self.target.data)
        self.joint = log_joint(self.target, ("y",))
        self.pool = jax.random.normal(jax.random.key(7), (POOL,))
        found = local_noise(self.target, self.data)
        self.rows = RowNoise(found.places, found.log_joint(("y",)))
        ways = {"shared": (ADVI(), None), "local": (ADVI(noise="local"), self.rows)}
        self.algorithms = {
            name: method.algorithm(self.joint, self.layout, None, rows) for name, (method, rows) in ways.items()
        }

    def spread(self, name: str, batch_size: int) -> np.ndarray:
        """Variance of each entry of a step's gradient, over rows and draws."""
        family, zero, one = MeanField(), jnp.zeros(self.layout.size), jnp.ones(self.layout.size)
        shared = sticking_the_landing(self.joint, family, self.layout)
        integrand = shared if name == "shared" else local_integrand(self.rows, family, zero, one, self.pool)
        noise = self.algorithms[name].noise(jax.random.key(3), 2 * GRADIENTS)
        noise = jax.tree.map(lambda x: x[::2, 0], noise)  # no mirror images
        order = np.random.default_rng(4).permuted(np.tile(np.arange(ROWS), (GRADIENTS, 1)), axis=1)[:, :batch_size]

        def run(params, noise, order):
            def moments(carry, given):
                one, index = given
                batch = Batch({k: v[index] for k, v in self.data.items()}, jnp.ones(batch_size, bool))
                gradient = jax.grad(integrand)(params, one, batch)
                return (carry[0] + gradient, carry[1] + gradient**2), None

            zero = (jnp.zeros_like(params), jnp.zeros_like(params))
            (first, second), _ = jax.lax.scan(moments, zero, (noise, order))
            return second / GRADIENTS - (first / GRADIENTS) ** 2

        return np.asarray(jax.jit(run)(self.params, noise, order), np.float64)

    def clock(self, name: str, batch_size: int, steps: int) -> Callable[[], float]:
        """Processor seconds of a step: noise, gradient and Adam's move, rows cut out of all rows."""
        algorithm = self.algorithms[name]
        method = ADVI(noise=name)
        zero, one = jnp.zeros(self.layout.size), jnp.ones(self.layout.size)
        state = method.start(self.layout, jax.random.key(0), zero, 0.1, zero, one)
        order = np.random.default_rng(0).integers(0, ROWS, (steps, batch_size)).astype(np.int32)

        @jax.jit
        def run(state, order, data):
            noise = algorithm.noise(jax.random.key(0), steps)

            def step(state, given):
                one, index = given
                batch = Batch({k: v[index] for k, v in data.items()}, jnp.ones(batch_size, bool))
                return algorithm.step(one, state, batch, jnp.float32(1e-3))[0], None

            return jax.lax.scan(step, state, (noise, order))[0]

        jax.block_until_ready(run(state, order, self.data))  # compiles

        def measured() -> float:
            begun = time.process_time()
            jax.block_until_ready(run(state, order, self.data))
            return (time.process_time() - begun) / steps

        return measured


def measure(widths: tuple[int, ...] = WIDTHS, batches: tuple[int, ...] = BATCHES) -> list[dict]:
    """One row per width and batch size."""
    rows = []
    for width in widths:
        bench = Bench(width)
        for batch_size in batches:
            spreads = {name: bench.spread(name, batch_size) for name in bench.algorithms}
            steps = max(3, min(100, 2**18 // bench.layout.size))
            clocks = {name: bench.clock(name, batch_size, steps) for name in bench.algorithms}
            taken: dict[str, list[float]] = {name: [] for name in clocks}
            for _ in range(REPEATS):
                for name, clock in clocks.items():
                    taken[name].append(clock())
            row: dict[str, Any] = {"width": width, "batch": batch_size, "weights": bench.layout.size}
            moved = (spreads["shared"] > 0) & (spreads["local"] > 0)
            row["variance"] = float(np.exp(np.mean(np.log(spreads["local"][moved] / spreads["shared"][moved]))))
            row |= {f"seconds_{name}": float(np.median(values)) for name, values in taken.items()}
            print(row, flush=True)
            rows.append(row)
    return rows


def equal_time(network: Callable[[], Any], test: Mapping[str, np.ndarray], batch_size: int, seconds: float) -> dict:
    """Held-out log scores after as many steps as fit into ``seconds`` of processor time, compiling not counted."""
    found: dict[str, Any] = {}
    target = network()
    for name in WAYS:
        clock: list[tuple[int, float]] = []
        note = lambda now, clock=clock: clock.append((now.step, time.process_time()))
        options = {"batch_size": batch_size, "random_seed": 0, "progress": False}
        po.fit(target, ADVI(noise=name), n=1000, callbacks=[note], **options)
        (first, begun), (last, ended) = clock[0], clock[-1]
        steps = int(seconds * (last - first) / (ended - begun))
        approx = po.fit(target, ADVI(noise=name), n=steps, **options)
        scores = approx.predict({"x": test["x"]}, draws=500).log_score("y", test["y"])
        found |= {f"steps_{name}": steps, f"score_{name}": float(np.mean(scores)), f"elbo_{name}": float(approx.elbo)}
    return found


def tables(record: Mapping[str, Any]) -> list[str]:
    """Local noise over shared noise: of gradients, and what fits come to in the same time."""
    lines = [
        "| width, rows of a step | variance of the gradient | processor time of a step | variance times time |",
        "|---|---|---|---|",
    ]
    for row in record["steps"]:
        seconds = row["seconds_local"] / row["seconds_shared"]
        name = f"{row['width']}-{row['width']}, {row['batch']}"
        shown = f"{seconds:.2f} ({1e3 * row['seconds_local']:.2f} ms)"
        lines.append(f"| {name} | {row['variance']:.2f} | {shown} | {row['variance'] * seconds:.2f} |")
    lines += [
        "",
        "| data, network, rows of a step | processor time | steps, shared and local | log score, shared | local | "
        "ELBO, shared | local |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, batch_size, seconds), rows in _by_case(record["fits"]).items():
        cells = [f"{name}, {batch_size}", f"{seconds:g} s"]
        cells.append(" and ".join(f"{int(np.mean([row[f'steps_{way}'] for row in rows])):,}" for way in WAYS))
        cells += [f"{np.mean([row[f'score_{way}'] for row in rows]):.3f}" for way in WAYS]
        cells += [f"{np.mean([row[f'elbo_{way}'] for row in rows]):.0f}" for way in WAYS]
        lines.append(f"| {' | '.join(cells)} |")
    splits = ", ".join(f"{len(rows)} of {name}" for (name, *_), rows in _by_case(record["fits"]).items())
    return [
        *lines,
        "",
        f"Means over splits: {splits}. Measured {record['date'][:10]} at {record['commit']} on {record['processor']}, "
        f"one core, jax {record['versions']['jax']}.",
    ]


def _by_case(rows: Sequence[Mapping[str, Any]]) -> dict[tuple, list[Mapping[str, Any]]]:
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["case"], row["batch"], row["seconds"]), []).append(row)
    return found
