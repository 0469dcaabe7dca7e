"""A `Prediction`: what a posterior says of new rows. Summaries are there at once, the rest is computed when asked for.

What the words mean (mean, std, epistemic, aleatoric) is laid down in ``docs/concepts/uncertainty.md``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posterion.errors import OptionError
from posterion.predictive import tables
from posterion.predictive.draws import Means, Of, Outcomes
from posterion.predictive.evaluation import Evaluation, Progress
from posterion.predictive.log_score import log_score
from posterion.predictive.quantiles import quantiles
from posterion.predictive.statistics import Summary, rules

if TYPE_CHECKING:
    import pandas
    import xarray

_STATISTICS = ("mean", "std", "mean_std", "epistemic", "aleatoric", "total")
_UNNAMED_OF = "of must be 'outcome' (what will be observed) or 'mean' (its expectation given the draw); found {!r}"


class ByName(dict[str, np.ndarray]):
    """Arrays by variable name; a wrong name is answered with the right ones."""

    def __init__(self, what: str, values: Mapping[str, np.ndarray]) -> None:
        super().__init__(values)
        self._what = what

    def __missing__(self, name: str) -> np.ndarray:
        raise KeyError(f"no {self._what} for {name!r}; there is one for: {', '.join(self) or 'nothing'}")


class Prediction:
    """Posterior predictive summaries of new rows, by variable name; every array is shaped (rows, ...).

    Variables are the model's observed variables and those of its deterministics that have one value per row.
    Made by `predict`; not meant to be constructed by hand.

    Parameters
    ----------
    evaluation
        What the summaries were computed from; kept for quantiles, draws and scores.
    summaries
        By variable.
    row_labels
        Labels of the rows, as in the index of a DataFrame.
    """

    def __init__(
        self, evaluation: Evaluation, summaries: Mapping[str, Summary], row_labels: np.ndarray | None = None
    ) -> None:
        self._evaluation = evaluation
        self._summaries = dict(summaries)
        self.row_labels = row_labels

    def _by_name(self, statistic: str) -> ByName:
        values = {name: getattr(summary, statistic) for name, summary in self._summaries.items()}
        return ByName(statistic, {name: array for name, array in values.items() if array is not None})

    @property
    def mean(self) -> ByName:
        """Predictive mean E[y | x]: a probability for binary, (rows, ..., classes) probabilities for categorical."""
        return self._by_name("mean")

    @property
    def std(self) -> ByName:
        """Standard deviation of the outcome: of what will be observed, not of its mean.

        For binary outcomes sqrt(p (1 - p)), for categorical that of each class's indicator; for deterministics the
        posterior standard deviation.
        """
        return self._by_name("std")

    @property
    def mean_std(self) -> ByName:
        """Posterior standard deviation of the conditional mean E[y | z, x]: of the probability, for binary outcomes."""
        return self._by_name("mean_std")

    @property
    def epistemic(self) -> ByName:
        """What more data could remove: Var(E[y | z, x]), or the mutual information of outcome and z; see `units`."""
        return self._by_name("epistemic")

    @property
    def aleatoric(self) -> ByName:
        """What no data can remove: E[Var(y | z, x)], or the mean entropy E[H(y | z, x)]; see `units`."""
        return self._by_name("aleatoric")

    @property
    def total(self) -> ByName:
        """Epistemic plus aleatoric: the variance of the outcome, or the entropy of its mean probabilities."""
        return self._by_name("total")

    @property
    def units(self) -> dict[str, str]:
        """Whether a variable's epistemic, aleatoric and total parts are a "variance" or are in "nats"."""
        return {name: summary.unit for name, summary in self._summaries.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The variables predicted."""
        return tuple(self._summaries)

    @property
    def num_rows(self) -> int:
        """Number of rows predicted, of the first variable if they differ."""
        return len(next(iter(self._summaries.values())).mean)

    @property
    def num_draws(self) -> int:
        """Number of posterior draws averaged over."""
        return len(self._evaluation.draws)

    def quantile(
        self,
        q: float | Sequence[float] | np.ndarray,
        *,
        of: Of = "outcome",
        names: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> ByName:
        """Quantiles of the outcome or of its conditional mean, computed over all draws when asked for.

        Parameters
        ----------
        q
            One probability, or several: then results have a leading axis for them.
        of
            "outcome" for what will be observed (a prediction interval), "mean" for E[y | z, x] over the posterior (a
            credible interval). For deterministics both are their posterior quantile.
        names
            The variables wanted; None for all.
        progress
            Called with (done, all).

        Raises
        ------
        OptionError
            For q outside [0, 1], or an unknown ``of`` or name.
        """
        levels = np.atleast_1d(np.asarray(q, float))
        if levels.ndim != 1 or not np.all((levels >= 0) & (levels <= 1)):
            raise OptionError(f"q must be probabilities between 0 and 1; found {q!r}")
        wanted = self._available(of, names)
        found = quantiles(self._evaluation, self._summaries, levels, of=of, names=wanted, progress=progress)
        return ByName(f"quantile of the {of}", {n: v if np.ndim(q) else v[0] for n, v in found.items()})

    def sample(
        self,
        draws: int | None = None,
        *,
        of: Of = "outcome",
        names: Sequence[str] | None = None,
        max_bytes: int = 2 * 2**30,
        progress: Progress | None = None,
    ) -> ByName:
        """Predictive draws themselves, (draws, rows, ...); needs draws x rows x 4 (or 8) bytes per number of a row.

        Parameters
        ----------
        draws
            How many; None for as many as posterior draws.
        of
            "outcome" for simulated outcomes, "mean" for E[y | z, x] of each draw.
        names
            The variables wanted; None for all.
        max_bytes
            The memory the result may take.
        progress
            Called with (done, all).

        Raises
        ------
        OptionError
            If the result would be larger than ``max_bytes`` (the message says how large), or there are fewer
            posterior draws than asked for.
        """
        wanted = self._available(of, names)
        number = self.num_draws if draws is None else draws
        if not 1 <= number <= self.num_draws:
            raise OptionError(f"draws must lie between 1 and the {self.num_draws} posterior draws; found {number}")
        width = sum(self._summaries[name].mean[0].size for name in wanted) * (8 if self._evaluation.x64 else 4)
        needed = width * number * self.num_rows
        if needed > max_bytes:
            raise OptionError(
                f"{number:,} draws of {self.num_rows:,} rows need {needed / 2**20:,.0f} MB, more than max_bytes="
                f"{max_bytes / 2**20:,.0f} MB; ask for fewer draws or names, predict fewer rows, or raise max_bytes"
            )
        function = Outcomes(wanted) if of == "outcome" else Means(wanted)
        evaluation = self._evaluation.with_draws(number)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        for values in evaluation.collect(function, bytes_per_row=width, progress=progress):
            for name, array in values.items():
                parts[name].append(array)
        return ByName(f"draws of the {of}", {n: np.concatenate(p, axis=1) for n, p in parts.items()})

    def _available(self, of: str, names: Sequence[str] | None) -> tuple[str, ...]:
        if of not in ("outcome", "mean"):
            raise OptionError(_UNNAMED_OF.format(of))
        known = rules(self._evaluation.target)
        simulated = {name for name, rule in known.items() if rule.startswith("simulated")}
        if names is None:
            return tuple(name for name in known if of == "outcome" or name not in simulated)
        for name in names:
            if name not in known:
                raise OptionError(f"no variable {name!r} was predicted; there are: {', '.join(known)}")
            if of == "mean" and name in simulated:
                raise OptionError(
                    f"the conditional mean of {name!r} has no closed form in this model, so it has no quantiles or "
                    "draws; use of='outcome', or mean_std for its posterior standard deviation"
                )
        return tuple(names)

    def log_score(self, name: str, y: Any) -> np.ndarray:
        """Log predictive density (or probability) of given outcomes, in nats per row: log mean_z p(y | z, x).

        Parameters
        ----------
        name
            An observed variable.
        y
            Its outcomes, one per predicted row.

        Returns
        -------
        ndarray
            Shaped (rows,). Its mean is the log score: higher is better.

        Raises
        ------
        DataError
            If ``y`` does not have one valid outcome per row.
        OptionError
            If there is no such observed variable.
        UnsupportedModelError
            If the model does not give the density of new outcomes.
        """
        observed = self._evaluation.target.observed
        if name not in observed:
            raise OptionError(f"no observed variable {name!r}; there are: {', '.join(observed)}")
        return log_score(self._evaluation, self._summaries, name, y)

    def _statistics(self) -> dict[str, ByName]:
        return {statistic: self._by_name(statistic) for statistic in _STATISTICS}

    def to_dataframe(self, names: Sequence[str] | None = None) -> "pandas.DataFrame":
        """One row per predicted row, one column per number: ``out_mean``, ``out_std``, ``out_epistemic``...

        Parameters
        ----------
        names
            The variables wanted; None for all. They must have the same rows.

        Raises
        ------
        OptionError
            If the variables do not have the same number of rows.
        """
        import pandas

        columns, labels = self._columns(names)
        return pandas.DataFrame(columns, index=labels)

    def to_parquet(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        """Write the columns of `to_dataframe` to a Parquet file; row labels go into the column ``row``."""
        tables.write_parquet(path, *self._columns(names))

    def _columns(self, names: Sequence[str] | None) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        wanted = self._available("outcome", names)
        lengths = {name: len(self._summaries[name].mean) for name in wanted}
        if len(set(lengths.values())) > 1:
            raise OptionError(
                f"the variables have different numbers of rows ({lengths}) and do not fit into one table; name some: "
                f"names=[{wanted[0]!r}]"
            )
        statistics = {s: {n: v for n, v in by.items() if n in wanted} for s, by in self._statistics().items()}
        labels = self.row_labels
        fits = labels is not None and len(labels) == lengths[wanted[0]]
        return tables.columns(statistics), labels if fits else None

    def to_datatree(self, draws: int | None = None) -> "xarray.DataTree":
        """As an xarray DataTree: a group per statistic, the inputs, and the draws if asked for.

        Parameters
        ----------
        draws
            How many predictive draws to add as the group ``predictions`` (chain, draw, rows, ...); None for none.
        """
        target = self._evaluation.target
        inputs = {
            name: (np.asarray(self._evaluation.data[name]), slot.dims)
            for name, slot in target.slots.items()
            if not slot.only_observed
        }
        return tables.to_datatree(
            self._statistics(),
            layout=target.layout,
            observed=target.observed,
            row_labels=self.row_labels,
            inputs=inputs,
            draws=None if draws is None else self.sample(draws),
        )

    def __repr__(self) -> str:
        lines = [f"Prediction of {self.num_rows:,} rows from {self.num_draws:,} posterior draws"]
        for name, summary in self._summaries.items():
            parts = [f"mean {_range(summary.mean)}", f"std {_range(summary.std)}"]
            if summary.total is not None:
                share = np.sum(summary.epistemic) / max(np.sum(summary.total), np.finfo(float).tiny)
                parts.append(f"epistemic share {share:.0%} (of {summary.unit})")
            lines.append(f"  {name}: " + ", ".join(parts))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heading = f"Prediction of {self.num_rows:,} rows from {self.num_draws:,} posterior draws"
        return tables.to_html(heading, tables.columns(self._statistics()), self.row_labels, self.num_rows)


def _range(values: np.ndarray) -> str:
    return f"{np.min(values):.3g} to {np.max(values):.3g}"
