"""What one step of IVON costs on a million weights, over one of Adam on the same network without uncertainty.

    python benchmarks/step_cost.py             a minute or two of one core
    python benchmarks/step_cost.py --render    the page's line anew from the record

Processor time of one process that stays on one core, so that neighbours lengthen both alike. IVON's clock is read
between the chunks of a fit, from the first to the last, Adam's before and after a program of as many steps.
"""

import argparse
import json
import os
import time
from pathlib import Path

import _records
import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks/results/step_cost.json", ROOT / "docs/benchmarks/networks.md"
WIDTHS, BATCH, ROWS = (784, 1000, 200, 10), 128, 1_024
STEPS, REPEATS = 200, 5
BEGIN, END = "<!-- step cost -->", "<!-- end of step cost -->"


def rows() -> tuple[np.ndarray, np.ndarray]:
    with np.load(_records.data_folder() / "images/mnist.npz") as file:
        return file["x_train"][:ROWS].reshape(ROWS, -1).astype(np.float32) / 255, file["y_train"][:ROWS].astype(int)


def weights_of(key):
    import jax
    import jax.numpy as jnp

    shapes = list(zip(WIDTHS, WIDTHS[1:], strict=False))
    keys = jax.random.split(key, len(shapes))
    return [
        {"w": jax.random.normal(k, (a, b)) / jnp.sqrt(a), "b": jnp.zeros(b)}
        for k, (a, b) in zip(keys, shapes, strict=True)
    ]


def apply(layers, x):
    import jax

    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def ivon(x, y):
    """Seconds of a step, of a fit."""
    import posterion as po

    target = po.network((weights_of, apply), data={"x": x, "y": y}, likelihood="categorical", prior="fan_in")

    def measured() -> float:
        clock = []
        po.fit(
            target,
            "ivon",
            n=STEPS,
            batch_size=BATCH,
            random_seed=0,
            progress=False,
            callbacks=[lambda now: clock.append((now.step, time.process_time()))],
        )
        (first, begun), (last, ended) = clock[0], clock[-1]
        return (ended - begun) / (last - first)

    return measured


def adam(x, y):
    """The same by hand: mean cross entropy, weight decay in place of the prior, batches picked in the program."""
    import jax
    import jax.numpy as jnp
    import optax

    optimiser = optax.adamw(1e-3, weight_decay=1e-4)
    start = weights_of(jax.random.key(0))

    @jax.jit
    def run(state, order, x, y):
        def loss(weights, index):
            return optax.softmax_cross_entropy_with_integer_labels(apply(weights, x[index]), y[index]).mean()

        def step(state, index):
            weights, memory = state
            updates, memory = optimiser.update(jax.grad(loss)(weights, index), memory, weights)
            return (optax.apply_updates(weights, updates), memory), None

        return jax.lax.scan(step, state, order)[0]

    order = np.random.default_rng(0).integers(0, len(x), (STEPS, BATCH)).astype(np.int32)
    arguments = ((start, optimiser.init(start)), order, jnp.asarray(x), jnp.asarray(y))
    jax.block_until_ready(run(*arguments))  # compiles

    def measured() -> float:
        begun = time.process_time()
        jax.block_until_ready(run(*arguments))
        return (time.process_time() - begun) / STEPS

    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true")
    if not parser.parse_args().render:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        x, y = rows()
        clocks = {"ivon": ivon(x, y), "adam": adam(x, y)}
        record: dict = {name: [] for name in clocks}
        for _ in range(REPEATS):
            for name, measured in clocks.items():
                record[name].append(measured())
        record["weights"] = sum((a + 1) * b for a, b in zip(WIDTHS, WIDTHS[1:], strict=False))
        RESULTS.write_text(json.dumps(record | _records.circumstances(), indent=1) + "\n")
    record = json.loads(RESULTS.read_text())
    ours, theirs = (1e3 * np.array(record[name]) for name in ("ivon", "adam"))
    line = (
        f"{record['weights']:,} weights, batches of {BATCH}: {np.median(ours):.1f} ms a step of IVON, "
        f"{np.median(theirs):.1f} ms of Adam, ratio of medians {np.median(ours) / np.median(theirs):.2f} "
        f"(at most 1.3 wanted; {ours.min():.1f} to {ours.max():.1f} and {theirs.min():.1f} to {theirs.max():.1f} ms "
        f"over {len(ours)} repeats). Measured {record['date'][:10]} at {record['commit']} on {record['processor']}, "
        f"one core, jax {record['versions']['jax']}."
    )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{line}\n\n{END}{rest.partition(END)[2]}")
    print(line)


if __name__ == "__main__":
    main()
