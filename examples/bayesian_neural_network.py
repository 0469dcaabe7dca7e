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
# # A Bayesian neural network, by variational inference
#
# A small neural network whose weights have distributions instead of values. The model is written in PyMC and stays as
# it is; Posterion fits it, says why it stopped and how far it can be trusted, and predicts new rows with the
# uncertainty taken apart. `posterion demo` does the same from the command line.

# %%
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import posterion as po
from posterion import decisions, errors, plots

# %% [markdown]
# ## Data
#
# Breast cancer data of scikit-learn: mean radius and mean texture of cell nuclei, malignant or benign. Half of the rows
# are held out.

# %%
bunch = load_breast_cancer()
X = scale(bunch.data[:, :2])
Y = (1 - bunch.target).astype(float)  # malignant is 1
X_train, X_test, Y_train, Y_test = train_test_split(X, Y, test_size=0.5, random_state=0)

inputs, classes = ("mean radius (scaled)", "mean texture (scaled)"), ("Healthy", "Cancer")
plots.plot_classes(X, Y, class_names=classes, input_names=inputs)
plt.show()

# %% [markdown]
# ## Model
#
# Two hidden layers of five units, standard normal priors on all 40 weights. Nothing in it knows of Posterion.


# %%
n_hidden = 5


def construct_nn(minibatch=None):
    rng = np.random.default_rng(0)
    init_1 = rng.standard_normal(size=(X_train.shape[1], n_hidden))
    init_2 = rng.standard_normal(size=(n_hidden, n_hidden))
    init_out = rng.standard_normal(size=n_hidden)
    coords = {
        "hidden_layer_1": np.arange(n_hidden),
        "hidden_layer_2": np.arange(n_hidden),
        "train_cols": np.arange(X_train.shape[1]),
    }
    with pm.Model(coords=coords) as neural_network:
        if minibatch is None:
            ann_input = pm.Data("ann_input", X_train, dims=("obs_id", "train_cols"))
            ann_output = pm.Data("ann_output", Y_train, dims="obs_id")
        else:
            ann_input, ann_output = minibatch

        weights_in_1 = pm.Normal("w_in_1", 0, sigma=1, initval=init_1, dims=("train_cols", "hidden_layer_1"))
        weights_1_2 = pm.Normal("w_1_2", 0, sigma=1, initval=init_2, dims=("hidden_layer_1", "hidden_layer_2"))
        weights_2_out = pm.Normal("w_2_out", 0, sigma=1, initval=init_out, dims="hidden_layer_2")

        act_1 = pm.math.tanh(pm.math.dot(ann_input, weights_in_1))
        act_2 = pm.math.tanh(pm.math.dot(act_1, weights_1_2))
        act_out = pm.math.sigmoid(pm.math.dot(act_2, weights_2_out))

        pm.Bernoulli(
            "out",
            act_out,
            observed=ann_output,
            total_size=X_train.shape[0],
            dims="obs_id" if minibatch is None else None,
        )
    return neural_network


neural_network = construct_nn()

# %% [markdown]
# ## Fit
#
# No number of steps is given: the fit stops when a whole round of steps, compared on fresh draws, gains less than 0.1
# nats. Printing it says why it stopped, how high the evidence bound (ELBO) is, and the verdict.

# %%
with neural_network:
    approx = po.fit(method="advi", random_seed=0)
print(approx)

# %%
approx.plot_elbo()
plt.show()

# %% [markdown]
# `approx.hist` is the same in PyMC's convention, the negative ELBO of each step. If you know how many steps you want,
# say so, and they follow one schedule made for them:

# %%
with neural_network:
    fixed = po.fit(method="advi", n=30_000, random_seed=0)
print(f"ELBO {fixed.elbo:.2f} in {fixed.record.seconds_running:.2f} s; hist ends at {fixed.hist[-1000:].mean():.1f}")

