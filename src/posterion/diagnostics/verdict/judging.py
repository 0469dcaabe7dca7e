"""Judging: everything known of a fit, made into a verdict."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from posterion.diagnostics.psis import MINIMUM_DRAWS
from posterion.diagnostics.verdict.findings import Findings
from posterion.diagnostics.verdict.networks import judge_network
from posterion.diagnostics.verdict.ratios import NEARLY_CONSTANT, judge_khat, numbers
from posterion.diagnostics.verdict.stop import judge_stop
from posterion.diagnostics.verdict.verdict import Verdict

_SKIPPED_SHARE = 0.01
"""Share of skipped steps from which they are no longer isolated accidents."""


def judge(
    log_weights: Float[np.ndarray, " draws"],
    *,
    status: str = "converged",
    sentence: str = "",
    is_network: bool = False,
    skipped_steps: int = 0,
    steps: int = 0,
    losses: Float[np.ndarray, " steps"] | None = None,
    null_elbo: float | None = None,
    caveats: Sequence[str] = (),
    method: str = "",
    size: int = 0,
    all_rows: bool = True,
    resampled: bool = False,
) -> Verdict:
    """Judge an approximation.

    Parameters
    ----------
    log_weights
        log p(z) - log q(z) at fresh independent draws from q, for all rows of the data; empty for an approximation
        that has no density (a point, particles).
    status
        How the fit ended: "converged", "fixed_steps", "max_steps", "diverged", "non_finite", "interrupted", "callback".
    sentence
        The same in words.
    is_network
        Whether the model multiplies activations by weights.
    skipped_steps, steps
        Steps that changed nothing because a value was not finite, and all steps.
    losses
        Negative ELBO estimates by step; where the number of steps was fixed they tell whether the fit had settled.
    null_elbo
        From `null_elbo`: the evidence of the best prediction that ignores the inputs.
    caveats
        Sentences that speak against the approximation whatever its numbers say: what its method cannot do.
    method, size
        The method's description and the number of parameters, which decide what is worth trying next.
    all_rows
        False if every draw met a batch of rows of its own, as in a fit of a stream. Means are then right, but the
        values vary with the rows as much as with the draws, and k-hat of them means nothing.
    resampled
        Whether the approximation is draws from q picked by their importance; its ELBO is then the importance-weighted
        bound.
    """
    log_weights = np.asarray(log_weights, np.float64)
    elbo, elbo_se, khat, limit = numbers(log_weights, resampled=resampled)
    khat = khat if all_rows else math.nan
    findings = Findings(against=list(caveats))

    if not log_weights.size:
        findings.against.append(
            "its draws have no density: no ELBO and no k-hat can tell how far they are from the posterior"
        )
        findings.advice.append("compare with a method whose approximation has a density, such as 'advi' or 'laplace'")
    elif not np.isfinite(elbo):
        bad = np.mean(~np.isfinite(log_weights))
        findings.against.append(f"the log density is not finite at {bad:.0%} of the approximation's draws")
        findings.advice.append(
            "look at the verdict of a fit with precision='float64', and at priors with bounded support"
        )
    judge_stop(status, sentence, losses, findings, is_network=is_network)
    if skipped_steps:
        share = skipped_steps / max(steps, 1)
        note = f"{skipped_steps:,} of {steps:,} steps were skipped because a value was not finite"
        (findings.against if share > _SKIPPED_SHARE else findings.favour).append(note)
        if share > _SKIPPED_SHARE:
            findings.advice.append("fit with precision='float64', scale the inputs, or tighten the widest priors")
    if is_network:
        judge_network(elbo, elbo_se, null_elbo, findings)
    elif np.isfinite(elbo) and not all_rows:
        findings.favour.append("k-hat was not computed: it needs all rows under every draw, and they were streamed")
        findings.advice.append(
            "fit a sample of some ten thousand rows in memory as well: its k-hat tells whether the family can follow "
            "this posterior's correlations"
        )
    elif np.isfinite(elbo):
        whole = log_weights.size >= MINIMUM_DRAWS and bool(np.all(np.isfinite(log_weights)))
        spread = float(np.std(log_weights)) if whole else math.inf
        if spread < NEARLY_CONSTANT:  # k-hat is of the ratios' tail, and here there is no tail worth the name
            findings.favour.insert(
                0, f"the importance ratios vary by {spread:.1%} only: the approximation is the posterior"
            )
        else:
            judge_khat(khat, limit, log_weights.size, findings, method=method, size=size)
    return Verdict(
        trustworthy=not findings.against,
        reasons=findings.reasons,
        advice=tuple(dict.fromkeys(findings.advice)),
        khat=khat,
        khat_threshold=limit,
        elbo=elbo,
        elbo_se=elbo_se,
        null_elbo=null_elbo,
        num_draws=log_weights.size,
    )
