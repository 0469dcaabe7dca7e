# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # For people who train networks
#
# You have a network that works. How sure is it, and where should it not be asked? A network of Flax, Equinox or plain
# JAX becomes a Bayesian model by one call.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import posterion as po

random = np.random.default_rng(0)
x = np.concatenate([random.uniform(-2, -0.7, 60), random.uniform(0.6, 1.8, 60)])[:, None]
y = np.sin(3 * x[:, 0]) + 0.15 * random.normal(size=len(x))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(1, 24, rngs=rngs)
        self.out = nnx.Linear(24, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x)))


target = po.network(Net(nnx.Rngs(0)), data={"x": x, "y": y}, likelihood="normal")

# %% [markdown]
# ## Two posteriors of one network
#
# Mean-field variational inference is the usual choice. Linearised Laplace takes the curvature at a mode, and the
# network's tangent there. There are no data between -0.7 and 0.6, and a posterior that is any good says so.

# %%
fits = {
    "mean-field": po.fit(target, "advi", random_seed=1, progress=False),
    "linearised Laplace": po.fit(target, "linearised_laplace", random_seed=1, progress=False),
}
grid = np.linspace(-2.6, 2.4, 250)[:, None]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
for ax, (name, approx) in zip(axes, fits.items(), strict=True):
    found = approx.predict({"x": grid}, random_seed=2)
    mean, ignorance, total = found.mean["y"], found.mean_std["y"], found.std["y"]
    ax.fill_between(grid[:, 0], mean - 2 * total, mean + 2 * total, alpha=0.2, label="new outcomes")
    ax.fill_between(grid[:, 0], mean - 2 * ignorance, mean + 2 * ignorance, alpha=0.5, label="the function")
    ax.plot(x[:, 0], y, "k.", ms=3)
    ax.set(title=name, xlabel="x", ylim=(-3, 3))
axes[0].legend()
plt.show()

# %% [markdown]
# In figures: how uncertain the function is inside the gap and where the data are, and what the verdict says.
# Independent normals pay for each weight that they use: here it is cheaper for mean-field to ignore the inputs, and it
# is as unsure among the data as between them. The verdict notices. On a table of this size the other posterior is the
# better one.

# %%
for name, approx in fits.items():
    gap, data = (approx.predict({"x": np.array([[at]])}, random_seed=2).mean_std["y"][0] for at in (0.0, 1.2))
    print(f"{name:20} sd of the function: {gap:.3f} in the gap, {data:.3f} among the data")
    verdict = approx.diagnose()
    print(f"{'':20} {'trustworthy' if verdict.trustworthy else verdict.reasons[0]}")

# %% [markdown]
# Equinox and Linen modules, priors, tempering, several heads, batches for millions of rows:
# [networks](../how-to/networks.md). For a table, the [estimators](../how-to/estimators.md) need no network from you.
