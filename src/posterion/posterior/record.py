"""The record of a fit: how it was made, why it stopped, what it cost. Plain values, so that it saves as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Comparison:
    """The ELBO before and after one round, on the same fresh draws.

    Parameters
    ----------
    step
        Steps on the path that was kept.
    elbo
        After the round, in nats.
    gain
        Over the state before the round, in nats.
    standard_error
        Of the gain.
    """

    step: int
    elbo: float
    gain: float
    standard_error: float


@dataclass(frozen=True)
class FitRecord:
    """How a posterior was fitted.

    Parameters
    ----------
    method
        The method's description, as one would type it.
    random_seed
        The seed that reproduces the fit.
    x64
        Whether it was computed in float64.
    status
        "converged", "fixed_steps", "max_steps", "diverged", "non_finite", "interrupted", "callback" or "max_seconds".
    sentence
        Why it stopped, in words.
    steps, skipped_steps
        Steps taken in all, and how many of them changed nothing because a value was not finite.
    counted
        What ``steps`` counts: "steps", or "evaluations" of the log density by a method that solves in one go.
    seconds_compiling, seconds_running
        Wall time; tracing counts as compiling.
    rows_per_step, num_rows
        Of the mini-batches; None for all rows at once.
    is_network
        Whether the model multiplies activations by weights.
    null_elbo
        Evidence in nats of the best prediction that ignores the inputs, where that means something.
    kl_weight
        Of the Kullback-Leibler term; other than 1 for a tempered posterior.
    notes
        What was recognised in the model and the data, and what the method says of what it did.
    caveats
        What speaks against trusting the approximation whatever its numbers say, in sentences.
    columns
        Which columns of a table make which input, and the labels behind codes; None if the rows were in no table.
    weights_by_batches
        Whether every draw that the ELBO was measured with met rows of its own, not all rows.
    losses
        Negative ELBO estimates in nats, one per step of the path that was kept.
    comparisons
        One per round of that path.
    extras
        What else the method found, by name; each method's page says what.
    """

    method: str
    random_seed: int
    x64: bool
    status: str
    sentence: str
    steps: int
    skipped_steps: int
    seconds_compiling: float
    seconds_running: float
    rows_per_step: int | None = None
    num_rows: int | None = None
    is_network: bool = False
    null_elbo: float | None = None
    kl_weight: float = 1.0
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    counted: str = "steps"
    columns: Mapping[str, Any] | None = None
    weights_by_batches: bool = False
    losses: Float[np.ndarray, " steps"] = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    comparisons: tuple[Comparison, ...] = ()
    extras: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def converged(self) -> bool:
        """Whether the stop rule was met."""
        return self.status == "converged"

    def history(self) -> "xarray.Dataset":
        """The path of the ELBO as a dataset.

        Returns
        -------
        xarray.Dataset
            ``neg_elbo`` (step): noisy estimates in nats; ``elbo``, ``gain`` and ``gain_se`` (comparison): the clean
            values after each round, at ``comparison`` steps.
        """
        from xarray import Dataset  # half a second to import

        return Dataset(
            {
                "neg_elbo": ("step", np.asarray(self.losses), {"units": "nats"}),
                "elbo": ("comparison", np.array([c.elbo for c in self.comparisons], float), {"units": "nats"}),
                "gain": ("comparison", np.array([c.gain for c in self.comparisons], float), {"units": "nats"}),
                "gain_se": ("comparison", np.array([c.standard_error for c in self.comparisons], float)),
            },
            coords={
                "step": np.arange(1, len(self.losses) + 1),
                "comparison": np.array([c.step for c in self.comparisons], int),
            },
            attrs={"method": self.method, "status": self.status, "why_it_stopped": self.sentence},
        )