# %% [markdown]
# ## The posterior of the weights
#
# Draws come as ArviZ's DataTree, with the model's own dims and coords, so that everything that reads PyMC's traces
# reads them.

# %%
trace = approx.sample(draws=2500)
print(dict(trace["posterior"].sizes))
print(arviz_stats.summary(trace, var_names=["w_2_out"], kind="stats"))

# %%
plots.plot_parameters(trace)
plt.show()

# %% [markdown]
# Many weights are as wide as their prior: mean-field inference switched off the units it did not need. A single weight
# of a network means little anyway; what the network predicts is what counts.
#
# ## Prediction
#
# Any number of rows; no outcomes are needed, and nothing in the model is replaced.

# %%
prediction = approx.predict({"ann_input": X_test}, draws=2500)
probability = prediction.mean["out"]
correct = np.sum((probability >= 0.5) == Y_test)
print(f"{correct} of {len(Y_test)} rows right: {correct / len(Y_test):.2%}")
print(f"log score   {decisions.log_score(probability, Y_test):.4f} nats a row")
print(f"Brier score {decisions.brier_score(probability, Y_test):.4f}")

# %%
plots.plot_labels(X_test, Y_test, probability >= 0.5, class_names=classes, input_names=inputs)
plt.show()

# %%
plots.plot_reliability(decisions.reliability(probability, Y_test), outcome="Cancer")
plt.show()

# %% [markdown]
# ## Over the whole plane

# %%
line = np.linspace(-3, 3, 100)
first, second = np.meshgrid(line, line)
plane = approx.predict({"ann_input": np.column_stack([first.ravel(), second.ravel()])}, draws=2500)
over_plane = lambda values: values["out"].reshape(first.shape)

plots.plot_probability(
    line,
    line,
    over_plane(plane.mean),
    label="probability of Cancer",
    points=(X_test, Y_test),
    class_names=classes,
    input_names=inputs,
)
plt.show()

# %% [markdown]
# The standard deviation of the predicted class is large along the whole boundary. But outcomes are 0 or 1, so it is
# $\sqrt{p(1 - p)}$: the probability once more. What the model does not *know* is how far posterior draws disagree, and
# that is small where there are data, and large along the boundary beyond them.

# %%
plots.plot_uncertainty(
    line,
    line,
    {name: over_plane(getattr(plane, name)) for name in ("std", "mean_std", "aleatoric", "epistemic")},
    points=(X_train, Y_train),
    class_names=classes,
    input_names=inputs,
)
plt.show()

# %% [markdown]
# ## Mini-batches
#
# For many rows, each step looks at a few. A model that uses `pm.Minibatch` is taken over as it is:

# %%
minibatch_x, minibatch_y = pm.Minibatch(X_train, Y_train, batch_size=50)
minibatch_x.name = "ann_input"  # how predictions will call it
with construct_nn(minibatch=(minibatch_x, minibatch_y)):
    minibatch_approx = po.fit(n=40_000, random_seed=0)
print(minibatch_approx)

# %% [markdown]
# The model on `pm.Data` does not have to be written anew for that:

# %%
by_option = po.fit(neural_network, batch_size=50, random_seed=0)
print(by_option)

# %% [markdown]
# Inputs and labels need one call of `pm.Minibatch`. Two calls draw different rows, so that labels no longer belong to
# their inputs; that is refused instead of fitted:

# %%
wrong_x = pm.Minibatch(X_train, batch_size=50)
wrong_y = pm.Minibatch(Y_train, batch_size=50)
try:
    po.fit(construct_nn(minibatch=(wrong_x, wrong_y)))
except errors.UnsupportedModelError as error:
    print(error)

# %% [markdown]
# ## Saving
#
# One file, which predicts without the model and without PyMC.

# %%
approx.save("cancer.posterion")
again = po.load("cancer.posterion").predict({"ann_input": X_test}, draws=2500)
print("largest difference:", np.max(np.abs(again.mean["out"] - probability)))
