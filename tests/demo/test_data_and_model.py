"""The demonstration's data are the notebook's, and its model is a PyMC model that knows nothing else."""

import ast
import inspect

import numpy as np
import pytest

from posterion.demo.data import load_data
from posterion.errors import MissingExtraError


@pytest.fixture(scope="module")
def data():
    return load_data("cancer")


def test_cancer_is_the_notebooks(data):
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    bunch = load_breast_cancer()
    assert (len(data.Y), int(data.Y.sum())) == (569, 212)  # malignant is 1
    assert (len(data.Y_train), len(data.Y_test)) == (284, 285)
    columns = [list(bunch.feature_names).index(name) for name in ("mean radius", "mean texture")]
    raw = bunch.data[:, columns]
    scaled = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    parts = train_test_split(scaled, bunch.target == 0, test_size=0.5, random_state=0)
    for ours, theirs in zip((data.X_train, data.X_test, data.Y_train, data.Y_test), parts, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert f"{data.reference / 285:.4%}" == "91.2281%"


def test_moons_are_scaled_and_halved():
    moons = load_data("moons")
    assert moons.X_train.shape == moons.X_test.shape == (500, 2)
    np.testing.assert_allclose(moons.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(moons.X.std(axis=0), 1)
    assert moons.Y.sum() == 500
    assert moons.reference is None


def test_missing_packages_are_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"posterion\[sklearn\]"):
        load_data("cancer")


def test_model_knows_nothing_of_us():
    import posterion.demo.model as module

    tree = ast.parse(inspect.getsource(module))
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"typing", "numpy", "pymc"}


def test_model_is_the_network_it_says(data):
    """Against the density written out by hand."""
    from posterion.demo.model import construct_nn

    model = construct_nn(data.X_train, data.Y_train)
    assert {name: tuple(dims) for name, dims in model.named_vars_to_dims.items()} == {
        "ann_input": ("obs_id", "train_cols"),
        "ann_output": ("obs_id",),
        "w_in_1": ("train_cols", "hidden_layer_1"),
        "w_1_2": ("hidden_layer_1", "hidden_layer_2"),
        "w_2_out": ("hidden_layer_2",),
        "out": ("obs_id",),
    }
    rng = np.random.default_rng(0)
    initial = [rng.standard_normal(size=shape) for shape in [(2, 5), (5, 5), (5,)]]
    first, second, last = initial
    p = 1 / (1 + np.exp(-np.tanh(np.tanh(data.X_train @ first) @ second) @ last))
    likelihood = np.sum(np.where(data.Y_train == 1, np.log(p), np.log1p(-p)))
    prior = sum(np.sum(-0.5 * w**2 - 0.5 * np.log(2 * np.pi)) for w in initial)
    point = model.initial_point(random_seed=0)
    for name, value in zip(("w_in_1", "w_1_2", "w_2_out"), initial, strict=True):
        np.testing.assert_array_equal(point[name], value)
    from pytensor.compile.mode import Mode

    log_density = model.compile_fn(model.logp(), mode=Mode(linker="py", optimizer=None))
    np.testing.assert_allclose(log_density(point), likelihood + prior, rtol=1e-10)
