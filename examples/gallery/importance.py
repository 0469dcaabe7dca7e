# %% [markdown]
# # What a prediction needs
#
# How much the log score of held-out rows falls if one input is shuffled among them. It asks what this model needs, not
# what causes the outcome: of two inputs that say the same, each looks unimportant.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import posterion as po
from posterion import decisions, plots

bunch = load_breast_cancer(as_frame=True)
X, X_new, y, y_new = train_test_split(bunch.data, 1 - bunch.target.to_numpy(), test_size=0.5, random_state=0)
model = po.BayesianLogisticRegression().fit(X, y)

importance = decisions.permutation_importance(lambda rows: model.log_scores(rows, y_new), X_new)
plots.plot_importance(importance)
plt.show()
