"""What all functions of predictions check of their arguments."""

from typing import Any

import numpy as np

from posterion.errors import DataError, OptionError


def of_outcome(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The probability that each row gave to what came true."""
    return np.where(y == 1, p, 1.0 - p) if p.ndim == 1 else np.take_along_axis(p, y[:, None].astype(int), axis=1)[:, 0]


def checked_probabilities(probabilities: Any, outcomes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities clipped to [0, 1] and their labels, or an error that says what is wrong with them."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(outcomes)
    if p.ndim not in (1, 2) or y.shape != p.shape[:1] or len(y) == 0:
        raise DataError(
            "probabilities must be shaped (rows,) or (rows, classes) and outcomes (rows,) with at least one row; "
            f"found {p.shape} and {y.shape}"
        )
    if not (np.all(p >= -1e-6) and np.all(p <= 1 + 1e-6)):  # NaN fails both
        raise DataError("probabilities must lie between 0 and 1; some are outside or missing")
    if p.ndim == 2 and not np.allclose(p.sum(axis=1), 1.0, atol=1e-3):
        raise DataError("the probabilities of each row must sum to 1 over the classes")
    labels = 2 if p.ndim == 1 else p.shape[1]
    wrong = ~np.isin(y, np.arange(labels))
    if wrong.any():
        raise DataError(f"outcomes must be labels 0 to {labels - 1}; found {y[wrong][0]!r}")
    return np.clip(p, 0.0, 1.0), y


def checked_draws(draws: Any, outcomes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Predictive draws (draws, rows) and outcomes (rows,) as floats, or an error that says what is wrong with them."""
    x, y = np.asarray(draws, np.float64), np.asarray(outcomes, np.float64)
    if x.ndim != 2 or y.shape != x.shape[1:] or x.size == 0:
        raise DataError(
            "draws must be shaped (draws, rows) and outcomes (rows,), with at least one of each; "
            f"found {x.shape} and {y.shape}"
        )
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise DataError("draws and outcomes must be finite numbers; some are missing or infinite")
    return x, y


def as_classes(probabilities: Any, *, leading: int = 0) -> np.ndarray:
    """Probabilities as (..., rows, classes): a binary outcome's (..., rows) become two columns, of 0 and of 1.

    ``leading`` axes, such as one of draws, come before that of rows.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim not in (leading + 1, leading + 2) or p.size == 0:
        axes = "draws, " * leading + "rows"
        raise DataError(f"probabilities must be shaped ({axes}) or ({axes}, classes); found {p.shape}")
    if not (np.all(p >= -1e-6) and np.all(p <= 1 + 1e-6)):  # NaN fails both
        raise DataError("probabilities must lie between 0 and 1; some are outside or missing")
    p = np.clip(p, 0.0, 1.0)
    if p.ndim == leading + 1:
        return np.stack([1.0 - p, p], axis=-1)
    if not np.allclose(p.sum(axis=-1), 1.0, atol=1e-3):
        raise DataError("the probabilities of each row must sum to 1 over the classes")
    return p


def as_rows(name: str, values: Any, *, rows: int | None = None) -> np.ndarray:
    """One finite number per row, as floats."""
    v = np.asarray(values, np.float64)
    if v.ndim != 1 or v.size == 0 or (rows is not None and len(v) != rows):
        wanted = "(rows,)" if rows is None else f"({rows},)"
        raise DataError(f"{name} must be shaped {wanted} with at least one row; found {v.shape}")
    if np.any(np.isnan(v)):
        raise DataError(f"{name} must not be missing; {int(np.sum(np.isnan(v)))} of {v.size} values are NaN")
    return v


def share(name: str, value: float) -> float:
    """A number strictly between 0 and 1."""
    if not 0 < value < 1:
        raise OptionError(f"{name} must lie between 0 and 1; found {value!r}")
    return float(value)
