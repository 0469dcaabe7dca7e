"""Referral: which rows a person should look at, how good the rest is, and where to draw the line.

Rows are ordered by an uncertainty and the most uncertain are referred. The referral curve shows the mean loss among
those kept against the share referred; an uncertainty is as good as its curve is low [1]_. A rule for new rows is fitted
on held-out ones, with a promise that needs nothing but that new rows come from where those came from (exchangeability):
of how many are referred, of how often a row is kept *and* wrong, or of the error among the kept.

References
----------
.. [1] Geifman and El-Yaniv (2017), Selective classification for deep neural networks. NeurIPS.
.. [2] Angelopoulos, Bates, Fisch, Lei and Schuster (2024), Conformal risk control. ICLR.
.. [3] Angelopoulos, Bates, Candès, Jordan and Lei (2025), Learn then test. Annals of Applied Statistics 19.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from posterion.decisions._checks import as_rows, share
from posterion.decisions._prediction import AnyPrediction, one_name
from posterion.errors import DataError, OptionError

_LINES = 10
"""Lines that `fit_referral` with a confidence tries; each is tested at a share of the allowed risk."""


def uncertainties(prediction: AnyPrediction, name: str | None = None) -> dict[str, np.ndarray]:
    """Every uncertainty a prediction has, one number per row, ready for curves, rules and detection.

    Parameters
    ----------
    prediction
        Of the rows, as ``posterior.predict`` gives it.
    name
        The variable; None if there is only one that was observed.

    Returns
    -------
    dict
        For classes ``doubt`` (one minus the largest probability), and for all ``epistemic``, ``aleatoric``, ``total``
        and ``mean_std`` or ``std`` as far as the model gives them; see "Which uncertainty" in the documentation.
    """
    name = one_name(prediction, name)
    mean, in_nats = prediction.mean[name], prediction.units.get(name) == "nats"
    found: dict[str, np.ndarray] = {}
    if in_nats:
        found["doubt"] = np.minimum(mean, 1 - mean) if mean.ndim == 1 else 1 - mean.max(axis=-1)
    elif mean.ndim == 1:
        found["std"] = prediction.std[name]
    for part in ("epistemic", "aleatoric", "total", "mean_std"):
        values = getattr(prediction, part).get(name)
        if values is not None and np.ndim(values) == 1:
            found[part] = values
    if not found:
        raise DataError(
            f"{name!r} is shaped {mean.shape}: one number or one class per row is needed; take one entry of its arrays"
        )
    return found


def referral_curve(losses: Any, uncertainty: Any) -> xarray.Dataset:
    """Mean loss among the rows kept, against the share referred, by each uncertainty.

    Parameters
    ----------
    losses
        Of every row, whatever is lost by predicting it: 0 and 1 for right and wrong, a squared error, a negative log
        score.
    uncertainty
        One number per row, or several kinds by name, as `uncertainties` gives them. The largest are referred first;
        among equal ones a row counts with their mean loss, as if referred in random order.

    Returns
    -------
    xarray.Dataset
        ``loss`` along (``uncertainty``, ``referred``), ``perfect`` (had one known the losses) along ``referred``,
        ``area`` under each curve, and ``excess``: how much of it is above the perfect one's.
    """
    lost = as_rows("losses", losses)
    kinds = uncertainty if isinstance(uncertainty, Mapping) else {"uncertainty": uncertainty}
    rows = len(lost)
    kept = np.arange(rows, 0, -1)
    curves = np.stack([_kept_loss(lost, as_rows(name, values, rows=rows)) for name, values in kinds.items()])
    perfect = _kept_loss(lost, lost)
    area = curves.mean(axis=1)
    return xarray.Dataset(
        {
            "loss": (("uncertainty", "referred"), curves),
            "perfect": ("referred", perfect),
            "area": ("uncertainty", area),
            "excess": ("uncertainty", area - perfect.mean()),
        },
        coords={"uncertainty": list(kinds), "referred": 1 - kept / rows, "kept_rows": ("referred", kept)},
    )


def _kept_loss(losses: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
    """Mean loss of the n, n - 1, ..., 1 least uncertain rows."""
    _, group = np.unique(uncertainty, return_inverse=True)
    fair = (np.bincount(group, losses) / np.bincount(group))[group]
    order = np.argsort(uncertainty, kind="stable")
    return (np.cumsum(fair[order]) / np.arange(1, len(losses) + 1))[::-1]


@dataclass(frozen=True)
class ReferralRule:
    """A line above which rows are referred.

    Parameters
    ----------
    threshold
        Rows at least as uncertain are referred; infinite if none need be.
    promise
        What holds for new rows, in a sentence.
    referred
        Share of the held-out rows above the line.
    """

    threshold: float
    promise: str
    referred: float

    def __call__(self, uncertainty: Any) -> np.ndarray:
        """Which rows to refer: True for those at or above the line."""
        return as_rows("uncertainty", uncertainty) >= self.threshold


def fit_referral(
    held_out_uncertainty: Any,
    held_out_losses: Any = None,
    *,
    rate: float | None = None,
    error: float | None = None,
    confidence: float | None = None,
) -> ReferralRule:
    """Draw the line on held-out rows, with a guarantee for rows that come from where those came from.

    Parameters
    ----------
    held_out_uncertainty
        One number per row that neither fitted the model nor is to be judged.
    held_out_losses
        Of the same rows, between 0 and 1: whether the prediction was wrong. Needed for ``error``.
    rate
        The share of rows that may be referred. A new row is referred with at most this probability.
    error
        The error that may remain. Alone: a new row is kept and wrong with at most this probability (conformal risk
        control), which holds on average over held-out sets.
    confidence
        With ``error``: among kept rows the error is at most ``error``, with this probability over held-out sets. The
        stronger promise, and the one that needs more rows.

    Raises
    ------
    DataError
        If the rows are too few to promise it, or no line keeps it; the message says which.
    OptionError
        Unless exactly one of ``rate`` and ``error`` is given.
    """
    u = as_rows("held_out_uncertainty", held_out_uncertainty)
    if (rate is None) == (error is None):
        raise OptionError("give either rate=, the share to refer, or error=, the error that may remain")
    if rate is not None:
        if confidence is not None:
            raise OptionError("confidence= belongs to error=; a rate is promised on average")
        threshold, promise = _by_rate(u, share("rate", rate))
    else:
        assert error is not None
        if held_out_losses is None:
            raise OptionError("error= needs held_out_losses: whether each of the held-out rows was predicted wrongly")
        losses = as_rows("held_out_losses", held_out_losses, rows=len(u))
        if np.any((losses < 0) | (losses > 1)):
            raise DataError(f"losses must lie between 0 and 1; found {losses.min()} to {losses.max()}")
        share("error", error)
        if confidence is None:
            threshold, promise = _by_error(u, losses, error)
        else:
            threshold, promise = _by_confidence(u, losses, error, share("confidence", confidence))
    return ReferralRule(threshold, promise, float(np.mean(u >= threshold)))


def _by_rate(u: np.ndarray, rate: float) -> tuple[float, str]:
    needed = math.ceil((len(u) + 1) * (1 - rate) - 1e-9)
    if needed > len(u):
        raise DataError(
            f"{len(u)} held-out rows are too few to promise that at most {rate:.3g} are referred; "
            f"at least {math.ceil(1 / rate - 1 - 1e-9)} are needed"
        )
    threshold = float(np.nextafter(np.sort(u)[needed - 1], np.inf))
    return threshold, f"a new row is referred with a probability of at most {rate:.3g}"


def _by_error(u: np.ndarray, losses: np.ndarray, error: float) -> tuple[float, str]:
    # The largest t with (sum of losses of rows below t + 1) / (n + 1) <= error: 1 is what one unseen row can cost.
    budget = error * (len(u) + 1) - 1
    if budget < -1e-9:
        raise DataError(
            f"{len(u)} held-out rows are too few to promise an error of {error:.3g}; "
            f"at least {math.ceil(1 / error - 1 - 1e-9)} are needed"
        )
    values, group = np.unique(u, return_inverse=True)
    spent = np.cumsum(np.bincount(group, losses))
    over = np.flatnonzero(spent > budget + 1e-9)
    threshold = float(values[over[0]]) if over.size else math.inf
    return threshold, f"a new row is kept and predicted wrongly with a probability of at most {error:.3g}"


def _by_confidence(u: np.ndarray, losses: np.ndarray, error: float, confidence: float) -> tuple[float, str]:
    from scipy.stats import binom

    if not np.all((losses == 0) | (losses == 1)):
        raise DataError("with a confidence, losses must be 0 (right) or 1 (wrong)")
    # Given the k-th smallest uncertainty, the rows below it are independent rows from below it [3]: each line is an
    # exact binomial test, and all of them together may fail with probability 1 - confidence.
    ordered = np.append(np.sort(u), np.inf)
    lines = ordered[np.unique(np.round(np.linspace(0, len(u), _LINES + 1)[1:]).astype(int))]
    for threshold in lines[::-1]:
        kept = u < threshold
        if kept.any() and binom.cdf(losses[kept].sum(), kept.sum(), error) <= (1 - confidence) / len(lines):
            promise = f"with {confidence:.3g} confidence, at most {error:.3g} of the rows kept are predicted wrongly"
            return float(threshold), promise
    raise DataError(
        f"no line keeps the error among kept rows below {error:.3g} with {confidence:.3g} confidence on these {len(u)} "
        f"rows ({int(losses.sum())} of them wrong); allow more error, less confidence, or hold out more rows"
    )
