"""Curves against direct computation, promises against simulation."""

import numpy as np
import pytest

from posterion.decisions import fit_referral, referral_curve, uncertainties
from posterion.errors import DataError, OptionError


class FakePrediction:
    """What a prediction of classes and of a number shows of itself."""

    names = ("label", "size")

    def __init__(self, p, sizes):
        self.mean = {"label": p, "size": sizes}
        self.std = {"label": np.sqrt(p * (1 - p)), "size": np.ones(len(sizes))}
        self.mean_std = {"label": p / 10, "size": np.ones(len(sizes)) / 2}
        self.epistemic = {"label": p / 20, "size": np.ones(len(sizes)) / 4}
        self.aleatoric = {"label": p / 2, "size": np.ones(len(sizes)) * 0.75}
        self.total = {"label": p / 2 + p / 20, "size": np.ones(len(sizes))}
        self.units = {"label": "nats", "size": "variance"}

    def sample(self, draws=None, *, of="outcome"):
        raise AssertionError("not needed")


def test_uncertainties_of_classes_and_of_numbers():
    prediction = FakePrediction(np.array([0.1, 0.7]), np.array([3.0, 4.0]))
    found = uncertainties(prediction, "label")
    np.testing.assert_allclose(found["doubt"], [0.1, 0.3])
    assert list(found) == ["doubt", "epistemic", "aleatoric", "total", "mean_std"]
    assert list(uncertainties(prediction, "size")) == ["std", "epistemic", "aleatoric", "total", "mean_std"]
    with pytest.raises(OptionError, match="label, size.*say which one"):
        uncertainties(prediction)
    with pytest.raises(OptionError, match="no variable 'weight'"):
        uncertainties(prediction, "weight")


def test_the_curve_is_the_mean_loss_of_the_rows_kept():
    losses, doubt = np.array([0.0, 1.0, 0.5, 2.0]), np.array([0.1, 0.4, 0.2, 0.3])
    curve = referral_curve(losses, doubt)
    np.testing.assert_allclose(curve.referred, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.loss.sel(uncertainty="uncertainty"), [3.5 / 4, 2.5 / 3, 0.5 / 2, 0.0])
    np.testing.assert_allclose(curve.perfect, [3.5 / 4, 1.5 / 3, 0.5 / 2, 0.0])
    np.testing.assert_allclose(curve.area, [np.mean([3.5 / 4, 2.5 / 3, 0.25, 0])])
    np.testing.assert_allclose(curve.excess, [(2.5 / 3 - 0.5) / 4])


def test_ties_count_as_if_referred_in_random_order():
    rng = np.random.default_rng(0)
    losses, doubt = rng.uniform(size=40), rng.integers(4, size=40).astype(float)
    exact = referral_curve(losses, doubt).loss.values[0]
    broken = [referral_curve(losses, doubt + 1e-6 * rng.uniform(size=40)).loss.values[0] for _ in range(300)]
    # The mean of 300 orders is off by one standard error of 0.29 / sqrt(300) = 0.017 at the worst.
    np.testing.assert_allclose(exact, np.mean(broken, axis=0), atol=0.07)


def test_useful_uncertainty_is_below_useless_and_above_perfect():
    rng = np.random.default_rng(1)
    truth = rng.uniform(size=3_000)
    wrong = (rng.uniform(size=3_000) < np.minimum(truth, 1 - truth)).astype(float)
    kinds = {"doubt": np.minimum(truth, 1 - truth), "noise": rng.uniform(size=3_000)}
    curve = referral_curve(wrong, kinds)
    doubt, noise = curve.area.sel(uncertainty="doubt").item(), curve.area.sel(uncertainty="noise").item()
    assert curve.perfect.mean() < doubt < 0.75 * noise
    assert noise == pytest.approx(wrong.mean(), abs=0.03)


# ---- promises
def rows_from(rng, rows):
    doubt = rng.uniform(0, 0.5, rows)
    return doubt, (rng.uniform(size=rows) < doubt).astype(float)


def test_a_promised_rate_holds_on_average_and_is_not_wasted():
    rng = np.random.default_rng(2)
    referred = [fit_referral(rows_from(rng, 59)[0], rate=0.2)(rows_from(rng, 400)[0]).mean() for _ in range(300)]
    # Exactly 12/60 without ties. Spread over held-out sets: sqrt(0.2 * 0.8 / 61) = 0.05; over 300 of them 0.003.
    assert np.mean(referred) == pytest.approx(0.2, abs=0.01)


def test_a_promised_error_holds_on_average_and_is_not_wasted():
    rng = np.random.default_rng(3)
    lost = []
    for _ in range(300):
        rule = fit_referral(*rows_from(rng, 99), error=0.1)
        doubt, wrong = rows_from(rng, 400)
        lost.append(np.mean(wrong * ~rule(doubt)))
    error = np.std(lost) / np.sqrt(len(lost))
    assert 0.1 - 2 / 100 - 3 * error < np.mean(lost) < 0.1 + 3 * error  # [2]: not below error - 2 B / (n + 1)


def test_an_error_promised_with_confidence_holds_in_that_share_of_held_out_sets():
    rng = np.random.default_rng(4)
    broken, kept = 0, []
    for _ in range(300):
        rule = fit_referral(*rows_from(rng, 1_000), error=0.15, confidence=0.9)
        # Doubt is uniform on (0, 1/2) and the probability of an error: below a line t the error is t / 2.
        broken += rule.threshold / 2 > 0.15
        kept.append(1 - rule.referred)
    assert broken / 300 < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)
    assert np.mean(kept) > 0.3  # 0.6 could be kept had one known the truth


def test_nothing_is_referred_where_nothing_is_wrong():
    rule = fit_referral(np.linspace(0, 1, 100), np.zeros(100), error=0.05)
    assert rule.threshold == np.inf and rule.referred == 0
    assert not rule([5.0]).any()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"rate": 0.05}, DataError, "9 held-out rows are too few .* at least 19"),
        ({"error": 0.05}, DataError, "9 held-out rows are too few .* at least 19"),
        ({"error": 0.2, "confidence": 0.9}, DataError, "no line keeps the error"),
        ({}, OptionError, "either rate=.*or error="),
        ({"rate": 0.2, "error": 0.1}, OptionError, "either rate=.*or error="),
        ({"rate": 1.5}, OptionError, "rate must lie between 0 and 1"),
        ({"rate": 0.2, "confidence": 0.9}, OptionError, "confidence= belongs to error="),
    ],
)
def test_promises_that_cannot_be_kept_are_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        fit_referral(np.arange(9) / 9, np.ones(9), **options)


def test_losses_must_be_there_and_between_zero_and_one():
    with pytest.raises(OptionError, match="needs held_out_losses"):
        fit_referral(np.arange(50) / 50, error=0.1)
    with pytest.raises(DataError, match="between 0 and 1"):
        fit_referral(np.arange(50) / 50, np.full(50, 3.0), error=0.1)
    with pytest.raises(DataError, match="NaN"):
        referral_curve([0.0, np.nan], [1.0, 2.0])
