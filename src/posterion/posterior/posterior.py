"""The posterior a user holds after `fit`: draws, predictions, verdict, file. A thin hub over the modules that do it."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

import jax
import numpy as np
from jaxtyping import Float

from posterion._typing import PyTree
from posterion.compilation.cache import Program
from posterion.data.source import AbstractSource
from posterion.diagnostics.comparison import NutsComparison
from posterion.diagnostics.corrections import Corrections
from posterion.diagnostics.verdict import Verdict, bound, judge
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.families import AbstractEmpirical, AbstractFamily
from posterion.posterior import judging
from posterion.posterior.datatree import constrained_draws, data_groups, to_datatree
from posterion.posterior.density import LoadedDensity
from posterion.posterior.importance import WeightedDraws
from posterion.posterior.record import FitRecord
from posterion.predictive import Prediction, SourcePrediction, predict
from posterion.predictive.files import digest, source_of
from posterion.target import AbstractRowTarget, AbstractTarget, Layout
from posterion.target.checks import to_slot

if TYPE_CHECKING:
    import xarray

_KEPT_BYTES = 16 * 2**20
"""Draws for predictions up to this size are kept for the next one: a quarter of the time of predicting one row."""
_PURPOSES = ("sample", "predict", "verdict", "resample", "reference")


class Posterior:
    """An approximation of a model's posterior, as `posterion.fit` returns it and `posterion.load` reads it.

    Parameters
    ----------
    target
        What was approximated, or what an exported posterior has kept of it.
    family
        The approximating family.
    params
        Its fitted parameters (NumPy arrays), over unconstrained space.
    record
        How it was fitted.
    log_weights
        log p(z) - log q(z) at fresh independent draws from q, or a function that computes them when they are first
        asked for: a short fit takes less time than its verdict. Of draws that were resampled, those of what they were
        resampled from.
    data
        The data it was fitted to, by slot; None for a loaded posterior, which does not keep them.
    more
        Goes on with the fit (steps, stop rule, callbacks, progress); None for a loaded posterior.
    """

    def __init__(
        self,
        target: AbstractTarget,
        family: AbstractFamily,
        params: PyTree,
        record: FitRecord,
        log_weights: Float[np.ndarray, " draws"] | Callable[[], Float[np.ndarray, " draws"]],
        *,
        data: Mapping[str, np.ndarray] | None = None,
        more: Callable[..., "Posterior"] | None = None,
    ) -> None:
        self.target, self.family, self.params, self.record = target, family, params, record
        self._log_weights, self._more = log_weights, more
        self._data = None if data is None else dict(data)
        self._kept_draws: tuple[tuple[int, str, int | None], np.ndarray] | None = None

    # ---- what was fitted
    @property
    def layout(self) -> Layout:
        """Names, shapes, dims and coords of the variables."""
        return self.target.layout

    @property
    def random_seed(self) -> int:
        """The seed that reproduces the fit."""
        return self.record.random_seed

    @property
    def hist(self) -> Float[np.ndarray, " steps"]:
        """Negative ELBO estimates in nats, one per step, as PyMC's ``approx.hist``; always for all rows."""
        return self.record.losses

    @cached_property
    def history(self) -> "xarray.Dataset":
        """The path of the ELBO: see `FitRecord.history`."""
        return self.record.history()

    @property
    def result(self) -> str:
        """How the fit ended: "converged", "fixed_steps", "max_steps", "diverged", "non_finite", "interrupted"..."""
        return self.record.status

    @cached_property
    def log_weights(self) -> Float[np.ndarray, " draws"]:
        """Values of log p(z) - log q(z), in nats, at fresh independent draws that selected nothing."""
        given, self._log_weights = self._log_weights, np.empty(0)  # let go of the fit's arrays
        return given() if callable(given) else np.asarray(given)

    @property
    def resampled(self) -> bool:
        """Whether the approximation is draws that were picked by the importance weights of others."""
        return isinstance(self.family, AbstractEmpirical) and self.log_weights.size > 0

    @property
    def elbo(self) -> float:
        """Evidence lower bound for all rows, in nats, on fresh draws that selected nothing.

        Of draws that were resampled by importance ("gaussian", "pathfinder") the importance-weighted bound. NaN for an
        approximation that has no density: a point, or particles.
        """
        return bound(self.log_weights, resampled=self.resampled)[0]

    @property
    def elbo_se(self) -> float:
        """Monte Carlo standard error of `elbo`."""
        return bound(self.log_weights, resampled=self.resampled)[1]

    # ---- draws
    def sample_unconstrained(self, draws: int = 1000, random_seed: int | None = None) -> Float[np.ndarray, "draws dim"]:
        """Independent draws of the flat unconstrained vector, as the engine sees it."""
        return self._draws(_whole("draws", draws), "sample", random_seed)

    def sample(self, draws: int = 1000, random_seed: int | None = None, *, resample: bool = False) -> "xarray.DataTree":
        """Draw from the approximate posterior.

        Parameters
        ----------
        draws
            How many.
        random_seed
            None draws the same values every time, derived from the fit's own seed.
        resample
            Pick the draws, with replacement, from four times as many by their Pareto-smoothed importance weights. That
            puts right what the approximation misses, as far as its draws reach: see `corrections`. Warns where k-hat
            says that they do not reach.

        Returns
        -------
        xarray.DataTree
            ArviZ's form: group ``posterior`` with dims (chain, draw, ...), the model's dims and coords, deterministics
            included; ``observed_data`` and ``constant_data`` where the data are at hand.

        Raises
        ------
        UnsupportedModelError
            If draws are to be resampled and the approximation has no density, or was loaded without its model.
        """
        if resample:
            values = judging.resampled(self, _whole("draws", draws), random_seed)
        elif isinstance(self.target, LoadedDensity) and self.target.draws:
            values = self.target.some_draws(_whole("draws", draws), random_seed)
        else:
            z = self.sample_unconstrained(draws, random_seed)
            values = constrained_draws(self.target, z, self.fitted_data, x64=self.record.x64)
        observed, constant, dims = data_groups(self.target, self._data or {})
        return to_datatree(
            values,
            self.layout,
            observed_data=observed,
            constant_data=constant,
            dims=dims,
            attrs={"inference_library": "posterion", "method": self.record.method, "random_seed": self.random_seed},
        )

    @overload
    def predict(
        self, data: Mapping[str, Any] | None = None, draws: int = 1000, random_seed: int | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self, data: str | PathLike | AbstractSource, draws: int = 1000, random_seed: int | None = None
    ) -> SourcePrediction: ...

    def predict(
        self,
        data: Mapping[str, Any] | str | PathLike | AbstractSource | None = None,
        draws: int = 1000,
        random_seed: int | None = None,
    ) -> Prediction | SourcePrediction:
        """What the posterior says of new rows: any number of them, in bounded memory.

        Parameters
        ----------
        data
            Input name to array or DataFrame. Only inputs that differ from the fit's need passing, and all that hold
            rows; outcomes are not needed. None predicts the rows the model was fitted to. A source from
            `posterion.data`, or the path of Parquet or Arrow files with the columns the fit had, gives a
            `SourcePrediction`, which writes files: ``predict("new/*.parquet").to_parquet("out/")``.
        draws
            Posterior draws to average over.
        random_seed
            None uses the same draws every time, derived from the fit's own seed.

        Raises
        ------
        DataError
            For an unknown input, a missing one, unequal row counts, or values that are not finite numbers.
        UnsupportedModelError
            If the model has no rows to predict.
        """
        if not isinstance(self.target, AbstractRowTarget):
            raise UnsupportedModelError("this model gives only a density: it has no observed rows to predict")
        if data is None:
            if self._data is None:
                raise DataError("the rows it was fitted to are not at hand (loaded, or streamed): pass rows to predict")
            data = {name: self._data[name] for name, slot in self.target.slots.items() if not slot.only_observed}
        z = self._draws(_whole("draws", draws), "predict", random_seed)
        if isinstance(data, str | PathLike | AbstractSource):
            return self._predict_source(data, z, random_seed)
        return predict(self.target, z, data, key=self.key("predict", random_seed), x64=self.record.x64)

    def _predict_source(
        self, data: str | PathLike | AbstractSource, z: Float[np.ndarray, "draws dim"], random_seed: int | None
    ) -> SourcePrediction:
        assert isinstance(self.target, AbstractRowTarget)  # checked by the caller  # noqa: S101
        target, (source, inputs) = self.target, source_of(data, self.target, self.record.columns)
        words = self.key("predict", random_seed)

        def predict_chunk(arrays: Mapping[str, np.ndarray], number: int) -> Prediction:
            key = np.random.SeedSequence([*map(int, words), number]).generate_state(2, np.uint32)
            rows = {name: to_slot(target.slots[name], array) for name, array in arrays.items()}
            return predict(target, z, rows, key=key, x64=self.record.x64)

        made_by = {"posterior": digest([z, words]), "draws": len(z)}
        return SourcePrediction(source, inputs, predict_chunk, made_by)

    # ---- verdict
    @cached_property
    def _verdict(self) -> Verdict:
        return judge(
            self.log_weights,
            status=self.record.status,
            sentence=self.record.sentence,
            is_network=self.record.is_network,
            skipped_steps=self.record.skipped_steps,
            steps=self.record.steps,
            losses=self.record.losses,
            null_elbo=self.record.null_elbo,
            caveats=self.record.caveats,
            method=self.record.method,
            size=self.layout.size,
            all_rows=not self.record.weights_by_batches,
            resampled=self.resampled,
        )

    def diagnose(
        self, inputs: Mapping[str, Any] | None = None, outcomes: Any = None, *, name: str | None = None
    ) -> Verdict:
        """How far the approximation can be trusted, and what to do about it.

        More than the line that ``print`` shows: where the model is at hand, thousands of fresh draws are weighed by
        their importance ratios, and what that changes (`corrections`) becomes part of the verdict. Of a network it
        says how many weights have their prior for a posterior.

        Parameters
        ----------
        inputs, outcomes
            Rows that were held out, as `predict` takes them: their log score then becomes part of the verdict. For a
            network it is the weightiest part.
        name
            The observed variable; None if there is one.

        Raises
        ------
        DataError
            For rows that do not fit the model, or fewer than ten.
        OptionError
            For inputs without outcomes, or if it is not clear which variable they are of.
        """
        if inputs is None and outcomes is None:
            return self._whole_verdict
        if inputs is None or outcomes is None:
            raise OptionError("held-out rows have inputs and outcomes: diagnose({'x': x_new}, y_new)")
        return judging.judge_held_out(self, self._whole_verdict, inputs, outcomes, name)

    @cached_property
    def corrections(self) -> Corrections:
        """Means and sds of the free variables, put right by importance weights; see `Corrections`.

        Raises
        ------
        UnsupportedModelError
            If the approximation has no density, or was loaded without its model.
        """
        return judging.corrections(self)

    @cached_property
    def verdict_draws(self) -> WeightedDraws:
        """Fresh draws with their importance ratios and, up to 500 parameters, the posterior's gradients there."""
        return judging.verdict_draws(self)

    @cached_property
    def _whole_verdict(self) -> Verdict:
        return judging.whole_verdict(self, self._verdict)

    def compare_with_nuts(
        self,
        draws: int = 500,
        *,
        warmup: int = 500,
        chains: int = 4,
        random_seed: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> NutsComparison:
        """A short run of NUTS started from this fit, and how far the fit is from it.

        Variables are compared one by one; of a network its predictions, since its weights can be exchanged.

        Parameters
        ----------
        draws, warmup
            Per chain: kept, and before them.
        chains
            Each starts at another draw of the fit.
        random_seed
            None derives it from the fit's own seed.
        data
            Rows whose predictions to compare, for a network; None for the rows it was fitted to.

        Returns
        -------
        NutsComparison
            Print it, take its table, or draw it by `posterion.plots.plot_comparison`.

        Raises
        ------
        UnsupportedModelError
            If the posterior was loaded without its model.
        """
        from posterion.posterior.reference import compare_with_nuts

        return compare_with_nuts(
            self,
            draws=_whole("draws", draws),
            warmup=_whole("warmup", warmup),
            chains=_whole("chains", chains),
            random_seed=random_seed,
            data=data,
        )

    # ---- going on
    def refine(
        self,
        n: int | None = None,
        *,
        stop: Any = None,
        callbacks: Sequence[Callable[[Any], None]] = (),
        progress: bool = True,
    ) -> "Posterior":
        """Go on with the fit from where it is; this posterior stays as it was.

        Parameters
        ----------
        n
            So many more steps, along one more cosine of step sizes. None goes on by the stop rule: a fit that was
            interrupted ends as if it had not been, to the same bits; one that had ended takes further rounds, the first
            twice as long as its last.
        stop
            Another stop rule than the fit's. Not together with ``n``.
        callbacks
            As of `posterion.fit`.
        progress
            Whether to show a bar where somebody can see it.

        Returns
        -------
        Posterior
            A new one. Steps, times and losses are those of the whole fit.

        Raises
        ------
        OptionError
            If there is nothing to go on from: a direct method has no steps, and a file does not keep them.
        """
        if self._more is None:
            raise OptionError(
                "a loaded posterior does not keep what its fit would need to go on, its optimiser among it: fit the "
                "model again from here by start= (posterion.fit(model, start=approx)), or next time with "
                "checkpoint=... for a fit that goes on to the bit on another day"
            )
        return self._more(n, stop, callbacks, progress)

    def stack(
        self,
        inputs: Mapping[str, Any],
        outcomes: Any,
        *,
        name: str | None = None,
        draws: int = 1000,
        random_seed: int | None = None,
    ) -> "Posterior":
        """A mixture's components weighted by how well they together predict rows that were held out.

        Parameters
        ----------
        inputs
            Of the held-out rows, as `predict` takes them.
        outcomes
            Theirs, one per row.
        name
            The observed variable; None if there is one.
        draws
            Of every component, that its predictions average over.
        random_seed
            None uses the same draws every time, derived from the fit's own seed.

        Returns
        -------
        Posterior
            A new one, whose notes name the weights; this one stays as it was.

        Raises
        ------
        OptionError
            If the approximation is no mixture.
        DataError
            For rows that do not fit the model, or fewer than ten.
        UnsupportedModelError
            If the model's data are not at hand, or it does not give the density of new outcomes.

        References
        ----------
        Yao, Vehtari, Simpson, Gelman (2018), Using stacking to average Bayesian predictive distributions, Bayesian
        Analysis 13(3).
        """
        from posterion.posterior.stacking import stack

        draws = _whole("draws", draws)
        return stack(self, inputs, outcomes, name=name, draws=draws, random_seed=random_seed)

    # ---- files and pictures
    def save(self, path: str | PathLike) -> None:
        """Write the posterior to one file that predicts without the model's source; see `posterion.load`.

        Raises
        ------
        PosteriorFileError
            If the file cannot be written; a file that was there before is left as it was.
        """
        from posterion.posterior.saved import save

        save(self, path)

    def plot_elbo(self, **options: Any) -> Any:
        """Picture of the ELBO along the fit: raw, smoothed, and where it stopped. Options go to `plots.plot_elbo`."""
        from posterion.plots.elbo import plot_elbo

        return plot_elbo(self.history, **options)

    def plot_parameters(self, draws: int = 1000, **options: Any) -> Any:
        """Picture of the variables' marginal posteriors. Options go to `plots.plot_parameters`."""
        from posterion.plots.parameters import plot_parameters

        return plot_parameters(self.sample(draws), **options)

    # ---- for people
    def __repr__(self) -> str:
        record, size = self.record, self.layout.size
        variables = len(self.layout.variables)
        rows = "" if record.rows_per_step is None else f", {record.rows_per_step} of {record.num_rows} rows a step"
        draws = f"{self.log_weights.size:,} " + (
            "draws, weighted by their importance" if self.resampled else "fresh draws"
        )
        elbo = f"{self.elbo:,.2f} ± {self.elbo_se:.2f} nats on {draws}"
        if not self.log_weights.size:
            elbo = "not defined: the approximation has no density"
        tempered = "" if record.kl_weight == 1.0 else f", tempered (kl_weight={record.kl_weight:g})"
        lines = [
            f"Posterior of {size:,} parameter{'s' * (size != 1)} in {variables} variable{'s' * (variables != 1)}, "
            f"by {record.method}{tempered}",
            f"  stop     {record.sentence}",
            f"  ELBO     {elbo}",
            f"  verdict  {self._verdict_in_a_line()}",
            f"  time     {record.seconds_compiling:.2f} s compiling, {record.seconds_running:.2f} s running"
            f" {record.steps:,} {record.counted}{rows}",
        ]
        if record.skipped_steps:
            lines.append(f"  skipped  {record.skipped_steps:,} steps whose values were not finite")
        lines += [f"  note     {note}" for note in record.notes]
        return "\n".join(lines)

    def _verdict_in_a_line(self) -> str:
        whole = self.__dict__.get("_whole_verdict")
        if whole is not None:
            return whole.summary
        if self.record.is_network:  # weights are not looked at one by one
            return self._verdict.summary
        return self._verdict.first_look(model_at_hand=self.has_data)

    # ---- pieces
    def key(self, purpose: str, random_seed: int | None) -> np.ndarray:
        """Raw key of a purpose ("sample", "predict", ...), made on the host; None derives it from the fit's seed."""
        seed = self.random_seed if random_seed is None else random_seed
        return np.random.SeedSequence([int(seed), 100 + _PURPOSES.index(purpose)]).generate_state(2, np.uint32)

    def _draws(self, draws: int, purpose: str, random_seed: int | None) -> Float[np.ndarray, "draws dim"]:
        wanted = (draws, purpose, random_seed)
        if self._kept_draws is not None and self._kept_draws[0] == wanted:
            return self._kept_draws[1]
        values = self._fresh_draws(draws, purpose, random_seed)
        if purpose == "predict" and values.nbytes <= _KEPT_BYTES:  # which stay inside; others are the caller's
            self._kept_draws = (wanted, values)
        return values

    def _fresh_draws(self, draws: int, purpose: str, random_seed: int | None) -> Float[np.ndarray, "draws dim"]:
        with jax.enable_x64(self.record.x64):
            sampler = self.target.compiled.setdefault(
                ("sample", self.family, draws),
                Program(
                    lambda params, words: self.family.sample(
                        self.layout, params, jax.random.wrap_key_data(words), draws
                    )
                ),
            )
            return np.asarray(sampler(self.params, self.key(purpose, random_seed)))

    @property
    def has_data(self) -> bool:
        """Whether the model and the data of the fit are at hand; not so for one loaded without its model."""
        return self._data is not None

    @property
    def fitted_data(self) -> dict[str, np.ndarray]:
        """The data it was fitted to, by slot; of a loaded posterior only what its functions cannot do without."""
        return dict(self.target.data) if self._data is None else dict(self._data)


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name} must be a whole number from 1 on, not {value!r}")
    return int(value)
