"""The model of the demonstration, as the notebook writes it: nothing here knows of Posterion."""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
# PyMC declares `Minibatch` for symbolic variables only; arrays are what its documentation passes.

from typing import Any

import numpy as np
import pymc as pm  # noqa: TID253  this module is loaded only when PyMC is wanted


def construct_nn(
    X_train: np.ndarray, Y_train: np.ndarray, *, minibatch: tuple[Any, Any] | None = None, n_hidden: int = 5
) -> pm.Model:
    """Build the network: standard normal weights, two tanh layers, the probability of label 1.

    Parameters
    ----------
    X_train, Y_train
        Inputs (rows, columns) and labels (rows,).
    minibatch
        Inputs and labels that change with every step, from `pm.Minibatch`; None for all rows, as `pm.Data`.
    n_hidden
        Units of each hidden layer.
    """
    rng = np.random.default_rng(0)
    init_1 = rng.standard_normal(size=(X_train.shape[1], n_hidden))
    init_2 = rng.standard_normal(size=(n_hidden, n_hidden))
    init_out = rng.standard_normal(size=n_hidden)
    coords = {
        "hidden_layer_1": np.arange(n_hidden),
        "hidden_layer_2": np.arange(n_hidden),
        "train_cols": np.arange(X_train.shape[1]),
    }
    with pm.Model(coords=coords) as neural_network:
        if minibatch is None:
            ann_input = pm.Data("ann_input", X_train, dims=("obs_id", "train_cols"))
            ann_output = pm.Data("ann_output", Y_train, dims="obs_id")
        else:
            ann_input, ann_output = minibatch

        weights_in_1 = pm.Normal("w_in_1", 0, sigma=1, initval=init_1, dims=("train_cols", "hidden_layer_1"))
        weights_1_2 = pm.Normal("w_1_2", 0, sigma=1, initval=init_2, dims=("hidden_layer_1", "hidden_layer_2"))
        weights_2_out = pm.Normal("w_2_out", 0, sigma=1, initval=init_out, dims="hidden_layer_2")

        act_1 = pm.math.tanh(pm.math.dot(ann_input, weights_in_1))
        act_2 = pm.math.tanh(pm.math.dot(act_1, weights_1_2))
        act_out = pm.math.sigmoid(pm.math.dot(act_2, weights_2_out))

        pm.Bernoulli(
            "out",
            act_out,
            observed=ann_output,
            total_size=X_train.shape[0],
            dims="obs_id" if minibatch is None else None,
        )
    return neural_network


def construct_minibatch_nn(X_train: np.ndarray, Y_train: np.ndarray, *, batch_size: int = 50) -> pm.Model:
    """Build it on mini-batches: one call, so that inputs and labels stay together."""
    minibatch_x, minibatch_y = pm.Minibatch(X_train, Y_train, batch_size=batch_size)
    minibatch_x.name = "ann_input"
    return construct_nn(X_train, Y_train, minibatch=(minibatch_x, minibatch_y))


def construct_mistaken_nn(X_train: np.ndarray, Y_train: np.ndarray, *, batch_size: int = 50) -> pm.Model:
    """Build it wrongly: two calls draw different rows, so that labels no longer belong to their inputs."""
    minibatch_x = pm.Minibatch(X_train, batch_size=batch_size)
    minibatch_y = pm.Minibatch(Y_train, batch_size=batch_size)
    return construct_nn(X_train, Y_train, minibatch=(minibatch_x, minibatch_y))
