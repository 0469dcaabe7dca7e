"""The notebook's model, as its author writes it, and small data for it."""

import numpy as np
import pymc as pm


def classes(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two columns and a label that mostly follows the first."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2))
    return x, (x[:, 0] + 0.5 * random.normal(size=rows) > 0).astype("float64")


def neural_network(x_train: np.ndarray, y_train: np.ndarray, *, minibatch: str = "", labels: bool = False) -> pm.Model:
    """The network; ``minibatch`` is "" (pm.Data), "arrays", "data" (of pm.Data) or "apart" (the notebook's mistake)."""
    random = np.random.default_rng(0)
    init_1 = random.standard_normal((x_train.shape[1], 5))
    init_2 = random.standard_normal((5, 5))
    init_out = random.standard_normal(5)
    coords = {
        "hidden_layer_1": np.arange(5),
        "hidden_layer_2": np.arange(5),
        "train_cols": np.arange(x_train.shape[1]),
    }
    if labels or minibatch in ("arrays", "apart"):
        coords["obs_id"] = np.arange(len(x_train))
    with pm.Model(coords=coords) as model:
        if minibatch == "arrays":
            ann_input, ann_output = pm.Minibatch(x_train, y_train, batch_size=50)
        elif minibatch == "apart":
            ann_input = pm.Minibatch(x_train, batch_size=50)
            ann_output = pm.Minibatch(y_train, batch_size=50)
        else:
            ann_input = pm.Data("ann_input", x_train, dims=("obs_id", "train_cols"))
            ann_output = pm.Data("ann_output", y_train, dims="obs_id")
            if minibatch == "data":
                ann_input, ann_output = pm.Minibatch(ann_input, ann_output, batch_size=50)
        weights_in_1 = pm.Normal("w_in_1", 0, sigma=1, initval=init_1, dims=("train_cols", "hidden_layer_1"))
        weights_1_2 = pm.Normal("w_1_2", 0, sigma=1, initval=init_2, dims=("hidden_layer_1", "hidden_layer_2"))
        weights_2_out = pm.Normal("w_2_out", 0, sigma=1, initval=init_out, dims="hidden_layer_2")
        act_1 = pm.math.tanh(pm.math.dot(ann_input, weights_in_1))
        act_2 = pm.math.tanh(pm.math.dot(act_1, weights_1_2))
        act_out = pm.math.sigmoid(pm.math.dot(act_2, weights_2_out))
        pm.Bernoulli("out", act_out, observed=ann_output, total_size=x_train.shape[0], dims="obs_id")
    return model


def network_by_hand(z: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Log prior and each row's log likelihood of the network, in NumPy."""
    columns = x.shape[1]
    w1, w2, w3 = np.split(z, [5 * columns, 5 * columns + 25])
    logit = np.tanh(np.tanh(x @ w1.reshape(columns, 5)) @ w2.reshape(5, 5)) @ w3
    log_prior = float(np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi)))
    return log_prior, -np.logaddexp(0, np.where(y > 0, -logit, logit))
