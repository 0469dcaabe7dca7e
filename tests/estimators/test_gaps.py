"""Between clusters of data: networks say that they do not know, and what they say is no worse than knowing nothing."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_diabetes

from posterion.estimators import BayesianMLPRegressor


def baseline(y: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean log density of outcomes under the mean and the standard deviation of what was learned from."""
    return float(stats.norm(y.mean(), y.std()).logpdf(outcomes).mean())


def test_between_two_clusters_uncertainty_grows_and_scores_stay_honest():
    """Two clusters as of Foong et al. (2019): the curve turns between them, where nobody has seen it."""
    rng = np.random.default_rng(0)
    curve = lambda x: np.cos(3 * x[:, 0] + 0.8)
    x = np.concatenate([rng.uniform(-1.0, -0.6, (60, 1)), rng.uniform(0.6, 1.0, (60, 1))])
    y = curve(x) + 0.1 * rng.normal(size=120)
    between = np.linspace(-0.5, 0.5, 100)[:, None]
    outcomes = curve(between) + 0.1 * rng.normal(size=100)
    fitted = BayesianMLPRegressor(n_members=4, random_state=0).fit(x, y)
    spread = lambda rows: np.sqrt(fitted.uncertainty(rows)["epistemic"]).mean()
    assert spread(between) > 2 * spread(x)
    assert fitted.log_score(between, outcomes) > baseline(y, outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("feature", [2, 8])
def test_with_the_middle_third_of_a_feature_left_out(feature):
    """Body mass and serum of 442 patients: rows that were left out are less certain than the same rows seen."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    order = np.argsort(x[:, feature], kind="stable")
    gap = order[len(order) // 3 : 2 * len(order) // 3]
    learned = np.setdiff1d(order, gap)
    spread = lambda fitted: np.sqrt(fitted.uncertainty(x[gap])["epistemic"]).mean()
    fitted = BayesianMLPRegressor(random_state=0).fit(x[learned], y[learned])
    assert spread(fitted) > spread(BayesianMLPRegressor(random_state=0).fit(x, y))
    assert fitted.log_score(x[gap], y[gap]) > baseline(y[learned], y[gap])
