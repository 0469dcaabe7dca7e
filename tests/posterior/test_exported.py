"""A loaded target against the live one it was exported from: the same numbers, without the model's source."""

import dataclasses
import json
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.errors import DataError, PosteriorFileError, UnsupportedModelError
from posterion.posterior import store
from posterion.posterior.datatree import constrained_draws
from posterion.posterior.export import export_target
from posterion.posterior.exported import LoadedTarget
from posterion.predictive import predict
from posterion.target import Slot
from tests import hand_written as hand
from tests.predictive.test_predict import KEY, draws_for, inputs_for

CASES = {
    "network": (hand.network, False),
    "logistic regression": (lambda: hand.linear(hand.BERNOULLI), True),
    "poisson": (lambda: hand.linear(hand.POISSON), True),
    "categorical": (lambda: hand.linear(hand.CATEGORICAL), False),
    "normal without moments": (lambda: hand.linear(hand.simulated(hand.NORMAL)), True),
    "rows that depend on each other": (lambda: hand.linear(hand.NORMAL, independent=False), True),
}


def through_json(target, *, x64=True):
    """What a file keeps, and no more."""
    arrays, description = export_target(target, x64=x64, example_data=target.data)
    return arrays, json.loads(json.dumps(description))


SLOW = {"logistic regression", "poisson"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
)
def pair(request):
    make, x64 = CASES[request.param]
    live = make()
    return live, LoadedTarget(*through_json(live, x64=x64)), x64


def test_predictions_are_the_same_bits(pair):
    live, loaded, x64 = pair
    network = len(live.layout.variables[0].shape) == 2 and live.observed["out"].kind == "binary"
    for num_rows in (5, 300) if network else (33,) if live.rows_are_independent else (120,):
        draws, data = draws_for(live, 260), inputs_for(live, num_rows)
        y = np.resize(live.data["y"], num_rows)
        one, two = (predict(target, draws, data, key=KEY, x64=x64) for target in (live, loaded))
        for statistic in ("mean", "std", "mean_std", "epistemic", "aleatoric", "total"):
            for name, values in getattr(one, statistic).items():
                np.testing.assert_allclose(
                    getattr(two, statistic)[name], values, rtol=1e-12 if x64 else 2e-6, atol=0 if x64 else 1e-7
                )
        np.testing.assert_allclose(two.quantile(0.8)["out"], one.quantile(0.8)["out"], rtol=1e-6)
        np.testing.assert_array_equal(two.sample(20)["out"], one.sample(20)["out"])
        np.testing.assert_allclose(two.log_score("out", y), one.log_score("out", y), rtol=1e-6, atol=1e-6)


def test_what_describes_it_comes_back(pair):
    live, loaded, _ = pair
    assert loaded.layout.variables == live.layout.variables
    assert loaded.layout.derived_dims == live.layout.derived_dims
    assert dict(loaded.slots) == dict(live.slots)
    assert loaded.observed["out"] == dataclasses.replace(live.observed["out"], slot="y")
    assert loaded.num_rows == live.num_rows
    assert loaded.row_names == live.row_names
    assert loaded.rows_are_independent == live.rows_are_independent
    if live.rows_are_independent:
        assert loaded.row_plan() == live.row_plan()
        assert loaded.block_sizes == (32, 2048)


def test_draws_come_back_without_the_rows_of_the_fit(pair):
    live, loaded, x64 = pair
    z = draws_for(live, 20)
    values = constrained_draws(loaded, z, loaded.data, x64=x64)
    expected = constrained_draws(live, z, live.data, x64=x64)
    assert list(values) == [name for name in expected if name != "eta"]
    for name in values:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-6)


def test_the_fitted_rows_are_not_in_the_file(pair):
    live, loaded, _ = pair
    assert loaded.data == {}
    assert "row_id" not in dict(loaded.layout.coords)
    assert ("columns" in dict(loaded.layout.coords)) == ("columns" in dict(live.layout.coords))


