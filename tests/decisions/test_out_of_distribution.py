"""Detection against scikit-learn and closed forms."""

import numpy as np
import pytest
from scipy.stats import chi, norm

from posterion.decisions import auroc, detection, false_positive_rate, fit_feature_distance
from posterion.errors import DataError


def test_auroc_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(10, size=80), rng.integers(4, 14, size=50)  # with ties
    labels = np.r_[np.zeros(80), np.ones(50)]
    assert auroc(inside, outside) == pytest.approx(metrics.roc_auc_score(labels, np.r_[inside, outside]))


def test_the_false_positive_rate_of_two_normals():
    rng = np.random.default_rng(1)
    found = false_positive_rate(rng.normal(size=100_000), rng.normal(2, size=100_000))
    assert found == pytest.approx(norm.cdf(norm.ppf(0.95) - 2), abs=0.01)
    assert false_positive_rate(np.arange(100), np.arange(100) + 1000) == 0


def test_detection_is_a_table_of_scores_with_intervals():
    rng = np.random.default_rng(2)
    inside = {"good": rng.normal(size=300), "none": rng.normal(size=300), "other": rng.normal(size=300)}
    outside = {"good": rng.normal(2, size=200), "none": rng.normal(size=200)}
    table = detection(inside, outside)
    assert table.score.values.tolist() == ["good", "none"]
    good, none = table.sel(score="good"), table.sel(score="none")
    truth = norm.cdf(2 / np.sqrt(2))
    assert good.low < truth < good.high and none.low < 0.5 < none.high
    assert good.low < good.auroc < good.high
    with pytest.raises(DataError, match="no score is in both"):
        detection({"a": [1.0]}, {"b": [1.0]})


def test_distances_are_mahalanobis_and_those_of_normal_rows_have_a_chi_distribution():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(4, 4))
    features = rng.normal(size=(5_000, 4)) @ mix
    labels = np.arange(5_000) % 2
    features[labels == 1] += 40.0
    distance = fit_feature_distance(features, labels)
    found = distance(features)
    assert np.mean(found) == pytest.approx(chi(4).mean(), rel=0.02)
    between = features[labels == 0].mean(axis=0) / 2 + features[labels == 1].mean(axis=0) / 2
    assert distance(between[None])[0] > found.max()
    one = fit_feature_distance(features[labels == 0])
    features = features[labels == 0]
    covariance = np.cov(features.T, ddof=0)
    away = features[:5] - features.mean(axis=0)
    exact = np.sqrt(np.einsum("ri,ij,rj->r", away, np.linalg.inv(covariance), away))
    np.testing.assert_allclose(one(features[:5]), exact, rtol=0.1)  # but for the shrinkage
    with pytest.raises(DataError, match=r"\(rows, 4\)"):
        distance(np.zeros((2, 3)))
