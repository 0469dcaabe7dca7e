"""A fit in a process of its own, to be killed: ``python killed_fit.py FOLDER OPTIONS`` saves what it comes to."""

import json
import sys
import time
from pathlib import Path

import numpy as np

import posterion as po


def target():
    """A logistic regression by hand: 300 rows, which batches of 32 do not divide."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = (rng.random(300) < 1 / (1 + np.exp(-x @ [1.0, -1.0, 0.5, 0.0]))).astype(float)

    def log_prior(params):
        return -0.5 * jnp.sum(params["w"] ** 2)

    def log_likelihood(params, data):
        eta = data["x"] @ params["w"]
        return data["y"] * eta - jax.nn.softplus(eta)

    start = {"w": np.zeros(4)}
    return po.log_density(initial=start, data={"x": x, "y": y}, log_prior=log_prior, log_likelihood=log_likelihood)


def slowly(progress):
    """Leave time to be killed in."""
    time.sleep(0.01)


def fit(folder, **options):
    """The fit; with a folder it writes a checkpoint as often as it can."""
    checkpoint = None if folder is None else po.Checkpoints(folder, every_seconds=0)
    return po.fit(target(), checkpoint=checkpoint, progress=False, random_seed=5, **options)


def what_it_came_to(approx):
    """Every bit of it."""
    comparisons = [[c.step, c.elbo, c.gain, c.standard_error] for c in approx.record.comparisons]
    return {"params": approx.params, "hist": approx.hist, "comparisons": np.array(comparisons, float).ravel()}


if __name__ == "__main__":
    from posterion.optim import loop

    loop._SECONDS_PER_CHUNK = 1e-3  # as many moments as possible
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    if "first" in options:
        options["stop"] = po.Rounds(first=options.pop("first"), max_steps=20_000)
    print("begun", flush=True)
    approx = fit(folder, callbacks=[slowly], **options)
    np.savez(Path(folder) / "result.npz", **what_it_came_to(approx))
