"""What the batch-minor pass is worth: microseconds per step of mean-field ADVI with Adam, in one scan.

Three writings of each network: by hand with rows first (``X @ W``), by hand with rows last (``W.T @ X.T``), and the
first one under the pass with packed data. Repeats are interleaved and the smallest time counts; compiling is timed
apart. Run on a quiet machine:

    python benchmarks/minor_axis.py [--steps 10000] [--repeats 5]
"""

import argparse
import platform
import time
from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from posterion.compilation.minor_axis import batch_minor, pack

# Rows, widths from input to output, final layer's likelihood by its width: 1 is Bernoulli, more are classes.
NETWORKS = {
    "2-5-5-1": (284, (2, 5, 5, 1)),
    "8-10-10-1": (1000, (8, 10, 10, 1)),
    "8-32-32-1": (1000, (8, 32, 32, 1)),
    "64-32-10": (1000, (64, 32, 10)),
    "13-50-50-1": (500, (13, 50, 50, 1)),
}


def log_density(widths: tuple[int, ...], *, rows_last: bool) -> Callable:
    """Log joint density of a tanh network with standard normal weights, written in one of two ways."""

    def function(z, data):
        h, start = data["x"], 0
        for k, (inputs, outputs) in enumerate(pairwise(widths)):
            weights = z[start : start + inputs * outputs].reshape(inputs, outputs)
            start += inputs * outputs
            h = weights.T @ h if rows_last else h @ weights
            h = jnp.tanh(h) if k < len(widths) - 2 else h
        classes, label = (0 if rows_last else 1), data["y"]
        if widths[-1] == 1:
            logits = jnp.squeeze(h, classes)
            log_likelihood = jnp.sum(label * logits - jax.nn.softplus(logits))
        else:
            picked = jnp.take_along_axis(jax.nn.log_softmax(h, classes), jnp.expand_dims(label, classes), classes)
            log_likelihood = jnp.sum(picked)
        return log_likelihood - 0.5 * jnp.sum(z**2)

    return function


def fit(function: Callable, dim: int, steps: int) -> Callable:
    """ADVI on a packed state: location and log scale, one draw a step."""
    optimiser = optax.adam(0.01)

    def loss(params, noise, data):
        location, log_scale = params
        return -function(location + jnp.exp(log_scale) * noise, data) - jnp.sum(log_scale)

    def step(data, carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, jax.random.normal(key, (dim,)), data)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), value

    def run(key, data):
        params = jnp.stack([0.1 * jax.random.normal(key, (dim,)), jnp.full(dim, -2.0)])
        return lax.scan(lambda c, k: step(data, c, k), (params, optimiser.init(params)), jax.random.split(key, steps))[
            1
        ]

    return jax.jit(run)


def rows_of(num_rows: int, widths: tuple[int, ...]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Data with rows first, and the same with rows last."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, widths[0])).astype("float32")
    y = rng.integers(0, max(2, widths[-1]), num_rows).astype("int32" if widths[-1] > 1 else "float32")
    return {"x": x, "y": y}, {"x": np.ascontiguousarray(x.T), "y": y}


def measure(num_rows: int, widths: tuple[int, ...], steps: int, repeats: int) -> dict[str, tuple[float, float, float]]:
    """Microseconds per step, seconds to compile and final loss, by way of writing."""
    dim = sum(inputs * outputs for inputs, outputs in pairwise(widths))
    rows_first, rows_last = rows_of(num_rows, widths)
    as_written = log_density(widths, rows_last=False)
    ways = {
        "rows first": (as_written, jax.device_put(rows_first)),
        "rows last": (log_density(widths, rows_last=True), jax.device_put(rows_last)),
        "pass": (batch_minor(as_written), pack(rows_first, {"x": 0, "y": 0})),
    }
    key, programs, compiling = jax.random.key(0), {}, {}
    for name, (function, data) in ways.items():
        start = time.perf_counter()
        programs[name] = fit(function, dim, steps).lower(key, data).compile()
        compiling[name] = time.perf_counter() - start
    seconds = dict.fromkeys(ways, np.inf)
    loss = {}
    for _ in range(repeats):
        for name, (_, data) in ways.items():
            start = time.perf_counter()
            losses = programs[name](key, data).block_until_ready()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            loss[name] = float(losses[-steps // 10 :].mean())
    return {name: (1e6 * seconds[name] / steps, compiling[name], loss[name]) for name in ways}


def main() -> None:
    """Print one row per network."""
    parser = argparse.ArgumentParser(description="What the batch-minor pass is worth, per step.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    machine = f"Python {platform.python_version()}, {platform.machine()}"
    print(f"jax {jax.__version__}, {machine}, float32, {options.steps} steps")
    print(f"{'network':>12} {'rows':>6} | us/step: rows first  rows last   pass | compile s (same) | loss (same)")
    for name, (num_rows, widths) in NETWORKS.items():
        found = measure(num_rows, widths, options.steps, options.repeats)
        (first, *_), (last, *_), (under_pass, *_) = found.values()
        compiling = " ".join(f"{row[1]:.2f}" for row in found.values())
        loss = " ".join(f"{row[2]:.1f}" for row in found.values())
        print(
            f"{name:>12} {num_rows:>6} | {first:19.1f} {last:10.1f} {under_pass:6.1f} | {compiling} | {loss}",
            flush=True,
        )


if __name__ == "__main__":
    main()
