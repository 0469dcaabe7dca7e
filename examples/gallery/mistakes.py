# %% [markdown]
# # Which rows were predicted wrongly?
#
# Held-out rows with the mark and the colour of the label predicted for them, and a ring around each mistake.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import posterion as po
from posterion import plots

bunch = load_breast_cancer(as_frame=True)
X, y = bunch.data[["worst radius", "worst texture"]].to_numpy(), 1 - bunch.target.to_numpy()
X, X_new, y, y_new = train_test_split(X, y, test_size=0.5, random_state=0)
network = po.BayesianMLPClassifier((10,), random_state=0).fit(X, y)

plots.plot_labels(
    X_new,
    y_new,
    network.predict(X_new),
    class_names=("healthy", "cancer"),
    input_names=("worst radius", "worst texture"),
)
plt.show()
