"""Predictions against brute force in NumPy, closed forms, and each other."""

import gc
import subprocess
import sys
import time
import weakref

import jax
import numpy as np
import pandas
import pytest

from posterion.compilation import cache
from posterion.errors import DataError, OptionError
from posterion.predictive import predict
from posterion.predictive.evaluation import Evaluation
from posterion.target import Slot
from tests import hand_written as hand

KEY = jax.random.key(3)
CLOSED_FORM = {
    "network": hand.network,
    "categorical": lambda: hand.linear(hand.CATEGORICAL),
    "poisson": lambda: hand.linear(hand.POISSON),
    "normal": lambda: hand.linear(hand.NORMAL),
    "rows that depend on each other": lambda: hand.linear(hand.NORMAL, independent=False),
}


def draws_for(target, number=300, scale=0.4, seed=1):
    return scale * np.random.default_rng(seed).standard_normal((number, target.layout.size))


def inputs_for(target, num_rows, seed=2):
    return {"x": np.random.default_rng(seed).standard_normal((num_rows, target.slots["x"].shape[1]))}


def every_moment(target, draws, data):
    """Conditional means and variances of all draws at once, in double precision: (draws, rows, ...)."""
    with jax.enable_x64(True):
        arrays = target.as_arrays(target.new_rows(data))
        moments = jax.vmap(lambda z: target.moments(z, arrays)["out"])(draws)
        eta = jax.vmap(lambda z: target.row_values(z, arrays)["eta"])(draws)
        return np.asarray(moments.mean), np.asarray(moments.variance), np.asarray(eta)


def entropy(p):
    p = np.clip(p, 1e-300, 1)
    return -(p * np.log(p))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("case", CLOSED_FORM)
def test_summaries_equal_brute_force(case, x64):
    target = CLOSED_FORM[case]()
    draws = draws_for(target)
    data = inputs_for(target, 120 if "depend" in case else 157)
    prediction = predict(target, draws, data, key=KEY, x64=x64)
    means, variances, eta = every_moment(target, draws, data)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9 if x64 else 2e-4, atol=1e-9 if x64 else 3e-6)

    mean = means.mean(axis=0)
    close(prediction.mean["out"], mean)
    close(prediction.mean_std["out"], means.std(axis=0, ddof=1))
    if target.observed["out"].kind == "numeric":
        between, within = means.var(axis=0, ddof=1), variances.mean(axis=0)
        close(prediction.epistemic["out"], between)
        close(prediction.aleatoric["out"], within)
        close(prediction.std["out"], np.sqrt(between + within))
        assert prediction.units["out"] == "variance"
    else:
        conditional, marginal = entropy(means), entropy(mean)
        if target.observed["out"].kind == "binary":
            conditional, marginal = conditional + entropy(1 - means), marginal + entropy(1 - mean)
        else:
            conditional, marginal = conditional.sum(axis=-1), marginal.sum(axis=-1)
        close(prediction.total["out"], marginal)
        close(prediction.aleatoric["out"], conditional.mean(axis=0))
        close(prediction.epistemic["out"], marginal - conditional.mean(axis=0))
        close(prediction.std["out"], np.sqrt(mean * (1 - mean)))
        assert prediction.units["out"] == "nats"
    close(prediction.mean["eta"], eta.mean(axis=0))
    close(prediction.std["eta"], eta.std(axis=0, ddof=1))
    close(prediction.epistemic["eta"], eta.var(axis=0, ddof=1))
    np.testing.assert_allclose(
        prediction.total["out"], prediction.epistemic["out"] + prediction.aleatoric["out"], rtol=1e-12
    )
    assert (prediction.epistemic["out"] >= 0).all()
    assert all(array.dtype == np.float64 for array in prediction.mean.values())


