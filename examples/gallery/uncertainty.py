# %% [markdown]
# # Noise and ignorance over two inputs
#
# Four things that are called uncertainty. The two on the left are large wherever the classes mix; the two on the right
# tell what the posterior does not know, which is most where there are no data. What each means is explained in
# [what uncertainty means here](../concepts/uncertainty.md).

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from sklearn.datasets import load_breast_cancer

import posterion as po
from posterion import plots

bunch = load_breast_cancer(as_frame=True)
frame = bunch.data[["worst radius", "worst texture"]]
X, y = ((frame - frame.mean()) / frame.std()).to_numpy(), 1 - bunch.target.to_numpy()


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(2, 10, rngs=rngs)
        self.out = nnx.Linear(10, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x)))


target = po.network(Net(nnx.Rngs(0)), data={"x": X, "y": y}, likelihood="bernoulli")
approx = po.fit(target, "linearised_laplace", random_seed=1, progress=False)

line = np.linspace(-3.5, 4.5, 70), np.linspace(-4, 5, 70)
grid = np.stack(np.meshgrid(*line), axis=-1).reshape(-1, 2)
found = approx.predict({"x": grid}, draws=400, random_seed=2)
names = ("std", "mean_std", "aleatoric", "epistemic")

plots.plot_uncertainty(
    *line,
    {name: getattr(found, name)["y"].reshape(70, 70) for name in names},
    points=(X, y),
    class_names=("healthy", "cancer"),
    input_names=("worst radius (scaled)", "worst texture (scaled)"),
)
plt.show()
