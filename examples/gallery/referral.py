# %% [markdown]
# # What is left if a person looks at some rows
#
# The most uncertain rows are referred to a person; the curve is the error among the others. Random referral would
# change nothing, and no order can do better than the one that knows the errors.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_predict

import posterion as po
from posterion import decisions, plots

bunch = load_breast_cancer(as_frame=True)
X, y = bunch.data[["mean texture", "mean smoothness", "mean concavity"]].to_numpy(), 1 - bunch.target.to_numpy()
p = cross_val_predict(po.BayesianLogisticRegression(), X, y, cv=10, method="predict_proba")
wrong = (p.argmax(axis=1) != y).astype(float)

plots.plot_referral(decisions.referral_curve(wrong, {"doubt": 1 - p.max(axis=1)}), loss="error rate of the rows kept")
plt.show()
