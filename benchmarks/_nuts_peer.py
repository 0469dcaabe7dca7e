"""NUTS on a network of ten tanh units with prior scales learned per layer, for two-class tables that it can manage."""

import jax
import networks
import numpy as np
from sklearn.preprocessing import StandardScaler

from posterion.predictive import predict

UNITS, WARMUP, DRAWS, MOST_ROWS = 10, 300, 300, 5_000


def nuts_classes(x, y, new, seed):
    """Probabilities by one chain of 300 draws after 300 of warm-up; None where classes or rows are too many."""
    if y.max() > 1 or len(x) > MOST_ROWS:
        return None
    scaler = StandardScaler().fit(x)
    case = networks.Case("", (UNITS,), "bernoulli", lambda: (x, y), "small")
    data = networks.Split(scaler.transform(x), y, scaler.transform(new), np.empty(0), 0.0)
    target = networks.network(case, data)
    (draws,) = networks.nuts_chains(target, [(seed, seed)], warmup=WARMUP, draws=DRAWS)
    found = predict(target, draws, {"x": data.x_test}, key=jax.random.key(seed), x64=True)
    of_one = np.asarray(found.mean["y"], float)
    return np.stack([1 - of_one, of_one], axis=1)
