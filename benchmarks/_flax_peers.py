"""The two usual baselines of uncertainty in networks, in Flax: ensembles, and dropout at prediction time."""

from functools import lru_cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Perceptron(nn.Module):
    """Rectified layers; with a rate, dropout before each layer, as in Gal's code."""

    hidden: tuple[int, ...]
    outputs: int
    rate: float = 0.0

    @nn.compact
    def __call__(self, x, *, drop: bool):
        for units in self.hidden:
            x = nn.Dropout(self.rate, deterministic=not drop)(x)
            x = nn.relu(nn.Dense(units)(x))
        x = nn.Dropout(self.rate, deterministic=not drop)(x)
        return nn.Dense(self.outputs)(x)


@lru_cache(maxsize=32)
def _trainer(module: Perceptron, kind: str, weight_decay: float, learning_rate: float):
    optimiser = optax.adamw(learning_rate, weight_decay=weight_decay)

    def loss(params, x, y, key):
        out = module.apply(params, x, drop=module.rate > 0, rngs={"dropout": key})
        if kind == "heteroscedastic":
            variance = jax.nn.softplus(out[:, 1]) + 1e-6
            return 0.5 * jnp.mean(jnp.log(variance) + (y - out[:, 0]) ** 2 / variance)
        if kind == "squares":
            return jnp.mean((y - out[:, 0]) ** 2)
        return optax.softmax_cross_entropy_with_integer_labels(out, y.astype(int)).mean()

    @jax.jit
    def epochs(params, x, y, order, key):
        def step(carry, now):
            params, state, key = carry
            key, own = jax.random.split(key)
            slopes = jax.grad(loss)(params, x[now], y[now], own)
            updates, state = optimiser.update(slopes, state, params)
            return (optax.apply_updates(params, updates), state, key), None

        return jax.lax.scan(step, (params, optimiser.init(params), key), order)[0][0]

    return epochs


def train(module, kind, x, y, *, epochs, batch, seed, weight_decay=1e-4, learning_rate=0.01):
    """Parameters after some epochs of Adam on mini-batches."""
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    rng = np.random.default_rng(seed)
    batch = min(batch, len(x))
    per_epoch = len(x) // batch
    order = np.concatenate(
        [rng.permutation(len(x))[: per_epoch * batch].reshape(per_epoch, batch) for _ in range(epochs)]
    )
    params = module.init(jax.random.key(seed), x[:2], drop=False)
    return _trainer(module, kind, weight_decay, learning_rate)(
        params, x, y, jnp.asarray(order), jax.random.key(seed + 1)
    )


@lru_cache(maxsize=32)
def _outputs(module: Perceptron, drop: bool):
    return jax.jit(lambda params, x, key: module.apply(params, x, drop=drop, rngs={"dropout": key}))


def outputs(module, params, x, *, seed=0, draws=None):
    """Outputs for new rows; with ``draws``, so many with dropout left on."""
    x = jnp.asarray(x, jnp.float32)
    if draws is None:
        return np.asarray(_outputs(module, False)(params, x, jax.random.key(seed)), float)
    keys = jax.random.split(jax.random.key(seed), draws)
    return np.stack([np.asarray(_outputs(module, True)(params, x, key), float) for key in keys])
