"""Ready-made callbacks for ``fit(callbacks=[...])``: stop early on held-out rows, and watch parameters move.

A callback is any function of one argument, the progress of the fit. It may look at ``progress.step``,
``progress.losses`` (negative ELBO estimates in nats) and ``progress.posterior()``, the posterior as it is now, and it
ends the fit by raising StopIteration; what exists is kept. One with an attribute ``every`` is called after every so
many steps, so that what it decides does not depend on the clock.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from posterion.errors import NOTHING_OBSERVED, OptionError
from posterion.optim.loop import Progress

__all__ = ["EarlyStop", "LiveTrace"]

_CLEARLY = 2.0


class EarlyStop:
    """Stop when predictions of held-out rows get no better.

    Every ``every`` steps the log score of the held-out rows is computed, mean over rows of log mean p(y | z, x) over
    draws z. The fit ends after ``patience`` looks in a row that were not better than the best by more than twice the
    standard error of the paired difference.

    Parameters
    ----------
    inputs
        Of the held-out rows, as `Posterior.predict` takes them.
    outcomes
        Theirs, one per row.
    name
        The observed variable; None if there is one.
    every
        Steps between looks.
    patience
        Looks without a better score before the fit ends.
    draws
        Posterior draws that the score averages over.

    Raises
    ------
    OptionError
        For counts below one.

    Attributes
    ----------
    scores
        (step, log score) of every look so far, in nats per row.
    """

    def __init__(
        self,
        inputs: Mapping[str, Any],
        outcomes: Any,
        *,
        name: str | None = None,
        every: int = 1000,
        patience: int = 3,
        draws: int = 200,
    ) -> None:
        if min(every, patience, draws) < 1:
            raise OptionError("every, patience and draws must be whole numbers from 1 on")
        self.inputs, self.outcomes, self.name = inputs, np.asarray(outcomes), name
        self.every, self.patience, self.draws = every, patience, draws
        self.scores: list[tuple[int, float]] = []
        self._best: np.ndarray | None = None
        self._waited = 0

    def __call__(self, progress: Progress) -> None:
        """Look at the held-out rows."""
        now = self._score(progress)
        self.scores.append((progress.step, float(np.mean(now))))
        if self._best is None or _better(now, self._best):
            self._best, self._waited = now, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            raise StopIteration(
                f"the log score of {len(now):,} held-out rows was {np.mean(now):.4f} and had not clearly risen above "
                f"{np.mean(self._best):.4f} in {self.patience} looks"
            )

    def _score(self, progress: Progress) -> Float[np.ndarray, " rows"]:
        posterior = progress.posterior()
        names = list(getattr(posterior.target, "observed", ()))
        name = self.name or (names[0] if len(names) == 1 else None)
        if not names:
            raise OptionError(NOTHING_OBSERVED)
        if name is None:
            raise OptionError(f"name one of the observed variables {names}, whose outcomes are held out: name='...'")
        return np.asarray(posterior.predict(self.inputs, draws=self.draws).log_score(name, self.outcomes), np.float64)


class LiveTrace:
    """Means and standard deviations of the variables while the fit goes on, for a look at what still moves.

    Parameters
    ----------
    every
        Steps between looks.
    draws
        Posterior draws of each look.

    Attributes
    ----------
    steps
        Steps at the looks so far.
    means, deviations
        Of the unconstrained values, one row per look.
    """

    def __init__(self, *, every: int = 1000, draws: int = 200) -> None:
        if min(every, draws) < 1:
            raise OptionError("every and draws must be whole numbers from 1 on")
        self.every, self.draws = every, draws
        self.steps: list[int] = []
        self._moments: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, progress: Progress) -> None:
        """Take one look."""
        z = progress.posterior().sample_unconstrained(self.draws)
        self.steps.append(progress.step)
        self._moments.append((z.mean(axis=0), z.std(axis=0)))

    @property
    def means(self) -> Float[np.ndarray, "looks dim"]:
        """Means of the unconstrained values, one row per look."""
        return np.stack([mean for mean, _ in self._moments])

    @property
    def deviations(self) -> Float[np.ndarray, "looks dim"]:
        """Standard deviations of the unconstrained values, one row per look."""
        return np.stack([deviation for _, deviation in self._moments])


def _better(now: np.ndarray, best: np.ndarray) -> bool:
    difference = now - best
    error = difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else 0.0
    return bool(difference.mean() > _CLEARLY * error and difference.mean() > 0)
