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
# # For NumPyro users
#
# A model is a function of its data, as you have written it for `MCMC.run`. Posterion fits it without a guide: the
# eight schools, non-centred, beside NumPyro's own NUTS.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

import posterion as po

y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
sigma = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfNormal(5))
    with numpyro.plate("school", len(sigma)):
        eta = numpyro.sample("eta", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * eta)
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)


# %% [markdown]
# ## Fit
#
# `"auto"` takes the closest Gaussian of full covariance for a model of this size, and corrects its draws by importance.

# %%
approx = po.fit(schools, "auto", model_args=(sigma,), model_kwargs={"y": y}, random_seed=1, progress=False)
print(approx)

# %% [markdown]
# ## Beside NUTS
#
# Draws come as an ArviZ DataTree; deterministics are there as well.

# %%
draws = approx.sample(4000, random_seed=2)["posterior"]
mcmc = MCMC(NUTS(schools), num_warmup=1000, num_samples=4000, progress_bar=False)
mcmc.run(jax.random.key(0), sigma, y=y)
exact = mcmc.get_samples()
for name in ("mu", "tau"):
    ours, nuts = draws[name].values.ravel(), np.asarray(exact[name])
    print(f"{name:4} mean {ours.mean():5.2f} (NUTS {nuts.mean():5.2f})   sd {ours.std():.2f} (NUTS {nuts.std():.2f})")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
theta, reference = draws["theta"].values[0], np.asarray(exact["theta"])
for k in range(8):
    ax.plot(
        np.quantile(reference[:, k], [0.05, 0.95]),
        [k + 0.12] * 2,
        color="black",
        lw=1.5,
        label="NUTS" if k == 0 else None,
    )
    ax.plot(
        np.quantile(theta[:, k], [0.05, 0.95]), [k - 0.12] * 2, color="C0", lw=3, label="Posterion" if k == 0 else None
    )
ax.set(xlabel="effect of the school (90 % intervals)", yticks=range(8), yticklabels="ABCDEFGH")
ax.legend()
plt.show()

# %% [markdown]
# ## Is it to be trusted?
#
# The verdict says it in words, with reasons and advice.

# %%
print(approx.diagnose())

# %% [markdown]
# Plates with `subsample_size`, discrete unknowns, Flax and Equinox modules: [NumPyro models](../how-to/numpyro.md).
