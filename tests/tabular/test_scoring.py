"""Simple models beside which a fit is scored."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_info

from posterion.tabular.scoring import baselines


@pytest.mark.parametrize(
    ("task", "learner"),
    [("classification", HistGradientBoostingClassifier), ("regression", HistGradientBoostingRegressor)],
)
def test_small_tables_are_learned_by_one_thread(monkeypatch, task, learner):
    """On a busy processor threads of a small table wait for each other longer than they work."""
    seen, fit = [], learner.fit

    def watched(self, *arguments, **options):
        seen.append({library["num_threads"] for library in threadpool_info()})
        return fit(self, *arguments, **options)

    before = [library["num_threads"] for library in threadpool_info()]
    monkeypatch.setattr(learner, "fit", watched)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60, 2)), np.arange(60) % 2
    baselines(task, (x, y), (x[:20], y[:20]), 0)
    assert seen
    assert all(threads == {1} for threads in seen)
    assert [library["num_threads"] for library in threadpool_info()][: len(before)] == before
