"""Rows unlike the training rows: scores that should be high for them, and how well a score tells them apart.

`uncertainties` gives the scores that every prediction has; of them ``epistemic`` is meant for this, and often is not
the best one: a network can be certain far from its data. The distance of a row's features (a network's last layer, or
the inputs themselves) from those of the training rows asks the question directly [1]_.

References
----------
.. [1] Lee, Lee, Lee and Shin (2018), A simple unified framework for detecting out-of-distribution samples and
   adversarial attacks. NeurIPS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray
from jaxtyping import Float

from posterion._optional import import_optional
from posterion.decisions._checks import as_rows, share
from posterion.errors import DataError


@dataclass(frozen=True, eq=False)
class FeatureDistance:
    """Mahalanobis distance to the nearest class of the training rows.

    Parameters
    ----------
    means
        Of the features in each class, (classes, features).
    whitening
        W with W W' the inverse of the covariance within classes.
    """

    means: Float[np.ndarray, "classes features"]
    whitening: Float[np.ndarray, "features features"]

    def __call__(self, features: Any) -> Float[np.ndarray, " rows"]:
        """The distance of every row, in standard deviations; (rows, features) in."""
        f = _features(features, width=self.means.shape[1])
        white, centres = f @ self.whitening, self.means @ self.whitening
        return np.min([np.linalg.norm(white - centre, axis=1) for centre in centres], axis=0)


def fit_feature_distance(features: Any, labels: Any = None) -> FeatureDistance:
    """Fit the distance to training rows; the covariance is shrunk as Ledoit and Wolf do, by scikit-learn.

    Parameters
    ----------
    features
        Of the training rows, (rows, features): a network's last layer, averaged over draws, or the inputs.
    labels
        Of the training rows, for one centre per class; None for one centre.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    f = _features(features)
    y = np.zeros(len(f)) if labels is None else np.asarray(labels)
    if y.shape != (len(f),):
        raise DataError(f"there must be one label per row: {len(f)} rows, labels shaped {y.shape}")
    kinds, group = np.unique(y, return_inverse=True)
    means = np.stack([f[group == k].mean(axis=0) for k in range(len(kinds))])
    covariance = import_optional("sklearn.covariance", "sklearn", "Distances of features").ledoit_wolf(
        f - means[group], assume_centered=True
    )[0]
    values, vectors = np.linalg.eigh(covariance)
    floor = max(values.max(), np.finfo(float).tiny) * 1e-10
    return FeatureDistance(means, vectors / np.sqrt(np.maximum(values, floor)))


def _features(features: Any, *, width: int | None = None) -> np.ndarray:
    f = np.asarray(features, np.float64)
    if f.ndim != 2 or f.size == 0 or (width is not None and f.shape[1] != width):
        raise DataError(f"features must be shaped (rows, {'features' if width is None else width}); found {f.shape}")
    if not np.all(np.isfinite(f)):
        raise DataError("features must be finite numbers")
    return f


def auroc(inside: Any, outside: Any) -> float:
    """Probability that a row from outside scores higher than one from inside, ties counting half: 0.5 is chance.

    Parameters
    ----------
    inside, outside
        Scores of rows like the training rows, and of others.
    """
    a, b = as_rows("inside", inside), as_rows("outside", outside)
    ordered = np.sort(a)
    below, up_to = np.searchsorted(ordered, b, side="left"), np.searchsorted(ordered, b, side="right")
    return float(np.mean(below + up_to) / (2 * len(a)))


def false_positive_rate(inside: Any, outside: Any, *, at: float = 0.95) -> float:
    """FPR95: share of rows from outside that pass when the line is drawn so that a share ``at`` from inside passes.

    Parameters
    ----------
    inside, outside
        Scores of rows like the training rows, and of others; high means outside.
    at
        Share from inside that must pass.
    """
    a, b = as_rows("inside", inside), as_rows("outside", outside)
    line = np.quantile(a, share("at", at), method="inverted_cdf")
    return float(np.mean(b <= line))


def detection(inside: Mapping[str, Any], outside: Mapping[str, Any], *, random_seed: int = 0) -> xarray.Dataset:
    """How well each score tells rows from outside apart.

    Parameters
    ----------
    inside, outside
        Scores by name, as `uncertainties` gives them, of rows like the training rows and of others.
    random_seed
        Of the bootstrap behind the intervals.

    Returns
    -------
    xarray.Dataset
        Along ``score``: ``auroc`` with 95 % bounds ``low`` and ``high`` (bootstrap over rows), and ``fpr95``.
    """
    names = [name for name in inside if name in outside]
    if not names:
        raise DataError(f"no score is in both: inside has {list(inside)}, outside {list(outside)}")
    rng = np.random.default_rng(np.random.SeedSequence([random_seed, 2]))
    rows = []
    for name in names:
        a, b = as_rows(name, inside[name]), as_rows(name, outside[name])
        again = [auroc(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(200)]
        rows.append((auroc(a, b), *np.quantile(again, [0.025, 0.975]), false_positive_rate(a, b)))
    columns = dict(zip(("auroc", "low", "high", "fpr95"), np.transpose(rows), strict=True))
    return xarray.Dataset({name: ("score", values) for name, values in columns.items()}, coords={"score": names})
