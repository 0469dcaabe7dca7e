"""The notebook's data and network: in PyMC as the notebook has it, in NumPyro, and in plain NumPy to judge fits by."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

NAMES = ("w_in_1", "w_1_2", "w_2_out")
HIDDEN = 5
NOTEBOOK_CORRECT = 260
"""Rows of 285 the notebook predicts rightly: 91.2281 %."""


class Split(NamedTuple):
    """Two scaled inputs and labels 0.0 (healthy) and 1.0 (cancer), in halves."""

    X_train: np.ndarray
    X_test: np.ndarray
    Y_train: np.ndarray
    Y_test: np.ndarray


def split(random_state: int = 0) -> Split:
    """Mean radius and mean texture of scikit-learn's breast cancer data, scaled on all rows as in the notebook."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import scale

    bunch = load_breast_cancer()
    X, Y = scale(bunch.data[:, :2]), (1 - bunch.target).astype(float)
    return Split(*train_test_split(X, Y, test_size=0.5, random_state=random_state))


def grid(lines: int = 100) -> np.ndarray:
    """The points of the notebook's surface, [-3, 3] x [-3, 3]."""
    line = np.linspace(-3, 3, lines)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def initial_values(columns: int = 2) -> dict[str, np.ndarray]:
    """Starting weights drawn with seed 0."""
    rng = np.random.default_rng(0)
    shapes = ((columns, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,))
    return {name: rng.standard_normal(shape) for name, shape in zip(NAMES, shapes, strict=True)}


# ---- PyMC
def pymc_model(data: Split):
    """The network on all rows, as ``pm.Data``."""
    import pymc as pm

    with pm.Model(coords=_coords()) as model:
        ann_input = pm.Data("ann_input", data.X_train, dims=("obs_id", "train_cols"))
        ann_output = pm.Data("ann_output", data.Y_train, dims="obs_id")
        probability = _pymc_network(ann_input)
        pm.Bernoulli("out", probability, observed=ann_output, total_size=len(data.X_train), dims="obs_id")
    return model


def pymc_minibatch_model(data: Split, batch_size: int = 50):
    """The network on ``pm.Minibatch``; unlike the notebook one call for inputs and labels, so they stay together."""
    import pymc as pm

    batch_x, batch_y = pm.Minibatch(data.X_train, data.Y_train, batch_size=batch_size)
    with pm.Model(coords=_coords()) as model:
        pm.Bernoulli("out", _pymc_network(batch_x), observed=batch_y, total_size=len(data.X_train))
    return model


def _coords() -> dict:
    return {"hidden_layer_1": np.arange(HIDDEN), "hidden_layer_2": np.arange(HIDDEN), "train_cols": np.arange(2)}


def _pymc_network(ann_input):
    import pymc as pm

    start = initial_values()
    w_in_1 = pm.Normal("w_in_1", 0, sigma=1, initval=start["w_in_1"], dims=("train_cols", "hidden_layer_1"))
    w_1_2 = pm.Normal("w_1_2", 0, sigma=1, initval=start["w_1_2"], dims=("hidden_layer_1", "hidden_layer_2"))
    w_2_out = pm.Normal("w_2_out", 0, sigma=1, initval=start["w_2_out"], dims="hidden_layer_2")
    act_1 = pm.math.tanh(pm.math.dot(ann_input, w_in_1))
    act_2 = pm.math.tanh(pm.math.dot(act_1, w_1_2))
    return pm.math.sigmoid(pm.math.dot(act_2, w_2_out))


# ---- NumPyro
def numpyro_model(X, Y=None, rows_per_step: int | None = None) -> None:
    """The same network for NumPyro; with ``rows_per_step`` its plate draws that many rows at every step."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    weight = lambda name, *shape: numpyro.sample(name, dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
    w_in_1, w_1_2, w_2_out = weight("w_in_1", 2, HIDDEN), weight("w_1_2", HIDDEN, HIDDEN), weight("w_2_out", HIDDEN)
    with numpyro.plate("obs_id", len(X), subsample_size=rows_per_step):
        if rows_per_step is not None:
            X, Y = numpyro.subsample(X, event_dim=1), numpyro.subsample(Y, event_dim=0)
        logits = jnp.tanh(jnp.tanh(X @ w_in_1) @ w_1_2) @ w_2_out
        numpyro.sample("out", dist.Bernoulli(logits=logits), obs=Y)


# ---- the judge
class MeanField(NamedTuple):
    """Means and standard deviations of independent normals over the 40 weights, in the order of `NAMES`."""

    mean: np.ndarray
    sd: np.ndarray


def mean_field(mean: Mapping[str, np.ndarray], sd: Mapping[str, np.ndarray]) -> MeanField:
    """Flatten both by name."""
    flat = lambda values: np.concatenate([np.ravel(np.asarray(values[name], np.float64)) for name in NAMES])
    return MeanField(flat(mean), flat(sd))


def log_joint(z: np.ndarray, data: Split) -> np.ndarray:
    """Log prior plus log likelihood of all training rows at each of the draws ``z`` (draws, 40), in float64."""
    w_in_1, w_1_2, w_2_out = z[:, :10].reshape(-1, 2, HIDDEN), z[:, 10:35].reshape(-1, HIDDEN, HIDDEN), z[:, 35:]
    hidden = np.tanh(np.tanh(data.X_train @ w_in_1) @ w_1_2)
    logits = np.einsum("sni,si->sn", hidden, w_2_out)
    likelihood = np.sum(data.Y_train * logits - np.logaddexp(0.0, logits), axis=1)
    return likelihood - 0.5 * np.sum(z**2, axis=1) - 0.5 * z.shape[1] * np.log(2 * np.pi)


def negative_elbo(q: MeanField, data: Split, noise: np.ndarray) -> tuple[float, float]:
    """Mean of log q - log p over the draws ``mean + sd * noise``, in nats, and its Monte Carlo standard error."""
    values = []
    for part in np.array_split(noise, max(1, len(noise) // 512)):
        log_q = -0.5 * np.sum(part**2, axis=1) - np.sum(np.log(q.sd)) - 0.5 * part.shape[1] * np.log(2 * np.pi)
        values.append(log_q - log_joint(q.mean + q.sd * part, data))
    whole = np.concatenate(values)
    return float(whole.mean()), float(whole.std(ddof=1) / np.sqrt(whole.size))


def check_log_joint(model, data: Split) -> None:
    """The judge's log density is the PyMC model's."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal((3, 40))
    theirs = model.compile_logp()
    for one in z:
        cuts = dict(zip(NAMES, np.split(one, [10, 35]), strict=True))
        point = {name: value.reshape(initial_values()[name].shape) for name, value in cuts.items()}
        np.testing.assert_allclose(log_joint(one[None], data)[0], theirs(point), rtol=1e-9)
