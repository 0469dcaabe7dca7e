"""Networks, judged by what their functions do: whether the evidence bound beats a prediction without inputs."""

import math
from typing import Any

import numpy as np

from posterion.diagnostics.verdict.findings import CLEARLY, Findings


def judge_network(
    elbo: float,
    elbo_se: float,
    null: float | None,
    findings: Findings,
) -> None:
    """Whether the function that was learned is more than none."""
    if null is not None and np.isfinite(elbo):
        if elbo > null + CLEARLY * max(1.0, elbo_se):
            findings.favour.append(f"its ELBO is {elbo - null:,.0f} nats above a prediction that ignores the inputs")
        else:
            findings.against.append(
                f"its ELBO ({elbo:,.1f}) is not clearly above that of a prediction that ignores the inputs "
                f"({null:,.1f}): the network has learned little or nothing"
            )
            findings.advice.append(
                "use fewer hidden units, narrower priors (standard deviation 1 / sqrt(inputs) per layer), or a last "
                "layer that alone is Bayesian; wide mean-field networks drift to their prior"
            )
    findings.favour.append(
        "k-hat says nothing here: a network's weights can be exchanged and change sign, so one approximation never "
        "covers the whole posterior; trust the predictions, not the weights"
    )
    findings.advice.append(
        "check predictions on rows that were held out: log score, calibration, and spread away from the data"
    )


def null_elbo(outcomes: Any, kind: str, num_rows: int | None = None) -> float:
    """Approximate log evidence of the best prediction that ignores all inputs: one distribution for all rows.

    log p(y | maximum likelihood) - (k / 2) log N, the Bayesian information criterion's approximation with k free
    numbers: frequencies of the labels, a Normal for real numbers, a Poisson for counts.

    Parameters
    ----------
    outcomes
        Observed values, rows first.
    kind
        "binary", "categorical" or "numeric".
    num_rows
        Rows the outcomes stand for, if they are a subsample.
    """
    y = np.asarray(outcomes)
    size, rows = y.size, len(y)
    weight = 1.0 if num_rows is None else num_rows / rows
    if kind in ("binary", "categorical"):
        counts = np.unique(y, return_counts=True)[1]
        fitted, free = np.sum(counts * np.log(counts / size)), max(len(counts) - 1, 1)
    elif y.dtype.kind in "iub" and np.all(y >= 0):
        rate = max(float(np.mean(y)), np.finfo(float).tiny)
        log_factorials = np.vectorize(math.lgamma, otypes=[float])(y + 1.0)
        fitted, free = np.sum(y * np.log(rate) - rate - log_factorials), 1
    else:
        spread = max(float(np.std(y)), np.finfo(float).tiny)
        fitted, free = -size * (np.log(spread) + 0.5 * np.log(2 * np.pi * np.e)), 2
    return float(weight * fitted - free / 2 * np.log(weight * size))
