# %% [markdown]
# # How a fit went
#
# The negative ELBO of each step, its running mean, and the clean values that the fit compared to decide whether to go
# on. The title is the reason why it stopped.

# %%
import matplotlib.pyplot as plt
import pymc as pm
from sklearn.datasets import load_breast_cancer

import posterion as po

X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)

with pm.Model():
    x = pm.Data("x", X, dims=("row", "column"))
    slopes = pm.Normal("slopes", 0, 0.7, dims="column")
    pm.Bernoulli("malignant", logit_p=pm.Normal("level", 0, 2) + x @ slopes, observed=1 - y, dims="row")
    approx = po.fit(random_seed=1, progress=False)

approx.plot_elbo()
plt.show()
