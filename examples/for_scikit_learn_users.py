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
# # For scikit-learn users
#
# You have a table, a target and a habit: `fit`, `predict_proba`, `cross_val_score`. Keep the habit. What is new is
# that the model also says how much of its doubt is noise in the outcome and how much is its own ignorance.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from posterion import decisions, plots
from posterion.estimators import BayesianMLPClassifier

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X, X_new, y, y_new = train_test_split(X, y, test_size=0.4, random_state=0, stratify=y)

# %% [markdown]
# ## Fit
#
# No scaling, no learning rate, no architecture: inputs are scaled inside, the priors are learned, and the number of
# rows decides on the network.

# %%
model = BayesianMLPClassifier(random_state=0).fit(X, y)
boosted = HistGradientBoostingClassifier(random_state=0).fit(X, y)
for name, one in {"Bayesian network": model, "gradient boosting": boosted}.items():
    log_score = -log_loss(y_new, one.predict_proba(X_new))
    print(f"{name:18} log score {log_score:.3f}, accuracy {one.score(X_new, y_new):.3f}")

# %% [markdown]
# ## Noise and ignorance
#
# `predict_summary` gives everything in one call: probabilities, bounds between which each probability lies with 90 %
# posterior probability, and the entropies. Here the ten patients about whom the model knows least.

# %%
found = model.predict_summary(X_new)
least_known = np.argsort(-found["epistemic"])[:10]
print("P(benign)   90 % interval    noise  ignorance   was")
for row in least_known:
    low, high = found["low"][row, 1], found["high"][row, 1]
    noise, ignorance = found["aleatoric"][row], found["epistemic"][row]
    was = "benign" if y_new.iloc[row] == 1 else "malignant"
    print(f"{found['probabilities'][row, 1]:9.2f}   {low:.2f} to {high:.2f}    {noise:6.3f}  {ignorance:8.3f}    {was}")

# %% [markdown]
# ## Leave the doubtful ones to a person
#
# If the rows of most doubt are looked at by somebody, how many errors remain among the others?

# %%
wrong = (model.predict(X_new) != y_new).to_numpy(float)
doubt = {"doubt": 1 - found["probabilities"].max(axis=1), "ignorance": found["epistemic"]}
curve = decisions.referral_curve(wrong, doubt)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
plots.plot_referral(curve, ax=ax)
plt.show()

# %% [markdown]
# ## Where it goes from here
#
# The estimators go wherever scikit-learn's do: `GridSearchCV`, pipelines, `clone`, `partial_fit`, `sample_weight`.
# `model.save("model.posterion")` writes arrays and JSON, never pickle. [Estimators](../how-to/estimators.md) has the
# rest, [decisions](../how-to/decisions.md) what to do with the numbers.
