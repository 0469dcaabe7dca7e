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
# # Which labels to ask for
#
# Every diagnosis in a data set has cost somebody an afternoon. Suppose that we have the measurements of all biopsies
# but the diagnoses of only ten, and can ask for ten more at a time: which ones? Those about which the model is
# uncertain is the first answer, and nearly the right one. Better: those whose diagnosis would tell most about the
# *other* patients'.
#
# Here a logistic regression on the Wisconsin breast cancer data asks for labels by expected predictive information gain
# (EPIG), in batches, against choice at random.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import posterion as po
from posterion import decisions

SEEDS = [int(seed) for seed in os.environ.get("POSTERION_SEEDS", "0 1").split()]  # 20 for the figures that are quoted
START, STEP, LAST = 10, 10, 250

# %% [markdown]
# ## The model
#
# All rows of the pool are in the model, each with a weight: 1 if its label is known, 0 if it is not. So the shapes
# never change, and one compiled program fits every set of labels.


# %%
def logit(params, rows):
    return params["level"] + rows["x"] @ params["slopes"]


def log_likelihood(params, rows):
    return rows["known"] * -jax.nn.softplus((1 - 2 * rows["y"]) * logit(params, rows))


def log_prior(params):
    return jnp.sum(stats.norm.logpdf(params["slopes"], 0, 0.7)) + stats.norm.logpdf(params["level"], 0, 2)


def model(x, y):
    return po.log_density(
        initial={"level": 0.0, "slopes": np.zeros(x.shape[1])},
        data={"x": x, "y": y, "known": np.ones(len(y))},
        log_prior=log_prior,
        log_likelihood=log_likelihood,
        predict_mean=lambda params, rows: jax.nn.sigmoid(logit(params, rows)),
        kind="binary",
        name="malignant",
    )


# %% [markdown]
# ## Asking
#
# `decisions.suggest` takes posterior draws of the pool's probabilities and of those of the rows one wants to predict
# well. Here these are other rows of the pool, since that is where patients come from.


# %%
def draws_of(approx, x, draws=400):
    rows = {"x": x, "known": np.ones(len(x))}
    return approx.predict(rows, draws=draws).sample(of="mean")["malignant"]


def held_out_score(approx, x, y):
    return decisions.log_score(draws_of(approx, x).mean(axis=0), y)


def learn(strategy, target, pool, held_out, seed):
    """Held-out log score after every batch of labels."""
    x, y = pool
    rng = np.random.default_rng([seed, 1])
    known = list(rng.choice(len(y), START, replace=False))
    scores = []
    while True:
        weights = np.zeros(len(y))
        weights[known] = 1
        approx = po.fit(target, "laplace", data={"x": x, "y": y, "known": weights}, progress=False, random_seed=1)
        scores.append(held_out_score(approx, *held_out))
        if len(known) + STEP > LAST:
            return np.array(scores)
        if strategy == "random":
            unknown = np.setdiff1d(np.arange(len(y)), known)
            known += list(rng.choice(unknown, STEP, replace=False))
        else:
            others = rng.choice(len(y), 60, replace=False)
            pool_draws = draws_of(approx, x)
            known += list(decisions.suggest(pool_draws, STEP, targets=pool_draws[:, others], exclude=known))


# %%
X, Y = load_breast_cancer(return_X_y=True)
Y = 1.0 - Y  # 1 is malignant
labels = np.arange(START, LAST + 1, STEP)
curves = {"random": [], "EPIG": []}
full, target = [], None
for seed in SEEDS:
    x, x_test, y, y_test = train_test_split(X, Y, test_size=1 / 3, random_state=seed, stratify=Y)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    x, x_test = (x - centre) / spread, (x_test - centre) / spread
    target = target or model(x, y)
    everything = {"x": x, "y": y, "known": np.ones(len(y))}
    approx = po.fit(target, "laplace", data=everything, progress=False, random_seed=1)
    full.append(held_out_score(approx, x_test, y_test))
    for strategy, curve in curves.items():
        curve.append(learn(strategy, target, (x, y), (x_test, y_test), seed))

# %% [markdown]
# ## What it buys
#
# The labels that each strategy needs before its held-out log score, on average over the repeats, is within 0.01 nats
# of that of all labels; and how that ratio varies if the repeats are drawn again (bootstrap).


# %%
def labels_needed(full, scores):
    goal = full.mean() - 0.01
    needed = {}
    for name, values in scores.items():
        reached = np.flatnonzero(values.mean(axis=0) >= goal)
        needed[name] = int(labels[reached[0]]) if reached.size else LAST  # at least: more were not tried
    return needed


def labels_saved(full, scores, again=1000):
    """Labels needed by each, the share of those at random that EPIG needs, and the interval of that share."""
    needed, rng = labels_needed(full, scores), np.random.default_rng(0)
    ratios = []
    for _ in range(again):
        drawn = rng.integers(len(full), size=len(full))
        one = labels_needed(full[drawn], {name: values[drawn] for name, values in scores.items()})
        ratios.append(one["EPIG"] / one["random"])
    return needed, needed["EPIG"] / needed["random"], np.quantile(ratios, [0.025, 0.975])


full, scores = np.array(full), {name: np.array(curve) for name, curve in curves.items()}
needed, ratio, (low, high) = labels_saved(full, scores)
print(f"log score with all {len(y)} labels: {full.mean():.4f} nats a row, on average over {len(SEEDS)} splits")
print(f"labels needed: {needed['EPIG']} by EPIG, {needed['random']} at random")
print(f"ratio {ratio:.2f} (95 % interval {low:.2f} to {high:.2f})")

# %%
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for (name, values), style in zip(scores.items(), ("--", "-"), strict=True):
    mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(SEEDS))
    ax.plot(labels, mean, style, label=name)
    ax.fill_between(labels, mean - error, mean + error, alpha=0.2)
ax.axhline(full.mean(), color="black", lw=1, label="all labels")
ax.set(xlabel="labels known", ylabel="held-out log score (nats a row)", ylim=(max(-0.5, ax.get_ylim()[0]), None))
ax.legend()
plt.show()
