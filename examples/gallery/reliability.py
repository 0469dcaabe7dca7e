# %% [markdown]
# # Are probabilities what they say?
#
# Among the rows for which 30 % was said, 30 % should come true. Each point is a bin of held-out rows with its interval;
# below are the numbers of rows, since a bin with few of them says little. A bin whose interval crosses the line is in
# order.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_predict

import posterion as po
from posterion import decisions, plots

bunch = load_breast_cancer(as_frame=True)
X, y = bunch.data[["mean texture", "mean smoothness", "mean concavity"]].to_numpy(), 1 - bunch.target.to_numpy()
p = cross_val_predict(po.BayesianLogisticRegression(), X, y, cv=10, method="predict_proba")[:, 1]

plots.plot_reliability(decisions.reliability(p, y, bins=10), outcome="cancer")
plt.show()
