# %% [markdown]
# # The posterior of each parameter
#
# Density, median, and two central intervals of every entry of every variable: the thick bars hold half of the
# posterior, the thin ones 90 %. Names of the entries are the model's own coords.

# %%
import matplotlib.pyplot as plt
import pymc as pm
from sklearn.datasets import load_breast_cancer

import posterion as po

bunch = load_breast_cancer(as_frame=True)
frame = bunch.data.iloc[:, :10]
X = ((frame - frame.mean()) / frame.std()).to_numpy()

with pm.Model(coords={"input": [name.removeprefix("mean ") for name in frame]}):
    x = pm.Data("x", X, dims=("row", "input"))
    slopes = pm.Normal("slope", 0, 1, dims="input")
    pm.Bernoulli(
        "malignant", logit_p=pm.Normal("level", 0, 2) + x @ slopes, observed=1 - bunch.target.to_numpy(), dims="row"
    )
    approx = po.fit(method="fullrank_advi", random_seed=1, progress=False)

approx.plot_parameters()
plt.show()