def test_it_works_without_the_models_source(tmp_path):
    """In another process, where the module the model came from, and PyMC, cannot be imported."""
    live = hand.network()
    path = tmp_path / "network.posterion"
    arrays, description = export_target(live, x64=False, example_data=live.data)
    store.write(path, arrays, {"target": description})
    draws, data = draws_for(live, 100), inputs_for(live, 40)
    expected = predict(live, draws, data, key=KEY, x64=False)
    np.savez(tmp_path / "case.npz", draws=draws, x=data["x"], mean=expected.mean["out"], std=expected.std["eta"])
    script = f"""
import sys
sys.modules["pymc"] = sys.modules["pytensor"] = sys.modules["tests"] = None
import jax, numpy as np
from posterion.posterior import store
from posterion.posterior.exported import LoadedTarget
from posterion.predictive import predict
arrays, description = store.read({str(path)!r})
case = np.load({str(tmp_path / "case.npz")!r})
target = LoadedTarget(arrays, description["target"])
found = predict(target, case["draws"], {{"x": case["x"]}}, key=jax.random.key(3), x64=False)
np.testing.assert_allclose(found.mean["out"], case["mean"], rtol=1e-6)
np.testing.assert_allclose(found.std["eta"], case["std"], rtol=1e-6)
print(found.num_rows)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "40", run.stderr


def test_inputs_are_checked_like_those_of_a_live_model():
    loaded = LoadedTarget(*through_json(hand.linear()))
    for data, message in (
        ({"X": np.zeros((2, 3))}, "No input is named 'X'. The inputs are: 'x', 'y'"),
        ({"x": np.zeros((2, 4))}, r"shape \(2, 4\) and needs \(rows, 3\)"),
        ({"x": np.full((2, 3), np.nan)}, "missing"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3)}, "must be the same"),
        ({}, "'x'"),
    ):
        with pytest.raises(DataError, match=message):
            loaded.new_rows(data)


def test_rows_that_depend_on_each_other_stay_as_they_are():
    loaded = LoadedTarget(*through_json(hand.linear(independent=False)))
    with pytest.raises(DataError, match=r"saved for \(120, 3\) only.*bind"):
        loaded.new_rows({"x": np.zeros((7, 3))})
    with pytest.raises(UnsupportedModelError, match="depend on each other"):
        loaded.row_plan()


def test_other_block_sizes_and_fits_are_refused():
    loaded = LoadedTarget(*through_json(hand.linear()))
    with jax.enable_x64(True), pytest.raises(UnsupportedModelError, match="blocks of 32 or 2048 rows, not 7"):
        loaded.moments(jnp.zeros(5), {"x": jnp.zeros((7, 3)), "y": jnp.zeros(7)})
    with pytest.raises(UnsupportedModelError, match="cannot be fitted again"):
        loaded.initial_point(0)


def with_offset(size):
    """A model with an input without rows, which the outcomes and a deterministic need."""
    target = hand.linear()
    offset = np.linspace(0, 1, size)
    target.slots["offset"] = Slot("float64", (size,), ("cell",))
    target._data["offset"] = offset
    constrain, new_rows = target.constrain, target.new_rows
    shifted = lambda function: (
        lambda z, data: {
            name: hand.Moments(m.mean + data["offset"].sum(), m.variance) for name, m in function(z, data).items()
        }
    )
    target.moments = shifted(target.moments)
    target.constrain = lambda z, data: constrain(z, data) | {"level": z[3] + data["offset"].max()}
    target.new_rows = lambda data: new_rows(data) | {"offset": offset}
    return target


def test_inputs_without_rows_are_kept_for_predictions_and_deterministics():
    live = with_offset(5)
    loaded = LoadedTarget(*through_json(live))
    np.testing.assert_array_equal(loaded.data["offset"], np.linspace(0, 1, 5))
    draws, data = draws_for(live, 20), inputs_for(live, 4)
    one, two = (predict(target, draws, data, key=KEY, x64=True) for target in (live, loaded))
    np.testing.assert_allclose(two.mean["out"], one.mean["out"], rtol=1e-12)
    values = constrained_draws(loaded, draws, loaded.data, x64=True)
    np.testing.assert_allclose(values["level"], draws[:, 3] + 1.0)


def test_deterministics_that_need_large_data_are_left_out():
    loaded = LoadedTarget(*through_json(with_offset(200_000)))
    assert list(constrained_draws(loaded, np.zeros((1, 5)), loaded.data, x64=True)) == ["w", "b", "sigma", "total"]


def test_what_cannot_be_exported_is_said_when_it_is_asked_for():
    live = hand.linear(hand.NORMAL)

    def simulate(key, z, data):
        raise NotImplementedError("no JAX sampler for Zeta")

    live.simulate = simulate
    loaded = LoadedTarget(*through_json(live))
    prediction = predict(loaded, draws_for(live, 5), inputs_for(live, 3), key=KEY, x64=True)
    assert prediction.mean["out"].shape == (3,)
    with pytest.raises(UnsupportedModelError, match="simulate .*no JAX sampler for Zeta.*model="):
        prediction.quantile(0.5)


def test_a_model_that_calls_the_host_keeps_its_draws():
    live = hand.linear(hand.simulated(hand.NORMAL))
    live.simulate = lambda key, z, data: {"out": jax.pure_callback(np.asarray, jax.ShapeDtypeStruct((), z.dtype), z[0])}
    loaded = LoadedTarget(*through_json(live))
    draws = draws_for(live, 5)
    np.testing.assert_allclose(constrained_draws(loaded, draws, loaded.data, x64=True)["b"], draws[:, 3])
    with pytest.raises(UnsupportedModelError, match="could not keep the model's simulate .*model="):
        predict(loaded, draws, inputs_for(live, 3), key=KEY, x64=True)


def test_a_model_without_outcomes_keeps_its_draws():
    live = hand.linear()
    live.observed, live.row_names = {}, ()
    loaded = LoadedTarget(*through_json(live))
    draws = draws_for(live, 5)
    assert set(constrained_draws(loaded, draws, loaded.data, x64=True)) == {"w", "b", "sigma", "eta", "total"}
    with pytest.raises(UnsupportedModelError, match="nothing to predict"):
        predict(loaded, draws, inputs_for(live, 3), key=KEY, x64=True)


@pytest.mark.parametrize("blob", [b"not an export", pickle.dumps(1), b""])
def test_functions_that_no_longer_load_point_to_the_model(blob):
    arrays, description = through_json(hand.linear())
    arrays["target/moments/32"] = store.from_bytes(blob)
    with pytest.raises(PosteriorFileError, match=r"do not load in JAX.*intact: po.load\(path, model=\.\.\.\)"):
        LoadedTarget(arrays, description)


def test_an_outdated_calling_convention_points_to_the_model(monkeypatch):
    arrays, description = through_json(hand.linear())
    monkeypatch.setattr(jax.export, "minimum_supported_calling_convention_version", 10_000)
    with pytest.raises(PosteriorFileError, match="calling convention"):
        LoadedTarget(arrays, description)


def test_functions_for_another_kind_of_device_are_refused(monkeypatch):
    arrays, description = through_json(hand.linear())
    monkeypatch.setattr(jax, "default_backend", lambda: "neuron")
    with pytest.raises(PosteriorFileError, match="for cpu, cuda, tpu, not for neuron"):
        LoadedTarget(arrays, description)


def test_it_can_be_saved_again(tmp_path):
    loaded = LoadedTarget(*through_json(hand.linear()))
    store.write(tmp_path / "again", loaded.arrays, loaded.description)
    arrays, description = store.read(tmp_path / "again")
    again = LoadedTarget(arrays, description)
    draws, data = draws_for(again, 10), inputs_for(again, 4)
    one, two = (predict(target, draws, data, key=KEY, x64=True) for target in (loaded, again))
    np.testing.assert_array_equal(one.std["out"], two.std["out"])
