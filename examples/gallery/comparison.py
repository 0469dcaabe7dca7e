# %% [markdown]
# # How far from MCMC?
#
# A short run of NUTS that starts from the fit. Left, how far the means are off, in posterior standard deviations;
# right, how wide the fit is beside NUTS. What differs most comes first, and the grey bands are what hardly matters.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm

import posterion as po
from posterion import plots

effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

with pm.Model(coords={"school": list("ABCDEFGH")}):
    mean, spread = pm.Normal("mean", 0, 10), pm.HalfNormal("spread", 10)
    offset = pm.Normal("offset", dims="school")
    pm.Normal("effect", mean + spread * offset, error, observed=effect, dims="school")
    approx = po.fit(random_seed=1, progress=False)

plots.plot_comparison(approx.compare_with_nuts())
plt.show()
