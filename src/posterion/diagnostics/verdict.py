"""The verdict: whether an approximation can be trusted, why, and what to do about it, in sentences.

Two kinds of model are judged differently. For most, Pareto k-hat of the importance ratios says whether the whole joint
distribution was met (see `psis`). For networks it cannot: their weights can be permuted and change sign without
changing the network, so the posterior has thousands of equal modes, any one approximation covers one of them, and
k-hat is far above its limit however good the predictions are [1]_. They are judged by what their functions do: whether
the fit settled, and whether the evidence bound is clearly above that of a model that ignores the inputs, which wide
mean-field networks fail to reach [2]_.

References
----------
.. [1] Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work?: Evaluating variational inference. ICML.
.. [2] Coker, Bruinsma, Burt, Pan and Doshi-Velez (2022), Wide mean-field Bayesian neural networks ignore the data.
   AISTATS.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from posterion.diagnostics.psis import MINIMUM_DRAWS, khat_threshold, pareto_smooth

_FAILED = ("diverged", "non_finite")
_CUT_SHORT = ("max_steps", "interrupted", "callback")
_SKIPPED_SHARE = 0.01
"""Share of skipped steps from which they are no longer isolated accidents."""
_NEARLY_CONSTANT = 0.05
"""Standard deviation of the log importance ratios below which the approximation is as good as exact."""
_CLEARLY = 3.0
"""Standard errors, or nats, by which a difference of ELBOs counts as clear."""


@dataclass(frozen=True)
class Verdict:
    """How far an approximation can be trusted.

    Parameters
    ----------
    trustworthy
        True if nothing was found that speaks against using it as the posterior.
    reasons
        Sentences: what was found, for and against.
    advice
        Sentences: what to do; empty if there is nothing to do.
    khat
        Pareto k-hat of the importance ratios; NaN if it could not be computed.
    khat_threshold
        Above which k-hat speaks against the approximation, unless it is a network's.
    elbo, elbo_se
        Evidence lower bound in nats, and its Monte Carlo standard error.
    null_elbo
        The evidence of the best prediction that ignores all inputs, in nats; None if it was not given.
    num_draws
        Fresh draws the numbers rest on.
    """

    trustworthy: bool
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    khat: float
    khat_threshold: float
    elbo: float
    elbo_se: float
    null_elbo: float | None
    num_draws: int

    @property
    def summary(self) -> str:
        """One line; why the fit stopped stands elsewhere, so another reason is given where there is one."""
        word = "trustworthy" if self.trustworthy else "not trustworthy"
        reasons = [reason for reason in self.reasons if not reason.startswith("converged")] or self.reasons
        return f"{word}: {reasons[0]}"

    def __str__(self) -> str:
        lines = ["The approximation looks " + ("trustworthy." if self.trustworthy else "NOT trustworthy.")]
        lines += map(_item, self.reasons)
        if self.advice:
            lines += ["What to do:", *map(_item, self.advice)]
        if not self.num_draws:
            return "\n".join([*lines, "ELBO and k-hat are not defined: the approximation has no density"])
        numbers = f"ELBO {self.elbo:,.2f} ± {self.elbo_se:.2f} nats"
        if self.null_elbo is not None:
            numbers += f" (without inputs {self.null_elbo:,.2f})"
        numbers += f" · k-hat {self.khat:.2f} (limit {self.khat_threshold:.2f}) · {self.num_draws:,} draws"
        return "\n".join([*lines, numbers])


def _item(sentence: str) -> str:
    return textwrap.fill(sentence, width=100, initial_indent="  - ", subsequent_indent="    ")


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
    """
    log_weights = np.asarray(log_weights, np.float64)
    elbo, elbo_se, khat, limit = _numbers(log_weights)
    against: list[str] = list(caveats)
    favour: list[str] = []
    advice: list[str] = []

    if not log_weights.size:
        against.append("its draws have no density: no ELBO and no k-hat can tell how far they are from the posterior")
        advice.append("compare with a method whose approximation has a density, such as 'advi' or 'laplace'")
    elif not np.isfinite(elbo):
        bad = np.mean(~np.isfinite(log_weights))
        against.append(f"the log density is not finite at {bad:.0%} of the approximation's draws")
        advice.append("look at the verdict of a fit with precision='float64', and at priors with bounded support")
    _judge_stop(status, sentence, losses, is_network, against, favour, advice)
    if skipped_steps:
        share = skipped_steps / max(steps, 1)
        note = f"{skipped_steps:,} of {steps:,} steps were skipped because a value was not finite"
        (against if share > _SKIPPED_SHARE else favour).append(note)
        if share > _SKIPPED_SHARE:
            advice.append("fit with precision='float64', scale the inputs, or tighten the widest priors")
    if is_network:
        _judge_network(elbo, elbo_se, null_elbo, against, favour, advice)
    elif np.isfinite(elbo):
        spread = float(np.std(log_weights)) if log_weights.size >= MINIMUM_DRAWS else math.inf
        if spread < _NEARLY_CONSTANT:  # k-hat is of the ratios' tail, and here there is no tail worth the name
            favour.insert(0, f"the importance ratios vary by {spread:.1%} only: the approximation is the posterior")
        else:
            _judge_khat(khat, limit, log_weights.size, against, favour, advice)
    reasons = [*against, *favour] if against else favour
    return Verdict(
        trustworthy=not against,
        reasons=tuple(reasons),
        advice=tuple(dict.fromkeys(advice)),
        khat=khat,
        khat_threshold=limit,
        elbo=elbo,
        elbo_se=elbo_se,
        null_elbo=null_elbo,
        num_draws=log_weights.size,
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


def _numbers(log_weights: np.ndarray) -> tuple[float, float, float, float]:
    """ELBO, its standard error, k-hat and its limit."""
    draws = log_weights.size
    limit = khat_threshold(max(draws, MINIMUM_DRAWS))
    if draws == 0 or not np.all(np.isfinite(log_weights)):
        elbo = float(np.mean(log_weights)) if draws else math.nan
        return elbo, math.nan, math.nan, limit
    elbo = float(np.mean(log_weights))
    elbo_se = float(np.std(log_weights, ddof=1) / math.sqrt(draws)) if draws > 1 else math.inf
    khat = pareto_smooth(log_weights).khat if draws >= MINIMUM_DRAWS else math.nan
    return elbo, elbo_se, khat, limit


def _judge_stop(
    status: str,
    sentence: str,
    losses: np.ndarray | None,
    is_network: bool,  # noqa: FBT001
    against: list[str],
    favour: list[str],
    advice: list[str],
) -> None:
    said = f" ({sentence.rstrip('.')})" if sentence else ""
    if status in _FAILED:
        against.append(f"the fit failed{said}")
        advice.append("scale the inputs, tighten the widest priors, or fit with precision='float64'")
    elif status in _CUT_SHORT:
        against.append(f"the fit was cut short before it settled{said}")
        advice.append("fit again and let it stop by itself")
    elif status == "fixed_steps":
        improving = None if losses is None else still_improving(losses)
        if losses is None or improving is None:
            favour_or_against = against if is_network else favour
            favour_or_against.append("the number of steps was fixed, so whether more would help was not checked")
            advice.append("leave n out, and the fit stops by itself once it has settled")
        elif math.isinf(improving):
            against.append(f"{len(losses):,} fixed steps are too few to tell whether more would help")
            advice.append("raise n, or leave it out and the fit stops by itself")
        elif improving > 0:
            against.append(
                f"the ELBO still rose by {improving:.1f} nats over the last tenth of the fixed number of steps"
            )
            advice.append("raise n, or leave it out and the fit stops by itself")
        else:
            favour.append("the ELBO no longer rose when the fixed number of steps ended")
    else:
        favour.append(sentence.rstrip(".") or "the fit settled")


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
    return fall if fall > max(0.5, _CLEARLY * error) else 0.0


def _judge_network(
    elbo: float,
    elbo_se: float,
    null: float | None,
    against: list[str],
    favour: list[str],
    advice: list[str],
) -> None:
    if null is not None and np.isfinite(elbo):
        if elbo > null + _CLEARLY * max(1.0, elbo_se):
            favour.append(f"its ELBO is {elbo - null:,.0f} nats above a prediction that ignores the inputs")
        else:
            against.append(
                f"its ELBO ({elbo:,.1f}) is not clearly above that of a prediction that ignores the inputs "
                f"({null:,.1f}): the network has learned little or nothing"
            )
            advice.append(
                "use fewer hidden units, narrower priors (standard deviation 1 / sqrt(inputs) per layer), or a last "
                "layer that alone is Bayesian; wide mean-field networks drift to their prior"
            )
    favour.append(
        "k-hat says nothing here: a network's weights can be exchanged and change sign, so one approximation never "
        "covers the whole posterior; trust the predictions, not the weights"
    )
    advice.append("check predictions on rows that were held out: log score, calibration, and spread away from the data")


def _judge_khat(
    khat: float, limit: float, draws: int, against: list[str], favour: list[str], advice: list[str]
) -> None:
    if math.isnan(khat):
        against.append(f"{draws} draws are too few to tell how well the approximation covers the posterior")
        advice.append(f"judge it by at least {MINIMUM_DRAWS} draws")
    elif khat <= limit:
        favour.insert(0, f"k-hat {khat:.2f} (limit {limit:.2f}): the draws cover the posterior")
    else:
        against.append(
            f"k-hat {khat:.2f} is above {limit:.2f}: the approximation misses part of the joint posterior, typically "
            "its correlations and tails, so intervals may be too narrow; means are often still good"
        )
        advice.append(
            "use a richer family (full rank, low rank), or reparametrise correlated or hierarchical variables"
        )
        advice.append("compare what you report with a short MCMC run")