def test_linear_model_has_the_closed_form_spread():
    """E[y | z, x] = x w + b is linear in z, so its variance over draws is a quadratic form of their covariance."""
    target = hand.linear(hand.NORMAL)
    draws = draws_for(target, number=500)
    x = inputs_for(target, 40)["x"]
    prediction = predict(target, draws, {"x": x}, key=KEY, x64=True)
    design = np.column_stack([x, np.ones(40)])
    covariance = np.cov(draws[:, :4].T)
    np.testing.assert_allclose(prediction.epistemic["out"], np.sum(design @ covariance * design, axis=1), rtol=1e-10)
    np.testing.assert_allclose(prediction.aleatoric["out"], np.mean(np.exp(2 * draws[:, 4])), rtol=1e-10)


def test_single_precision_keeps_small_spreads_around_large_means():
    """Mean 300, sd 0.1, 2,500 draws: a plain sum of squares in float32 loses the variance altogether."""
    target = hand.linear(hand.NORMAL)
    rng = np.random.default_rng(0)
    draws = np.zeros((2500, target.layout.size))
    draws[:, 3] = 300 + 0.1 * rng.standard_normal(2500)
    prediction = predict(target, draws, {"x": np.zeros((3, 3))}, key=KEY, x64=False)
    np.testing.assert_allclose(prediction.mean["out"], draws[:, 3].mean(), rtol=1e-6)
    np.testing.assert_allclose(prediction.epistemic["out"], draws[:, 3].var(ddof=1), rtol=1e-3)


def test_single_precision_agrees_with_double_over_many_draws():
    target = hand.network()
    draws, data = draws_for(target, 2500, 1.0), inputs_for(target, 200)
    single, double = (predict(target, draws, data, key=KEY, x64=x64) for x64 in (False, True))
    for statistic in ("mean", "std", "mean_std", "epistemic", "aleatoric", "total"):
        for name, values in getattr(single, statistic).items():
            np.testing.assert_allclose(values, getattr(double, statistic)[name], atol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 32, 129, 2049])
def test_rows_are_predicted_alike_in_any_company(num_rows):
    target = hand.network()
    draws, data = draws_for(target, 50), inputs_for(target, 2500)
    few = predict(target, draws, {"x": data["x"][:num_rows]}, key=KEY, x64=True)
    many = predict(target, draws, data, key=KEY, x64=True)
    assert few.num_rows == num_rows
    for name in ("out", "eta"):
        np.testing.assert_allclose(few.mean[name], many.mean[name][:num_rows], rtol=1e-12)
        np.testing.assert_allclose(few.epistemic[name], many.epistemic[name][:num_rows], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("case", ["network", "categorical", "normal"])
def test_a_few_rows_give_what_the_running_moments_give(case, x64, monkeypatch):
    """What every draw says of few rows is kept, more draws than fit into one call included."""
    target = CLOSED_FORM[case]()
    draws, data = draws_for(target, 1500), inputs_for(target, 20)
    kept = predict(target, draws, data, key=KEY, x64=x64)
    with cache.stopwatch() as watch:
        drawn = kept.sample(of="mean", names=["out"])["out"]
        quantiles = kept.quantile([0.1, 0.8], of="mean", names=["out"])["out"]
    assert watch.seconds == 0  # nothing but what was kept
    monkeypatch.setattr("posterion.predictive.evaluation.KEPT_BYTES", 0)
    running = predict(target, draws, data, key=KEY, x64=x64)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9 if x64 else 2e-4, atol=1e-9 if x64 else 3e-6)
    for statistic in ("mean", "std", "mean_std", "epistemic", "aleatoric", "total"):
        for name, values in getattr(running, statistic).items():
            close(getattr(kept, statistic)[name], values)
    close(drawn, running.sample(of="mean", names=["out"])["out"])
    close(quantiles, running.quantile([0.1, 0.8], of="mean", names=["out"])["out"])
    close(kept.sample(7, of="mean", names=["out"])["out"], drawn[:7])
    assert drawn.shape == (1500, *kept.mean["out"].shape)


