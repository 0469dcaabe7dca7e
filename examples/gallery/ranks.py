# %% [markdown]
# # Can this method be believed on this model?
#
# Simulation-based calibration: parameters are drawn from the prior, data from the model, and the method is fitted to
# them, two hundred times. True values should be anywhere among the draws, with equal chances: then all curves stay in
# the band. Mean-field inference is too narrow if parameters go together, as a level and a slope do when the input is
# not centred. Its curves are high on the left and low on the right: the truth lies at the ends of its draws too often.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm

import posterion as po
from posterion import plots

with pm.Model() as line:
    x = pm.Data("x", np.linspace(1, 3, 30))
    level, slope = pm.Normal("level"), pm.Normal("slope")
    pm.Normal("y", level + slope * x, 0.5, observed=np.zeros(30))

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for ax, method in zip(axes, ("advi", "fullrank_advi"), strict=True):
    plots.plot_ranks(po.calibrate(line, method, repetitions=200, n=2000), ax=ax)
    ax.set_title(method, loc="left")
plt.show()
