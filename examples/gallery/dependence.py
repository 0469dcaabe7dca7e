# %% [markdown]
# # What a prediction follows
#
# The mean prediction over all rows with one input set to each of some values, and its 90 % credible band: narrow where
# the model knows, wide where it extrapolates or other inputs could explain as much.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from sklearn.datasets import load_breast_cancer

import posterion as po
from posterion import decisions, plots

bunch = load_breast_cancer(as_frame=True)
columns = ["mean texture", "mean smoothness", "mean concavity"]
frame = bunch.data[columns]
centre, spread = frame.mean().to_numpy(), frame.std().to_numpy()
scaled = (frame.to_numpy() - centre) / spread

with pm.Model():
    x = pm.Data("x", scaled, dims=("row", "column"))
    slopes = pm.Normal("slopes", 0, 1, dims="column")
    pm.Bernoulli(
        "malignant", logit_p=pm.Normal("level", 0, 2) + x @ slopes, observed=1 - bunch.target.to_numpy(), dims="row"
    )
    approx = po.fit(method="laplace", random_seed=1, progress=False)

predict = lambda rows: approx.predict({"x": rows}, draws=300)
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3), sharey=True, layout="constrained")
for k, ax in enumerate(axes):
    band = decisions.partial_dependence(predict, scaled, k, values=15, background=100)
    values = np.asarray(band.value) * spread[k] + centre[k]
    plots.plot_dependence(values, band["mean"], band["low"], band["high"], name=columns[k], outcome="", ax=ax)
axes[0].set_ylabel("mean probability of cancer")
plt.show()
