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
# # Hierarchical networks: one for each group, pooled
#
# Twelve groups, each with a few rows. One network for all of them cannot follow what differs; a network for each has
# too little to learn from. A hierarchy is between the two: every weight of a group's network is near that weight's mean
# over groups, and how near is learned. The idea and the data are those of Thomas Wiecki's post *Hierarchical Bayesian
# neural networks with informative priors* (2018).
#
# Each group's classes are two half moons, turned by an angle of its own.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from sklearn.datasets import make_moons

import posterion as po

GROUPS, ROWS, HIDDEN = 12, 40, 6
random = np.random.default_rng(0)
angles = random.uniform(-1.5, 1.5, GROUPS)


def rows(count, seed):
    parts = []
    for g, angle in enumerate(angles):
        x, y = make_moons(count, noise=0.25, random_state=100 * seed + g)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        parts.append(((x - [0.5, 0.25]) @ turn.T, y, np.full(count, g)))
    x, y, group = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return {"x": x.astype(np.float32), "group": group, "y": y}


train, test = rows(ROWS, 1), rows(200, 2)

# %% [markdown]
# ## One model, three ways to pool
#
# The model is NumPyro, with a network of two layers for each group: `weights[group]` picks a row's. Written non-centred
# (`mean + sd * unit`), so that the shape of the posterior does not depend on how alike the groups are.


# %%
def model(x, group, y=None, pool="hierarchy"):
    def weights(name, *shape):
        normal = lambda *shape: dist.Normal(0, 1).expand(shape).to_event()
        if pool == "one per group":
            return 1.4 * numpyro.sample(f"{name}_unit", normal(GROUPS, *shape))
        mean = numpyro.sample(f"{name}_mean", normal(*shape))
        if pool == "one network":
            return jnp.broadcast_to(mean, (GROUPS, *shape))
        unit = numpyro.sample(f"{name}_unit", normal(GROUPS, *shape))
        return mean + numpyro.sample(f"{name}_sd", dist.HalfNormal(1.0)) * unit

    first, offset = weights("first", 2, HIDDEN), weights("offset", HIDDEN)
    second, shift = weights("second", HIDDEN), weights("shift")
    hidden = jnp.tanh(jnp.einsum("ni,nih->nh", x, 2 * first[group]) + offset[group])
    logit = jnp.einsum("nh,nh->n", hidden, second[group]) + shift[group]
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=logit), obs=y)


fits, found = {}, {}
for pool in ("one network", "one per group", "hierarchy"):
    fits[pool] = po.fit(model, "advi", model_kwargs=train | {"pool": pool}, random_seed=1, progress=False)
    found[pool] = fits[pool].predict({"x": test["x"], "group": test["group"]}, random_seed=2)
    p = np.clip(np.asarray(found[pool].mean["y"]), 1e-6, 1 - 1e-6)
    score = np.mean(np.log(np.where(test["y"] == 1, p, 1 - p)))
    print(f"{pool:>14}: log score {score:.3f}, accuracy {np.mean((p > 0.5) == test['y']):.3f}")

# %% [markdown]
# ## What was learned of the groups
#
# The standard deviations between groups say how much each kind of weight has to differ from group to group.

# %%
draws = fits["hierarchy"].sample(1000, random_seed=3)["posterior"]
for name in ("first", "offset", "second", "shift"):
    print(f"{name:>6}: groups differ by {float(draws[f'{name}_sd'].mean()):.2f}")

# %%
shown = np.argsort(angles)[[0, GROUPS // 2, -1]]
side = np.linspace(-2.6, 2.6, 60)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float32)
fig, axes = plt.subplots(2, 3, figsize=(9, 6), sharex=True, sharey=True, layout="constrained")
for row, pool in zip(axes, ("one per group", "hierarchy"), strict=True):
    for ax, g in zip(row, shown, strict=True):
        seen = fits[pool].predict({"x": grid, "group": np.full(len(grid), g)}, random_seed=4)
        drawn = ax.contourf(side, side, np.asarray(seen.mean["y"]).reshape(60, 60), np.linspace(0, 1, 11), cmap="RdBu")
        own = train["group"] == g
        ax.scatter(*train["x"][own].T, c=train["y"][own], cmap="RdBu", edgecolors="black", s=18)
        ax.set_title(f"{pool}, turned by {np.degrees(angles[g]):.0f}°", fontsize=9)
fig.colorbar(drawn, ax=axes, label="probability of class 1")
plt.show()

# %% [markdown]
# With forty rows a network of its own has to guess where a group's moons end; the hierarchy has seen them in the other
# eleven, and has only to find the angle.