def test_other_numbers_of_rows_and_draws_need_no_compilation():
    target = hand.network()
    predict(target, draws_for(target, 100), inputs_for(target, 300), key=KEY, x64=False)
    with cache.stopwatch() as watch:
        predict(target, draws_for(target, 777), inputs_for(target, 5000), key=KEY, x64=False)
    assert watch.seconds == 0


def test_programs_die_with_their_target():
    target = hand.network()
    prediction = predict(target, draws_for(target, 10), inputs_for(target, 5), key=KEY, x64=False)
    prediction.quantile(0.5, of="mean")
    reference = weakref.ref(target)
    del target, prediction
    gc.collect()
    assert reference() is None


SIMULATED = {
    "binary": (hand.BERNOULLI, hand.network),
    "categorical": (hand.CATEGORICAL, hand.linear),
    "poisson": (hand.POISSON, hand.linear),
    "normal": (hand.NORMAL, hand.linear),
}


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c == "poisson")) for c in SIMULATED])
def test_simulated_parts_agree_with_closed_forms(case):
    likelihood, make = SIMULATED[case]
    exact, target = make(likelihood), make(hand.simulated(likelihood))
    draws, data = draws_for(target, 2000, 0.5), inputs_for(target, 64)
    prediction = predict(target, draws, data, key=KEY, x64=True)
    means, variances, _ = every_moment(exact, draws, data)
    between, within = means.var(axis=0, ddof=1), variances.mean(axis=0)

    def agree(found, expected, spread):
        errors = (found - expected) / (spread / np.sqrt(len(draws)))
        assert np.abs(errors).max() < 5.5  # of about 64 to 192 nearly normal errors
        assert np.abs(errors.mean()) < 2.0  # rows share the draws: their errors are correlated, a bias would show here

    agree(prediction.mean["out"], means.mean(axis=0), np.sqrt(between + within / 2))
    tails = 3.0 if case == "poisson" else 1.5  # sd of (y1 - y2)^2 / 2 in units of its mean, generously
    agree(prediction.aleatoric["out"], within, tails * (within + between + 0.05))
    agree(prediction.epistemic["out"], between, tails * (within + between + 0.05))
    np.testing.assert_allclose(prediction.std["out"] ** 2, prediction.total["out"])
    assert (prediction.epistemic["out"] >= 0).all()
    assert prediction.units["out"] == "variance"


def test_simulated_aleatoric_part_is_unbiased():
    """Fixed z: all the spread is aleatoric, and its mean over many rows and draws is the variance itself."""
    target = hand.linear(hand.simulated(hand.NORMAL))
    draws = np.zeros((500, target.layout.size))
    draws[:, 4] = np.log(2.0)
    prediction = predict(target, draws, inputs_for(target, 2000), key=KEY, x64=True)
    # The sd of (y1 - y2)^2 / 2 is sqrt(2) times the variance: 1e6 of them.
    assert prediction.aleatoric["out"].mean() == pytest.approx(4.0, abs=5 * 4 * np.sqrt(2 / 1e6))
    assert prediction.epistemic["out"].mean() < 0.4


def test_the_same_key_gives_the_same_bits_and_another_key_does_not():
    target = hand.linear(hand.simulated(hand.NORMAL))
    draws, data = draws_for(target, 50), inputs_for(target, 70)
    one, same, other = (predict(target, draws, data, key=key, x64=True) for key in (KEY, KEY, jax.random.key(4)))
    np.testing.assert_array_equal(one.std["out"], same.std["out"])
    assert not np.array_equal(one.std["out"], other.std["out"])
    np.testing.assert_array_equal(one.mean["eta"], other.mean["eta"])


def test_blocks_and_draws_are_simulated_apart():
    """Equal rows in two blocks, equal draws in two chunks: nothing may repeat."""
    target = hand.linear(hand.simulated(hand.NORMAL))
    outcomes = predict(
        target, np.zeros((300, target.layout.size)), {"x": np.zeros((64, 3))}, key=KEY, x64=True
    ).sample()["out"]
    assert len(np.unique(outcomes)) == outcomes.size


