"""The verdict itself: numbers, sentences, and how they are printed."""

import textwrap
from dataclasses import dataclass

from posterion.diagnostics.collapse import Collapse
from posterion.diagnostics.corrections import Corrections
from posterion.diagnostics.psis import told_apart
from posterion.diagnostics.score_regression import LocalGaussian


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
    corrections
        What importance weights change, variable by variable; None where they were not computed: for networks, and
        where the model is not at hand.
    gaussian
        The Gaussian that the posterior's gradients mean; None likewise, and beyond 500 parameters.
    collapse
        Of a network: how much of it has its prior for a posterior.
    held_out
        Mean log score of the held-out rows it was given, in nats a row.
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
    corrections: Corrections | None = None
    gaussian: LocalGaussian | None = None
    collapse: Collapse | None = None
    held_out: float | None = None

    @property
    def summary(self) -> str:
        """One line; why the fit stopped stands elsewhere, so another reason is given where there is one."""
        word = "trustworthy" if self.trustworthy else "not trustworthy"
        reasons = [reason for reason in self.reasons if not reason.startswith("converged")] or self.reasons
        return f"{word}: {reasons[0]}"

    def first_look(self, *, model_at_hand: bool) -> str:
        """The same, before means and spreads were looked at one by one: k-hat of all together can miss one that is off.

        Found against, it is final; nothing found is no trust yet.

        Parameters
        ----------
        model_at_hand
            False for a posterior that was loaded without its model, of which nothing more can be seen.
        """
        if not self.trustworthy:
            return self.summary
        closer = "diagnose()" if model_at_hand else "with its model, po.load(path, model=...), diagnose()"
        return f"nothing against it at first look ({self.summary.partition(': ')[2]}); {closer} looks at each variable"

    def __str__(self) -> str:
        lines = ["The approximation looks " + ("trustworthy." if self.trustworthy else "NOT trustworthy.")]
        lines += map(_item, self.reasons)
        if self.advice:
            lines += ["What to do:", *map(_item, self.advice)]
        lines += self._changes()
        if not self.num_draws:
            return "\n".join([*lines, "ELBO and k-hat are not defined: the approximation has no density"])
        numbers = f"ELBO {self.elbo:,.2f} ± {self.elbo_se:.2f} nats"
        if self.null_elbo is not None:
            numbers += f" (without inputs {self.null_elbo:,.2f})"
        khat, limit = told_apart(self.khat, self.khat_threshold)
        numbers += f" · k-hat {khat} (limit {limit}) · {self.num_draws:,} draws"
        return "\n".join([*lines, numbers])

    def _changes(self) -> list[str]:
        """By the better of two sources, the variables whose mean or spread is furthest off."""
        weights, gaussian = self.corrections, self.gaussian
        if weights is not None and not weights.reliable and gaussian is not None and gaussian.tells:
            lines = ["What gradients say of the posterior (unconstrained units; exact if it is Gaussian):"]
            return lines + [_item(gaussian.sentence(entry)) for entry in gaussian.worst(3)]
        if weights is None:
            return []
        hint = "" if weights.reliable else " (a hint: k-hat is too high to rely on them)"
        return [f"What importance weights change most{hint}:"] + [_item(weights.sentence(k)) for k in weights.worst(3)]


def _item(sentence: str) -> str:
    return textwrap.fill(sentence, width=100, initial_indent="  - ", subsequent_indent="    ")
