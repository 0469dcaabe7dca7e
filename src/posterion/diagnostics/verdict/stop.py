"""How the fit ended: settled, failed, cut short, or stopped where it was told to."""

import math

import numpy as np
from jaxtyping import Float

from posterion.diagnostics.verdict.findings import CLEARLY, Findings

_FAILED = ("diverged", "non_finite")
_CUT_SHORT = ("max_steps", "max_seconds", "interrupted", "callback")


def judge_stop(
    status: str,
    sentence: str,
    losses: np.ndarray | None,
    findings: Findings,
    *,
    is_network: bool,
) -> None:
    """How the fit ended, and whether more steps would have helped."""
    said = f" ({sentence.rstrip('.')})" if sentence else ""
    if status in _FAILED:
        findings.against.append(f"the fit failed{said}")
        findings.advice.append("scale the inputs, tighten the widest priors, or fit with precision='float64'")
    elif status in _CUT_SHORT:
        findings.against.append(f"the fit was cut short before it settled{said}")
        if status == "callback":
            findings.advice.append(
                "judge it by rows that were held out, approx.diagnose(inputs, outcomes), or fit without the callback"
            )
        else:
            findings.advice.append("fit again and let it stop by itself, or go on: approx.refine()")
    elif status == "fixed_steps":
        improving = None if losses is None else still_improving(losses)
        if losses is None or improving is None:
            where = findings.against if is_network else findings.favour
            where.append("the number of steps was fixed, so whether more would help was not checked")
            findings.advice.append("leave n out, and the fit stops by itself once it has settled")
        elif math.isinf(improving):
            findings.against.append(f"{len(losses):,} fixed steps are too few to tell whether more would help")
            findings.advice.append("raise n, or leave it out and the fit stops by itself")
        elif improving > 0:
            findings.against.append(
                f"the ELBO still rose by {improving:.1f} nats over the last tenth of the fixed number of steps"
            )
            findings.advice.append("raise n, or leave it out and the fit stops by itself")
        else:
            findings.favour.append("the ELBO no longer rose when the fixed number of steps ended")
    else:
        findings.favour.append(sentence.rstrip(".") or "the fit settled")


def still_improving(losses: Float[np.ndarray, " steps"]) -> float:
    """By how many nats the loss fell from the last but one tenth of the steps to the last; 0 if not clearly.

    Infinite where there are too few steps to tell.

    Clearly: by more than half a nat and three standard errors of the difference, from the scatter of ten block means
    in each tenth (blocks, because successive steps are correlated).
    """
    losses = np.asarray(losses, np.float64)
    tenth = len(losses) // 10
    if tenth < 20:
        return math.inf if len(losses) else 0.0
    blocks = losses[len(losses) - 2 * tenth :].reshape(2, tenth)[:, : tenth // 10 * 10].reshape(2, 10, -1).mean(axis=2)
    fall = float(blocks[0].mean() - blocks[1].mean())
    error = float(np.sqrt((blocks.var(axis=1, ddof=1) / 10).sum()))
    return fall if fall > max(0.5, CLEARLY * error) else 0.0
