# %% [markdown]
# # A probability over two inputs
#
# Blue is the first class, orange the second, white and the thick line one half. Every contour is labelled and every
# class has its own mark, so that the picture reads in grey, too.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import posterion as po
from posterion import plots

bunch = load_breast_cancer(as_frame=True)
X, y = bunch.data[["worst radius", "worst texture"]].to_numpy(), 1 - bunch.target.to_numpy()
network = po.BayesianMLPClassifier((10,), random_state=0).fit(X, y)

radius, texture = np.linspace(6, 38, 80), np.linspace(8, 52, 80)
grid = np.stack(np.meshgrid(radius, texture), axis=-1).reshape(-1, 2)
probability = network.predict_proba(grid)[:, 1].reshape(80, 80)

plots.plot_probability(
    radius,
    texture,
    probability,
    label="probability of cancer",
    points=(X, y),
    class_names=("healthy", "cancer"),
    input_names=("worst radius", "worst texture"),
)
plt.show()
