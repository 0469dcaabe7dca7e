# %% [markdown]
# # Do intervals hold what they promise?
#
# Of all 80 % intervals, 80 % should hold what came true, and so for every other level. Beside it, where outcomes fell
# in their predictive distributions (the probability integral transform): flat if all is well, a hump if intervals are
# too wide, a bowl if they are too narrow, a slope if predictions are biased. The data are progress of diabetes in 442
# patients, each predicted by a model that has not seen it.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold

import posterion as po
from posterion import decisions, plots

X, y = load_diabetes(return_X_y=True)
draws = np.empty((500, len(y)))
for fitted, new in KFold(5, shuffle=True, random_state=0).split(X):
    model = po.BayesianLinearRegression().fit(X[fitted], y[fitted])
    draws[:, new] = model.sample_y(X[new], 500, random_state=0).T
transform = decisions.pit(draws, y)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained")
plots.plot_coverage(decisions.coverage(transform), ax=left)
plots.plot_pit(transform, ax=right)
plt.show()
