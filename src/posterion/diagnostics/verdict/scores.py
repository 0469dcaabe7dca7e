"""What the posterior's slopes say, as part of the verdict: they see along ridges, where importance weights do not."""

import dataclasses

import numpy as np

from posterion.diagnostics.score_regression import LocalGaussian
from posterion.diagnostics.verdict.verdict import Verdict

_NARROW = 0.1
"""Eigenvalue of B below which the draws are more than three times too narrow along its direction. For a Gaussian that
is k-hat above 0.9, which scatters by 0.15 around its value and now and then stays below the limit."""
_FLAT = 1e-7
"""Eigenvalue of B that is rounding: the posterior does not fall off along its direction as far as can be told."""
_FAR = 0.25
_SHOWN = 0.05
"""Share of a direction's largest entry from which an entry is named."""


def with_scores(verdict: Verdict, gaussian: LocalGaussian) -> Verdict:
    """The verdict with what gradients say of ridges that the draws do not follow.

    Parameters
    ----------
    verdict
        From `with_corrections`.
    gaussian
        From `local_gaussian`, of the same approximation.
    """
    if gaussian.noise >= 0.1:
        return verdict  # the scores do not follow a line: the posterior is far from Gaussian, and this says nothing
    names = gaussian.names
    along = _named(gaussian.direction, names)
    against: list[str] = []
    if gaussian.narrowest <= _FLAT and np.abs(gaussian.direction).max() > 0 and gaussian.noise < 1e-3:
        against.append(
            f"the posterior hardly falls off along {along}: the data do not tell these apart, and without a proper "
            "prior the posterior is improper"
        )
    elif 0 < gaussian.narrowest < _NARROW - gaussian.noise:
        against.append(
            f"gradients say that along {along} the posterior is about {1 / np.sqrt(gaussian.narrowest):,.0f} times as "
            "wide as the draws"
        )
    # Where importance weights can be trusted they are exact, and this is only as good as the posterior is Gaussian.
    weights_tell = verdict.corrections is not None and verdict.corrections.reliable and not against
    if gaussian.tells and not weights_tell:
        far = np.flatnonzero(np.abs(gaussian.moved) > _FAR)
        if far.size:
            worst = int(far[np.argmax(np.abs(gaussian.moved[far]))])
            more = f", and {far.size - 1} more likewise" if far.size > 1 else ""
            against.append(
                f"gradients say that the mean of {names[worst]} is off by {abs(gaussian.moved[worst]):.1f} posterior "
                f"standard deviations{more}"
            )
    return dataclasses.replace(
        verdict,
        trustworthy=verdict.trustworthy and not against,
        reasons=(*against, *verdict.reasons),
        advice=verdict.advice
        or (("try method='gaussian' or 'fullrank_advi', which follow correlations",) if against else ()),
        gaussian=gaussian,
    )


def _named(direction: np.ndarray, names: tuple[str, ...]) -> str:
    order = [int(k) for k in np.argsort(-np.abs(direction), kind="stable") if abs(direction[k]) >= _SHOWN]
    shown = [names[k] for k in order[:3]]
    text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]} together"
    return text if len(order) <= 3 else f"{text} (and {len(order) - 3} more)"
