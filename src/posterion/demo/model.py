"""The model of the demonstration, in PyMC's own words: nothing here knows of Posterion."""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
# PyMC declares `Minibatch` for symbolic variables only; arrays are what its documentation passes.

import numpy as np
import pymc as pm  # noqa: TID253  this module is loaded only when PyMC is wanted


def construct_nn(X_train: np.ndarray, Y_train: np.ndarray, n_hidden: int = 5) -> pm.Model:
    """Build the notebook's network on all rows, as `pm.Data`."""
    with pm.Model(coords=coords(X_train, n_hidden)) as neural_network:
        ann_input = pm.Data("ann_input", X_train, dims=("obs_id", "train_cols"))
        ann_output = pm.Data("ann_output", Y_train, dims="obs_id")
        act_out = network(ann_input, X_train.shape[1], n_hidden)
        pm.Bernoulli("out", act_out, observed=ann_output, total_size=X_train.shape[0], dims="obs_id")
    return neural_network


def construct_minibatch_nn(
    X_train: np.ndarray, Y_train: np.ndarray, n_hidden: int = 5, *, batch_size: int = 50
) -> pm.Model:
    """Build the same network on `pm.Minibatch`: one call, so that inputs and labels stay together."""
    minibatch_x, minibatch_y = pm.Minibatch(X_train, Y_train, batch_size=batch_size)
    minibatch_x.name = "ann_input"
    return _minibatch_nn(X_train, n_hidden, minibatch_x, minibatch_y)


def construct_mistaken_nn(
    X_train: np.ndarray, Y_train: np.ndarray, n_hidden: int = 5, *, batch_size: int = 50
) -> pm.Model:
    """Build it wrongly: two calls of `pm.Minibatch` draw different rows, so labels no longer belong to inputs."""
    minibatch_x = pm.Minibatch(X_train, batch_size=batch_size)
    minibatch_y = pm.Minibatch(Y_train, batch_size=batch_size)
    return _minibatch_nn(X_train, n_hidden, minibatch_x, minibatch_y)


def coords(X_train: np.ndarray, n_hidden: int) -> dict:
    """Labels of the model's dims."""
    return {
        "hidden_layer_1": np.arange(n_hidden),
        "hidden_layer_2": np.arange(n_hidden),
        "train_cols": np.arange(X_train.shape[1]),
    }


def network(ann_input, num_inputs: int, n_hidden: int):
    """Give the probability of label 1: weights with standard normal priors, two tanh layers, a sigmoid."""
    rng = np.random.default_rng(0)
    init_1 = rng.standard_normal(size=(num_inputs, n_hidden))
    init_2 = rng.standard_normal(size=(n_hidden, n_hidden))
    init_out = rng.standard_normal(size=n_hidden)
    weights_in_1 = pm.Normal("w_in_1", 0, sigma=1, initval=init_1, dims=("train_cols", "hidden_layer_1"))
    weights_1_2 = pm.Normal("w_1_2", 0, sigma=1, initval=init_2, dims=("hidden_layer_1", "hidden_layer_2"))
    weights_2_out = pm.Normal("w_2_out", 0, sigma=1, initval=init_out, dims="hidden_layer_2")
    act_1 = pm.math.tanh(pm.math.dot(ann_input, weights_in_1))
    act_2 = pm.math.tanh(pm.math.dot(act_1, weights_1_2))
    return pm.math.sigmoid(pm.math.dot(act_2, weights_2_out))


def _minibatch_nn(X_train: np.ndarray, n_hidden: int, minibatch_x, minibatch_y) -> pm.Model:
    with pm.Model(coords=coords(X_train, n_hidden)) as neural_network:
        act_out = network(minibatch_x, X_train.shape[1], n_hidden)
        pm.Bernoulli("out", act_out, observed=minibatch_y, total_size=X_train.shape[0])
    return neural_network
