"""What one process of a job does for `distributed.py`; prints one line of JSON at its end."""

import json
import sys
import time

import numpy as np


def target(rows: int):
    """A logistic regression on 20 columns, as a plain density with rows."""
    import jax
    import jax.numpy as jnp

    import posterion as po

    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 20))
    y = (rng.random(rows) < 1 / (1 + np.exp(-x @ rng.standard_normal(20) / 4))).astype(float)

    def likelihood(params, batch):
        eta = batch["x"] @ params["w"]
        return batch["y"] * eta - jax.nn.softplus(eta)

    prior = lambda params: -0.5 * jnp.sum(params["w"] ** 2)
    start, data = {"w": np.zeros(20)}, {"x": x, "y": y}
    return po.log_density(initial=start, data=data, log_prior=prior, log_likelihood=likelihood)


def numbers(options: dict, rows: int, result: str, number: int) -> dict:
    """The parameters a fit comes to, left in a file."""
    import posterion as po

    approx = po.fit(target(rows), progress=False, random_seed=3, **options)
    np.savez(f"{result}-{number}.npz", params=approx.params, hist=approx.hist)
    return {"sentence": approx.record.sentence}


def speed(options: dict, rows: int, short: int, long: int) -> dict:
    """Seconds per step from two lengths, so that all that does not depend on the length cancels."""
    import posterion as po

    model, seconds = target(rows), {}
    for n in (short, short, long):  # the first compiles
        begin = time.perf_counter()
        po.fit(model, n=n, progress=False, random_seed=3, **options)
        seconds[n] = time.perf_counter() - begin
    return {"step": (seconds[long] - seconds[short]) / (long - short), "short": seconds[short]}


def to_be_killed(options: dict, rows: int, folder: str, number: int) -> dict:
    """A fit that writes a checkpoint as often as it can, and leaves time to be killed in."""
    import posterion as po
    from posterion.optim import loop

    loop._SECONDS_PER_CHUNK = 1e-3
    checkpoint = po.Checkpoints(folder, every_seconds=0)
    wait = [lambda progress: time.sleep(0.02)]
    approx = po.fit(target(rows), checkpoint=checkpoint, callbacks=wait, progress=False, random_seed=3, **options)
    np.savez(f"{folder}/result-{number}.npz", params=approx.params, hist=approx.hist)
    return {"sentence": approx.record.sentence}


if __name__ == "__main__":
    coordinator, processes, number, task, arguments = sys.argv[1:]
    if int(processes) > 1:
        import posterion

        posterion.distributed.initialize(coordinator, int(processes), int(number), heartbeat_seconds=20)
    tasks = {"numbers": numbers, "speed": speed, "to_be_killed": to_be_killed}
    keywords = json.loads(arguments)
    if task != "speed":
        keywords["number"] = int(number)
    print(json.dumps(tasks[task](**keywords)))
