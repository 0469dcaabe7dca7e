"""NUTS on a network of ten tanh units with prior scales learned per layer, for two-class tables that it can manage."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.preprocessing import StandardScaler

import posterion as po
from posterion.predictive import predict

UNITS, WARMUP, DRAWS, MOST_ROWS = 10, 300, 300, 5_000


def nuts_classes(x, y, new, seed):
    """Probabilities by one chain of 300 draws after 300 of warm-up; None where classes or rows are too many."""
    from numpyro.infer import MCMC, NUTS

    if y.max() > 1 or len(x) > MOST_ROWS:
        return None
    scaler = StandardScaler().fit(x)
    widths = (x.shape[1], UNITS, 1)

    def init(key):
        keys = jax.random.split(key, len(widths))
        return [
            {"w": jax.random.normal(k, (a, b)) / jnp.sqrt(a), "b": jnp.zeros(b)}
            for k, a, b in zip(keys, widths, widths[1:], strict=False)
        ]

    def apply(layers, x):
        first, last = layers
        return jnp.tanh(x @ first["w"] + first["b"]) @ last["w"] + last["b"]

    target = po.network((init, apply), data={"x": scaler.transform(x), "y": y}, likelihood="bernoulli")
    with jax.enable_x64(True):
        arrays = target.as_arrays(target.data)
        kernel = NUTS(potential_fn=lambda z: -target.log_density(z, arrays), max_tree_depth=8)
        mcmc = MCMC(kernel, num_warmup=WARMUP, num_samples=DRAWS, progress_bar=False)
        mcmc.run(jax.random.key(seed), init_params=jnp.asarray(target.initial_point(seed)))
        draws = np.asarray(mcmc.get_samples())
    found = predict(target, draws, {"x": scaler.transform(new)}, key=jax.random.key(seed), x64=True)
    of_one = np.asarray(found.mean["y"], float)
    return np.stack([1 - of_one, of_one], axis=1)
