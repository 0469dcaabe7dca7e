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
# # For analysts: from a CSV to a decision
#
# You have a table of patients and one column that you would like to know before it is known. No model has to be
# written: everything here is typed at a terminal. `posterion("...")` stands for a line typed there.

# %%
import shlex
import subprocess
import sys

import pandas as pd
from sklearn.datasets import load_breast_cancer

bunch = load_breast_cancer(as_frame=True)
table = bunch.data.iloc[:, :10].assign(diagnosis=bunch.target.map({0: "malignant", 1: "benign"}))
table.iloc[:450].to_csv("patients.csv", index=False)
table.iloc[450:].to_csv("later.csv", index=False)
table.iloc[450:].drop(columns="diagnosis").to_csv("new.csv", index=False)


def posterion(line):
    command = [sys.executable, "-m", "posterion", *shlex.split(line)]
    done = subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout)


# %% [markdown]
# ## Learn
#
# The columns are looked at, a fifth of the rows is held out, a Bayesian network is fitted to the others and scored
# beside simpler models. `model/report.html` has it with pictures.

# %%
posterion("fit patients.csv --target diagnosis --out model")

# %% [markdown]
# ## Predict
#
# Each row gets its probabilities, how much of the doubt is noise and how much ignorance, and whether a person should
# look.

# %%
posterion("predict model new.csv -o predictions.csv")

# %%
found = pd.read_csv("predictions.csv")
print(found.sort_values("doubt", ascending=False).head(8).round(3).to_string())

# %% [markdown]
# ## Was it right?
#
# Months later the outcomes are known.

# %%
posterion("evaluate model later.csv")

# %%
truth = pd.read_csv("later.csv")["diagnosis"]
wrong = found["prediction"] != truth
print(f"{found['refer'].sum()} of {len(found)} rows were left to a person")
print(f"errors: {wrong.mean():.1%} over all, {wrong[~found['refer']].mean():.1%} among the others")

# %% [markdown]
# ## Ask for what would teach most
#
# If ten more patients can be examined, which?

# %%
posterion("suggest model new.csv --count 10 -o ask.csv")

# %%
print(
    pd.read_csv("ask.csv")[["row", "mean radius", "mean texture", "prediction", "epistemic"]]
    .round(3)
    .to_string(index=False)
)

# %% [markdown]
# `posterion serve model` puts the model on a page with sliders, for people who use no terminal. The rest:
# [tables](../how-to/tables.md), [serving](../how-to/serving.md).
