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
# # For Stan users
#
# A Stan program goes in unchanged, with its data. It is compiled by Stan's own compiler, once; what is new is what
# happens afterwards. It needs a C++ compiler on the machine and `pip install 'posterion[stan]'`.

# %%
import matplotlib.pyplot as plt
import numpy as np

import posterion as po

program = """
data {
  int<lower=1> N;
  vector[N] x;
  array[N] int<lower=0> y;
}
parameters {
  real alpha;
  real beta;
}
model {
  alpha ~ normal(0, 5);
  beta ~ normal(0, 2);
  y ~ poisson_log(alpha + beta * x);
}
generated quantities {
  vector[N] rate = exp(alpha + beta * x);
  array[N] int y_rep = poisson_log_rng(alpha + beta * x);
}
"""
random = np.random.default_rng(0)
x = np.sort(random.uniform(-1, 1, 60))
y = random.poisson(np.exp(1.2 + 0.8 * x))
model = po.stan(program, {"N": len(x), "x": x, "y": y})

# %% [markdown]
# ## Fit
#
# A Stan program is host code that XLA cannot compile together with the fit, so methods of few steps suit it: the
# closest Gaussian takes some dozens, where ADVI would take thousands.

# %%
approx = po.fit(model, "auto", random_seed=1, progress=False)
print(approx)

# %% [markdown]
# ## Draws
#
# Parameters, transformed parameters and generated quantities, in Stan's names and shapes, as an ArviZ DataTree.

# %%
draws = approx.sample(2000, random_seed=2)["posterior"]
for name, truth in (("alpha", 1.2), ("beta", 0.8)):
    values = draws[name].values
    print(f"{name:6} {values.mean():.2f} +- {values.std():.2f}   (the data were made with {truth})")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
low, high = np.quantile(draws["y_rep"].values[0], [0.05, 0.95], axis=0)
ax.fill_between(x, low, high, alpha=0.2, step="mid", label="90 % of new counts")
low, high = np.quantile(draws["rate"].values[0], [0.05, 0.95], axis=0)
ax.fill_between(x, low, high, alpha=0.5, label="90 % for the rate")
ax.plot(x, y, "k.", label="data")
ax.set(xlabel="x", ylabel="count")
ax.legend()
plt.show()

# %% [markdown]
# ## The same program, other data
#
# Nothing is compiled again.

# %%
other = model.with_data({"N": 3, "x": [-1.0, 0.0, 1.0], "y": [1, 3, 8]})
few = po.fit(other, "auto", random_seed=1, progress=False)
print(f"beta with three rows: +- {few.sample(2000, random_seed=2)['posterior']['beta'].values.std():.2f}")

# %% [markdown]
# Mini-batches, files and what stanc has to say: [Stan programs](../how-to/stan.md).
