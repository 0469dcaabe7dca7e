"""A fit by one of several processes: ``python joined_fit.py RESULT COORDINATOR PROCESSES ID CASES FOLDER``."""

import json
import sys
import time

import numpy as np

import posterion as po
from tests.hand_written import linear, network

# 121 rows: neither two devices nor four divide them, nor the batches.
CASES = {
    "all rows": (lambda: linear(num_rows=121), {"n": 200}),
    "batches": (lambda: linear(num_rows=121), {"n": 200, "batch_size": 33}),
    "network": (lambda: network(num_rows=121), {"n": 200, "batch_size": 50}),
    "rounds": (lambda: linear(num_rows=121), {"stop": po.Rounds(first=200, max_steps=1500), "restarts": 2}),
    "long": (lambda: linear(num_rows=121), {"n": 3000, "batch_size": 33}),
}


def fit(case, **options):
    """One of the cases, and every number it comes to."""
    make, arguments = CASES[case]
    approx = po.fit(make(), progress=False, **{"random_seed": 3, **arguments, **options})
    return approx, {"params": approx.params, "hist": approx.hist, "log_weights": approx.log_weights}


def how_it_is_shared():
    """What every device holds of all rows, and how many sums over devices a step takes."""
    from posterion import engine

    target, devices = linear(num_rows=121), po.distributed.team()
    task = engine.Task(engine.Given(target, target.data), 0, team=devices)
    zero = np.zeros(task.layout.size, np.float32)
    task.derivatives(zero, zero, task.sample)
    (program,) = task.derivatives._compiled.values()
    held = task.sample.data["y"].padded
    return [held.shape[0], held.addressable_shards[0].data.shape[0], program.as_text().count(" all-reduce(")]


if __name__ == "__main__":
    result, coordinator, processes, number, cases, folder = sys.argv[1:]
    if int(processes) > 1:
        po.distributed.initialize(coordinator, int(processes), int(number), heartbeat_seconds=20)
    for case in json.loads(cases):
        if case == "long":  # to be killed in
            from posterion.optim import loop

            loop._SECONDS_PER_CHUNK = 1e-3
        checkpoint = po.Checkpoints(f"{folder}/{case}", every_seconds=0) if folder else None
        callbacks = [lambda progress: time.sleep(0.05)] if case == "long" and folder else []
        approx, found = fit(case, checkpoint=checkpoint, callbacks=callbacks)
        np.savez(f"{result}-{case}-{number}.npz", **found)
    print(json.dumps(how_it_is_shared()), flush=True)
