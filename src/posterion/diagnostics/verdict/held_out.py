"""What predictions of held-out rows, and weights that stayed at their prior, add to the verdict."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from posterion.diagnostics.collapse import Collapse
from posterion.diagnostics.verdict.findings import CLEARLY
from posterion.diagnostics.verdict.verdict import Verdict

_MOST = 0.5
"""Share of weights at their prior from which something is advised."""


def with_held_out(
    verdict: Verdict, scores: Float[np.ndarray, " rows"], without_inputs: Float[np.ndarray, " rows"]
) -> Verdict:
    """The verdict with the log score of rows that the fit has not seen.

    Parameters
    ----------
    verdict
        Of the same approximation.
    scores
        Log predictive density of each row, in nats.
    without_inputs
        That of the best prediction that ignores the inputs, from `null_scores`.
    """
    difference = np.asarray(scores, np.float64) - without_inputs
    error = float(np.std(scores, ddof=1) / math.sqrt(len(scores)))
    error_of_difference = float(np.std(difference, ddof=1) / math.sqrt(len(scores)))
    said = (
        f"the log score of {len(scores):,} held-out rows is {np.mean(scores):.3f} ± {error:.3f} nats a row; a "
        f"prediction that ignores the inputs has {np.mean(without_inputs):.3f}"
    )
    if np.mean(difference) > CLEARLY * error_of_difference:
        return dataclasses.replace(verdict, reasons=(*verdict.reasons, said), held_out=float(np.mean(scores)))
    return dataclasses.replace(
        verdict,
        trustworthy=False,
        reasons=(f"{said}, which is not clearly worse", *verdict.reasons),
        advice=("look for what the inputs can say at all: a simpler model, or more rows", *verdict.advice),
        held_out=float(np.mean(scores)),
    )


def with_collapse(verdict: Verdict, found: Collapse) -> Verdict:
    """The verdict with how much of a network has its prior for a posterior."""
    said = (
        f"the posterior is the prior, to 0.01 nats, for {found.weights:.0%} of the {found.num_weights:,} weights and "
        f"{found.units:.0%} of the {found.num_units:,} units"
    )
    advice = ()
    if found.weights > _MOST:
        advice = ("most weights have learned nothing: fewer hidden units predict as well, and kl_weight below 1 more",)
    return dataclasses.replace(
        verdict, reasons=(*verdict.reasons, said), advice=(*verdict.advice, *advice), collapse=found
    )


def null_scores(seen: Any, outcomes: Any, kind: str) -> Float[np.ndarray, " rows"]:
    """Log density of each outcome under the best prediction that ignores all inputs.

    Parameters
    ----------
    seen
        Outcomes the prediction was learned from: frequencies of the labels, with one added to each; a Normal for real
        numbers; a Poisson for counts.
    outcomes
        What is predicted.
    kind
        "binary", "categorical" or "numeric".
    """
    seen, y = np.asarray(seen), np.asarray(outcomes)
    if kind in ("binary", "categorical"):
        size = int(max(seen.max(), y.max(), 1)) + 1
        counts = np.bincount(seen.ravel().astype(int), minlength=size) + 1.0
        values = np.log(counts / counts.sum())[y.astype(int)]
    elif seen.dtype.kind in "iub" and np.all(seen >= 0) and np.all(y >= 0):
        rate = max(float(np.mean(seen)), np.finfo(float).tiny)
        values = y * np.log(rate) - rate - np.vectorize(math.lgamma, otypes=[float])(y + 1.0)
    else:
        spread = max(float(np.std(seen)), np.finfo(float).tiny)
        values = -0.5 * ((y - np.mean(seen)) / spread) ** 2 - math.log(spread) - 0.5 * math.log(2 * math.pi)
    return np.asarray(values, np.float64).reshape(len(y), -1).sum(axis=1)
