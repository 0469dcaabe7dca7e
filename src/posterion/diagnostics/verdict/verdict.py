"""The verdict itself: numbers, sentences, and how they are printed."""

import textwrap
from dataclasses import dataclass


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
