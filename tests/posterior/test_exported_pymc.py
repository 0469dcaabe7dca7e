"""PyMC models through the file: the same predictions in a process where PyMC cannot be imported."""

import subprocess
import sys

import numpy as np
import pytest

from posterion.posterior import store
from posterion.posterior.export import export_target
from posterion.posterior.exported import LoadedTarget
from posterion.predictive import predict
from tests.predictive.test_predict import KEY

pm = pytest.importorskip("pymc")
from posterion.frontends import target_of  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 2))


def network():
    """The network of the tutorial."""
    start = lambda *shape: np.random.default_rng(1).standard_normal(shape)
    with pm.Model(coords={"hidden": range(5), "columns": ["radius", "texture"]}) as model:
        x = pm.Data("ann_input", X, dims=("obs_id", "columns"))
        y = pm.Data("ann_output", (X[:, 0] > 0).astype(int), dims="obs_id")
        first = pm.math.tanh(x @ pm.Normal("w_in_1", initval=start(2, 5), dims=("columns", "hidden")))
        second = pm.math.tanh(first @ pm.Normal("w_1_2", initval=start(5, 5), shape=(5, 5)))
        p = pm.Deterministic("p", pm.math.sigmoid(second @ pm.Normal("w_2_out", initval=start(5), dims="hidden")))
        pm.Bernoulli("out", p, observed=y, dims="obs_id", total_size=60)
    return (
        model,
        {"ann_input": np.random.default_rng(2).standard_normal((45, 2))},
        (RNG.uniform(size=45) < 0.5).astype(int),
    )


def groups():
    """Positive and grouped variables, a deterministic without rows, and outcomes without closed-form moments."""
    with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
        x = pm.Data("x", X[:, 0], dims="row")
        index = pm.Data("index", np.arange(60) % 3, dims="row")
        y = pm.Data("y", X[:, 1], dims="row")
        scale = pm.HalfNormal("scale")
        level = pm.Normal("level", 0, scale, dims="group")
        pm.Deterministic("contrast", level[0] - level[1])
        pm.StudentT("out", nu=4, mu=level[index] + x, sigma=scale, observed=y, dims="row")
    return model, {"x": np.linspace(-1, 1, 45), "index": np.arange(45) % 3}, RNG.standard_normal(45)


@pytest.mark.parametrize(("make", "x64"), [(network, False), pytest.param(groups, True, marks=pytest.mark.slow)])
def test_predictions_are_the_same_where_pymc_cannot_be_imported(make, x64, tmp_path):
    model, data, outcomes = make()
    live = target_of(model)
    arrays, description = export_target(live, x64=x64, example_data=live.data)
    assert description["missing"] == {}
    path, case = tmp_path / "model.posterion", tmp_path / "case.npz"
    store.write(path, arrays, {"target": description})
    draws = 0.5 * np.random.default_rng(3).standard_normal((150, live.layout.size))
    prediction = predict(live, draws, data, key=KEY, x64=x64)
    expected = {s: getattr(prediction, s)["out"] for s in ("mean", "std", "epistemic", "aleatoric", "total")}
    expected |= {"upper": prediction.quantile(0.9)["out"], "score": prediction.log_score("out", outcomes)}
    inputs = {f"input {name}": values for name, values in data.items()}
    np.savez(case, draws=draws, outcomes=outcomes, **inputs, **expected)
    script = f"""
import sys
sys.modules["pymc"] = sys.modules["pytensor"] = None
import jax, numpy as np
from posterion.posterior import store
from posterion.posterior.datatree import constrained_draws
from posterion.posterior.exported import LoadedTarget
from posterion.predictive import predict
arrays, description = store.read({str(path)!r})
target = LoadedTarget(arrays, description["target"])
case = np.load({str(case)!r})
data = {{name.removeprefix("input "): case[name] for name in case.files if name.startswith("input ")}}
found = predict(target, case["draws"], data, key=jax.random.key(3), x64={x64})
for statistic in ("mean", "std", "epistemic", "aleatoric", "total"):
    np.testing.assert_allclose(getattr(found, statistic)["out"], case[statistic], rtol=1e-5, atol=1e-7)
np.testing.assert_allclose(found.quantile(0.9)["out"], case["upper"], rtol=1e-5)
np.testing.assert_allclose(found.log_score("out", case["outcomes"]), case["score"], rtol=1e-5)
print(list(constrained_draws(target, case["draws"], target.data, x64={x64})))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    kept = [v.name for v in live.layout.variables] + (["contrast"] if make is groups else [])
    assert run.stdout.strip() == str(kept), run.stderr


def test_without_covariates_there_are_as_many_rows_as_in_the_fit():
    with pm.Model() as model:
        pm.Normal("out", pm.Normal("level"), 1, observed=X[:, 0])
    live = target_of(model)
    loaded = LoadedTarget(*export_target(live, x64=True, example_data=live.data))
    draws = np.random.default_rng(3).standard_normal((40, 1))
    one, two = (predict(target, draws, {}, key=KEY, x64=True) for target in (live, loaded))
    assert one.num_rows == two.num_rows == 60
    np.testing.assert_array_equal(one.std["out"], two.std["out"])
    np.testing.assert_allclose(two.mean["out"], draws.mean())
