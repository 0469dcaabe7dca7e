"""A fit by one of several processes: ``python joined_fit.py RESULT COORDINATOR PROCESSES ID CASE FOLDER``."""

import json
import sys

import numpy as np

import posterion as po
from tests.hand_written import linear, network

CASES = {
    "all rows": (lambda: linear(num_rows=121), {"n": 200}),
    "batches": (lambda: linear(num_rows=121), {"n": 200, "batch_size": 33}),
    "network": (lambda: network(num_rows=121), {"n": 200, "batch_size": 50}),
    "rounds": (lambda: linear(num_rows=121), {"stop": po.Rounds(first=200, max_steps=1500), "restarts": 2}),
}


def fit(case, **options):
    """One of the cases; the seed is drawn by the first process where none is given."""
    make, arguments = CASES[case]
    approx = po.fit(make(), progress=False, **{"random_seed": 3, **arguments, **options})
    found = {"params": approx.params, "hist": approx.hist, "log_weights": approx.log_weights}
    return approx, found


if __name__ == "__main__":
    result, coordinator, processes, number, cases, folder = sys.argv[1:]
    if int(processes) > 1:
        po.distributed.initialize(coordinator, int(processes), int(number), heartbeat_seconds=20)
    for case in json.loads(cases):
        approx, found = fit(case, checkpoint=f"{folder}/{case}" if folder else None)
        np.savez(f"{result}-{case}-{number}.npz", **found)
        print(case, approx.record.sentence, flush=True)