def test_one_draw_has_no_epistemic_part():
    target = hand.network()
    prediction = predict(target, draws_for(target, 1), inputs_for(target, 5), key=KEY, x64=True)
    np.testing.assert_allclose(prediction.epistemic["out"], 0, atol=1e-15)
    np.testing.assert_array_equal(prediction.mean_std["out"], 0)


def test_wide_rows_take_smaller_blocks():
    target = hand.linear()
    target.slots["x"] = Slot("float64", (None, 20_000), row_axis=0)
    target._eta = lambda values, x: x.sum(axis=1) + values["b"]
    data = {"x": np.zeros((3000, 20_000), np.float32), "y": np.zeros(3000)}
    evaluation = Evaluation(target, draws_for(target, 2), data, key=KEY, x64=False)
    (size,) = evaluation.sizes
    assert size * 20_000 * 4 <= 64 * 2**20 < 2 * size * 20_000 * 4


def test_progress_counts_to_the_end_and_ctrl_c_is_passed_on():
    target = hand.network()
    draws, data = draws_for(target, 600), inputs_for(target, 5000)
    seen = []
    predict(target, draws, data, key=KEY, x64=False, progress=lambda done, work: seen.append((done, work)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (1800, 1800)  # 3 blocks of 600 draws

    def interrupt(done, work):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(target, draws, data, key=KEY, x64=False, progress=interrupt)


def test_slow_models_are_given_fewer_draws_at_a_time(monkeypatch):
    """Ctrl-C is seen between two calls: none may take long."""
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    target = hand.network()
    evaluation = Evaluation(
        target, draws_for(target, 1000), inputs_for(target, 5) | {"y": np.zeros(5)}, key=KEY, x64=True
    )
    counts, expected = [], 0
    for start, count, chunk in evaluation._chunks(paced=True):
        assert start == expected
        np.testing.assert_allclose(chunk[:count], evaluation.draws[start : start + count], rtol=1e-6)
        expected += count
        counts.append(count)
        now += 0.01 * count  # 10 ms a draw
    assert expected == 1000
    assert set(counts[1:-1]) <= {24, 25}
    assert [count for _, count, _ in evaluation._chunks()] == [256, 256, 256, 232]


def test_the_index_of_a_table_labels_the_rows():
    target = hand.linear()
    table = pandas.DataFrame(np.zeros((3, 3)), index=["ann", "bob", "cy"])
    assert predict(target, draws_for(target, 5), {"x": table}, key=KEY, x64=True).row_labels.tolist() == [
        "ann",
        "bob",
        "cy",
    ]
    assert predict(target, draws_for(target, 5), {"x": [[0.0, 0, 0]]}, key=KEY, x64=True).row_labels is None


def test_wrong_draws_and_no_rows_are_refused():
    target = hand.linear()
    with pytest.raises(OptionError, match=r"\(draws, 5\)"):
        predict(target, np.zeros((4, 3)), inputs_for(target, 2), key=KEY, x64=True)
    with pytest.raises(OptionError, match="at least one draw"):
        predict(target, np.zeros((0, 5)), inputs_for(target, 2), key=KEY, x64=True)
    with pytest.raises(DataError, match="no rows"):
        predict(target, np.zeros((1, 5)), {"x": np.zeros((0, 3))}, key=KEY, x64=True)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of resident memory")
def test_many_draws_of_many_rows_need_little_memory():
    """2,500 draws x 10,000 rows: 100 MB per variable if they were all held."""
    script = """
import resource
import jax, numpy as np
from posterion.predictive import predict
from tests import hand_written as hand
target = hand.network()
rng = np.random.default_rng(0)
draws, x = rng.standard_normal((2500, target.layout.size)), rng.standard_normal((10_000, 2))
run = lambda rows: predict(target, draws, {"x": x[:rows]}, key=jax.random.key(0), x64=False)
run(300)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(10_000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 50
