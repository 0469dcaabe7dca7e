"""What importance weights change, as part of the verdict."""

import dataclasses
import math

import numpy as np

from posterion.diagnostics.corrections import Corrections
from posterion.diagnostics.psis import told_apart
from posterion.diagnostics.verdict.findings import CLEARLY, Findings
from posterion.diagnostics.verdict.verdict import Verdict

FAR = 0.25
"""Posterior standard deviations that a mean may be off; below 0.3, since the weights themselves are estimates."""
MUCH = 1.15
"""Factor by which a standard deviation may be off; below 1.2, since the weights themselves are estimates."""


def with_corrections(verdict: Verdict, corrections: Corrections, pooled: float = math.inf) -> Verdict:
    """The verdict with what importance weights say of each variable.

    Where the weights can be trusted, a mean that moves by more than a quarter of a posterior standard deviation,
    or a standard deviation off by a factor of more than 1.15, both clearly beyond Monte Carlo error, speaks against the
    approximation. Where they cannot, that speaks against it, and the corrections are a hint.

    Parameters
    ----------
    verdict
        From `judge`.
    corrections
        Of the same approximation, at other draws than the verdict's.
    pooled
        k-hat of both sets of draws together. One estimate scatters by 0.1 or more: where the verdict's is below the
        limit and that of the other draws above it, the one of all of them decides.
    """
    findings, reasons = Findings(), verdict.reasons
    settled = verdict.trustworthy and not corrections.reliable and pooled <= verdict.khat_threshold
    if settled:
        draws = verdict.num_draws + corrections.num_draws
        khat, limit = told_apart(pooled, verdict.khat_threshold)
        said = f"k-hat {khat} (limit {limit}) of {draws:,} draws: they cover the posterior"
        reasons = (said, *(reason for reason in reasons if not reason.startswith("k-hat")))
    if corrections.reliable or settled:
        distance = np.abs(corrections.moved)
        clear = distance * corrections.corrected_sd > CLEARLY * corrections.error
        far = np.flatnonzero((distance > FAR) & clear)
        if far.size:
            worst = int(far[np.argmax(distance[far])])
            findings.against.append(
                f"importance weights move the mean of {corrections.names[worst]} by {distance[worst]:.2f} of its "
                f"standard deviations{_and_more(far.size)}"
            )
        off = np.maximum(corrections.widened, 1 / np.maximum(corrections.widened, 1e-12))
        off_much = np.flatnonzero((off > MUCH) & (np.log(off) > CLEARLY * corrections.error_of_widened))
        if off_much.size:
            worst = int(off_much[np.argmax(off[off_much])])
            word = "narrow" if corrections.widened[worst] > 1 else "wide"
            findings.against.append(
                f"the spread of {corrections.names[worst]} is {off[worst]:.1f} times too {word}, importance weights "
                f"say{_and_more(off_much.size)}"
            )
        if findings.against:
            findings.advice.append(
                "report the corrected numbers: approx.corrections, or draws from approx.sample(resample=True)"
            )
    elif verdict.trustworthy:  # one estimate below the limit is not enough
        findings.against.append(
            f"k-hat on other draws is {corrections.khat:.2f}, above {corrections.threshold:.2f}: the approximation may "
            "miss part of the joint posterior"
        )
        findings.advice.append("try method='gaussian', or compare with MCMC: approx.compare_with_nuts()")
        reasons = tuple(reason for reason in reasons if not reason.startswith("k-hat"))
    return dataclasses.replace(
        verdict,
        trustworthy=verdict.trustworthy and not findings.against,
        reasons=(*findings.against, *reasons),
        advice=(*findings.advice, *verdict.advice),
        corrections=corrections,
    )


def _and_more(count: int) -> str:
    return f", and {count - 1} more likewise" if count > 1 else ""
