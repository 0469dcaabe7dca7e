"""How the networks of the estimators are fitted: sizes, members, folds, and which of the two ways.

Small networks on few rows go by Gauss-Newton steps with a full covariance (`gauss_newton`), all others by mini-batches
with Kronecker factors (`stochastic`). Both give members that predict functions with covariances.
"""

import numbers
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy import special
from sklearn.utils import check_random_state

from posterion.errors import OptionError
from posterion.estimators import ensemble
from posterion.estimators.base import AbstractEstimator
from posterion.estimators.columns import Columns
from posterion.estimators.ensemble import Calibration, HeldOut, Member
from posterion.estimators.gauss_newton import GaussianPrior, Mode, find_mode
from posterion.estimators.kronecker import KroneckerMode, relevances
from posterion.estimators.likelihoods import Bernoulli, Likelihood, StudentT
from posterion.estimators.network import Network
from posterion.estimators.threads import one_thread
from posterion.estimators.widening import narrow_mode, widen, widen_mode

MOST_WEIGHTS, MOST_WORK = 600, 2e8
"""Full covariances are used up to so many weights, and multiplications for one Gauss-Newton matrix."""
LARGE_UNITS = ((5_000, (64,)), (np.inf, (128, 64)))
"""Hidden layers by rows, where the full covariance is out of reach."""
FEWEST_FOR_FOLDS = 60
"""With fewer rows, or with fewer that differ in their inputs, nothing is held out: the evidence alone decides."""
MOST_HELD_OUT = 10_000
LARGE_MEMBERS = 5
FEWEST_FOR_TRIALS, SHARE_OF_LARGE = 4_000, 0.1
"""From so many rows on all large networks leave out the same part of them, of this share: their average is calibrated
on it, and inputs are chosen by it."""
PLAIN_ADVANTAGE = 0.2
"""Nats per held-out row, times the root of their number, that numbers as they are must gain over pieces: about one
standard error, for pieces are better as a rule and a few hundred rows cannot tell."""
STOPPING_ADVANTAGE = 0.02
"""Nats per held-out row that stopping early must gain: the best of many iterations looks better than it is."""


class _Fitted(NamedTuple):
    """What one member's fit hands back: its modes, and what they say of the rows it has not seen."""

    best: Mode | KroneckerMode
    last: Mode | KroneckerMode
    steps: int
    held_best: HeldOut | None
    held_last: HeldOut | None


class _Trial(NamedTuple):
    """A first network, and its score on the rows it has not seen."""

    score: float
    columns: Columns
    network: Network
    mode: Mode | KroneckerMode


class AbstractMLP(AbstractEstimator):
    """Fitting, for both kinds of outcome.

    A class says with `_small_units` which hidden layers to try for a full covariance, with `_small_members` how many
    networks that takes, with `_patience` when to stop one early, and with `_look_for_codes` whether to look for
    categories; with `_tries_inputs` large networks get the inputs and layers that a first one does best with.
    """

    _small_units: ClassVar[tuple[tuple[int, ...], ...]]
    _small_members: ClassVar[int]
    _patience: ClassVar[int | None]
    _look_for_codes: ClassVar[bool]
    _relevance: ClassVar[bool]
    _tries_inputs: ClassVar[bool]

    def _likelihoods(self) -> tuple[int, list[Likelihood]]:
        """Number of outputs, and the likelihoods that members take in turn."""
        raise NotImplementedError

    def _calibrate(self, held: list[HeldOut], targets: np.ndarray, weights: np.ndarray) -> tuple[Calibration, float]:
        raise NotImplementedError

    def __init__(
        self,
        hidden_layer_sizes="auto",
        *,
        n_members="auto",
        early_stopping=True,
        validation_fraction="auto",
        batch_size="auto",
        max_iter="auto",
        learning_rate=0.005,
        tol=1e-4,
        warm_start=False,
        n_jobs=None,
        random_state=None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_members = n_members
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.tol = tol
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ---- shape
    def _hidden(self, features: int, outputs: int, rows: float) -> tuple[tuple[int, ...], bool]:
        """Units of the hidden layers, and whether the full covariance is affordable."""
        given = self.hidden_layer_sizes
        if isinstance(given, str):
            if given != "auto":
                raise OptionError(f"hidden_layer_sizes must be 'auto' or whole numbers such as (50, 50), not {given!r}")
            for hidden in self._small_units:
                if _affordable(Network(features, hidden, outputs), rows):
                    return hidden, True
            return next(units for most, units in LARGE_UNITS if rows <= most), False
        sizes = (given,) if isinstance(given, numbers.Integral) else tuple(given)
        if not all(_whole(size) for size in sizes):
            raise OptionError(f"hidden_layer_sizes must be 'auto' or whole numbers such as (50, 50), not {given!r}")
        hidden = tuple(int(size) for size in sizes)
        return hidden, _affordable(Network(features, hidden, outputs), rows)

    def _check_options(self) -> None:
        whole = (("n_members", self.n_members), ("batch_size", self.batch_size), ("max_iter", self.max_iter))
        for name, value in whole:
            if value != "auto" and not _whole(value):
                raise OptionError(f"{name} must be 'auto' or a whole number from 1 on, not {value!r}")
        fraction = self.validation_fraction
        if fraction != "auto" and not (isinstance(fraction, numbers.Real) and 0 < float(fraction) < 1):
            raise OptionError(f"validation_fraction must be 'auto' or a number between 0 and 1, not {fraction!r}")

    # ---- fitting
    def _learn(self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, continued: bool) -> None:
        """Fit all members; with ``continued`` their posteriors so far are the priors."""
        self._check_options()
        seeds = check_random_state(self.random_state).randint(0, 2**31 - 1, size=4)
        old: dict[str, Any] = getattr(self, "_state", None) or {}
        rows = float(weights.sum())
        outputs, likelihoods = self._likelihoods()
        if continued:
            columns, networks = old["columns"], [member.network for member in old["members"]]
            small, count, folds = isinstance(old["members"][0].mode, Mode), len(networks), None
        else:
            columns = self._columns_of(x, weights, codes=self._look_for_codes)
            hidden, small = self._hidden(columns.features, outputs, rows)
            usual = self._small_members if small else LARGE_MEMBERS
            count = usual if self.n_members == "auto" else int(self.n_members)
            together = not small and rows >= FEWEST_FOR_TRIALS
            if self.warm_start:  # what the last fit left out has not been seen, and is left out again
                seeds[0] = old.get("fold_seed", seeds[0])
            tries, folds = self._tries_inputs and together, None
            if self.early_stopping or tries:
                folds = self._folds(x, targets, weights, 0 if together else count, int(seeds[0]))
            if tries and folds is not None:
                data, hold = (x, targets, weights), folds == 0
                known = self._shape_to_go_on_with(old, columns, hidden, outputs, data, hold)
                columns, hidden = known or self._tried(columns, hidden, data, hold, seeds)
                old = old if known else {}
                if not self.early_stopping:  # only the first networks have left rows out
                    columns, folds = columns.in_segments_of(*data), None
            networks = [
                Network(columns.features, hidden, outputs, small and self._relevance and k % 2 == 0)
                for k in range(count)
            ]
        starts: list[Any] = [None] * count
        same = bool(old) and [m.network for m in old["members"]] == networks
        if same and (continued or self.warm_start):
            starts = [m.mode for m in old["members"]]
            small = isinstance(starts[0], Mode)
        inputs = columns.inputs(x)
        fit_one = self._small_member if small else self._large_member
        shared = self._shared(inputs, targets, weights) if not small else (inputs, targets, weights)
        jobs = (
            delayed(fit_one)(
                networks[k],
                likelihoods[k % len(likelihoods)],
                starts[k],
                shared,
                None if folds is None else folds == k % max(folds.max() + 1, 1),
                np.random.default_rng([*seeds[1:], k]),
                continued,
            )
            for k in range(count)
        )
        with one_thread():
            fitted: Any = Parallel(n_jobs=self.n_jobs, prefer="threads")(jobs)
        modes, calibration = self._choose(fitted, targets, weights)
        if calibration is None:
            calibration = old["calibration"] if continued else Calibration()
        members = tuple(Member(network, mode) for network, mode in zip(networks, modes, strict=True))
        self.n_iter_ = int(max(each.steps for each in fitted))
        self._state = {
            "columns": columns,
            "members": members,
            "calibration": calibration,
            "fold_seed": old.get("fold_seed", int(seeds[0])) if continued else int(seeds[0]),
        }

    def _tried(
        self,
        columns: Columns,
        hidden: tuple[int, ...],
        data: tuple[np.ndarray, np.ndarray, np.ndarray],
        hold: np.ndarray,
        seeds: np.ndarray,
    ) -> tuple[Columns, tuple[int, ...]]:
        """The inputs and hidden layers of the first network that predicts held-out rows best.

        Numbers are tried as they are and in pieces, of two classes with the odds of segments; then one layer in place
        of several, if layers are to be chosen. Pieces have the relevance that the network found: the columns that
        matter little are many inputs now.
        """
        x, targets, weights = data
        outputs, likelihoods = self._likelihoods()
        pieces = columns.in_pieces(x, weights)
        if isinstance(likelihoods[0], Bernoulli):
            pieces = pieces.in_segments(x[~hold], targets[~hold], weights[~hold])

        def trial(tried: Columns, layers: tuple[int, ...]) -> _Trial | None:
            network = Network(tried.features, layers, outputs)
            shared = self._shared(tried.inputs(x), targets, weights)
            rng = np.random.default_rng(seeds)
            with one_thread():
                found = self._large_member(network, likelihoods[0], None, shared, hold, rng, False)
            if found.held_best is None:  # no row is in the part
                return None
            score = self._calibrate([found.held_best], targets, weights)[1]
            return _Trial(score, tried, network, found.best)

        best = trial(columns, hidden)
        if pieces.pieced:
            best = _better(best, trial(pieces, hidden), advantage=PLAIN_ADVANTAGE / np.sqrt(max(hold.sum(), 1)))
        if best is not None and len(hidden) > 1 and isinstance(self.hidden_layer_sizes, str):
            best = _better(best, trial(best.columns, hidden[:1]))
        if best is None:
            return columns, hidden
        found, layers = best.columns, best.network.hidden
        if found.pieced and isinstance(best.mode, KroneckerMode):
            found = replace(found, relevance=relevances(best.network, best.mode, found.origins))
        return found, layers

    def _shape_to_go_on_with(
        self,
        old: dict[str, Any],
        columns: Columns,
        hidden: tuple[int, ...],
        outputs: int,
        data: tuple[np.ndarray, np.ndarray, np.ndarray],
        hold: np.ndarray,
    ) -> tuple[Columns, tuple[int, ...]] | None:
        """Inputs and hidden layers of the last fit, where ``warm_start`` begins with its weights.

        That is where shapes are the same and it says something of the held-out rows: it may have been about another
        target. Odds of segments are those of the rows to learn from now.
        """
        if not (self.warm_start and old and isinstance(old["members"][0].mode, KroneckerMode)):
            return None
        member: Member = old["members"][0]
        layers = member.network.hidden
        chosen = isinstance(self.hidden_layer_sizes, str) and layers == hidden[:1]
        same = (layers == hidden or chosen) and np.array_equal(old["columns"].kept, columns.kept)
        if not same or member.network.outputs != outputs:
            return None
        x, targets, weights = (part[hold] for part in data)
        if not len(x):
            return None
        score = ensemble.held_out_score(member.network, old["columns"].inputs(x), targets, weights)(member.mode)
        if not score > _score_of_shares(targets, weights):  # nor where no such row has weight
            return None
        return old["columns"].in_segments_of(*(part[~hold] for part in data)), layers

    def _choose(self, fitted, targets: np.ndarray, weights: np.ndarray):
        """Stop all members early or none, by what the held-out rows say after calibration; and the calibration."""
        held = [each.held_best for each in fitted if each.held_best is not None]
        if not held:
            return [each.last for each in fitted], None
        early, score = self._calibrate(held, targets, weights)
        late = [each.held_last for each in fitted if each.held_last is not None]
        if late:
            calibration, late_score = self._calibrate(late, targets, weights)
            if late_score > score - STOPPING_ADVANTAGE:
                return [each.last for each in fitted], calibration
        return [each.best for each in fitted], early

    def _folds(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, apart: int, seed: int) -> np.ndarray | None:
        """Which of ``apart`` parts each row is left out in, or in one for all with 0; -1 for rows that are always used.

        None if nothing is held out.
        """
        if weights.sum() < FEWEST_FOR_FOLDS:
            return None
        groups = ensemble.groups_of(x)
        if groups.max() + 1 < FEWEST_FOR_FOLDS:
            return None
        share = 1 / max(min(apart, 10), 5) if apart else SHARE_OF_LARGE
        if self.validation_fraction != "auto":
            share = float(self.validation_fraction)
        parts = max(2, round(1 / min(share, MOST_HELD_OUT / len(y))))
        folds = ensemble.folds_of(x, y, groups, parts, seed)
        return np.where(folds < max(apart, 1), folds, -1)

    def _small_member(self, network, likelihood, start, shared, hold, rng, continued):
        inputs, targets, weights = shared
        hold = np.zeros(len(targets), bool) if hold is None else hold
        learn = ~hold
        prior = precisions = None
        weights_start = network.initial(rng)
        if start is not None:
            weights_start, precisions, likelihood = start.weights, start.precisions, start.likelihood
            if continued:
                prior = GaussianPrior(start.weights, start.cholesky @ start.cholesky.T)
        score = None
        if hold.any():
            score = ensemble.held_out_score(network, inputs[hold], targets[hold], weights[hold])
        found = find_mode(
            network,
            likelihood,
            weights_start,
            inputs[learn],
            targets[learn],
            weights[learn],
            max_iter=60 if self.max_iter == "auto" else int(self.max_iter),
            tol=self.tol,
            prior=prior,
            precisions=precisions,
            held_out=score,
            keep_noise=continued,
            patience=self._patience,
        )
        look = lambda mode: _held_out(network, mode, inputs, hold)
        held_last = look(found.last) if self._patience is None else None
        return _Fitted(found.best, found.last, found.steps, look(found.best), held_last)

    def _large_member(self, network, likelihood, start, shared, hold, rng, continued):
        from posterion.estimators import stochastic

        network_padded, inputs, targets, weights, count = shared
        hold = np.zeros(len(targets), bool) if hold is None else np.append(hold, np.zeros(len(targets) - count, bool))
        learn = np.flatnonzero(~hold[:count])
        wide = replace(network, features=network_padded)
        weights_start = widen(network.initial(rng), network, wide)
        precisions = before = None
        if start is not None:
            weights_start, precisions = widen(start.weights, network, wide), start.precisions
            likelihood = start.likelihood
            before = widen_mode(start, network, wide) if continued else None
        held_rows = np.flatnonzero(hold)
        score = None
        if len(held_rows):
            look = held_rows[: max(200, 2000 // network.outputs)]
            score = ensemble.held_out_score(
                wide, inputs[look].astype(float), targets[look].astype(float), weights[look].astype(float)
            )
        schedule = stochastic.Schedule.of(
            wide,
            len(learn),
            None if self.batch_size == "auto" else int(self.batch_size),
            None if self.max_iter == "auto" else float(self.max_iter),
            float(self.learning_rate),
        )
        mode, steps = stochastic.train(
            wide,
            likelihood,
            weights_start,
            inputs,
            targets,
            weights,
            learn,
            schedule=schedule,
            rng=rng,
            before=before,
            held_out=score,
            precisions=precisions,
        )
        narrow = narrow_mode(mode, network, wide)
        return _Fitted(narrow, narrow, steps, _held_out(wide, mode, inputs, hold), None)

    def _shared(self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple:
        """Data for compiled programs: float32, padded to a grid of sizes, so that near shapes share a program."""
        from posterion.estimators import stochastic  # JAX takes a second to load, and small networks do without it

        rows, features = stochastic.padded(len(inputs)), stochastic.padded(inputs.shape[1])
        wide = np.zeros((rows, features), np.float32)
        wide[: len(inputs), : inputs.shape[1]] = inputs
        y, w = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
        y[: len(targets)], w[: len(weights)] = targets, weights
        return features, wide, y, w, len(inputs)

    def _functions(self, X: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Means and covariances of each member's outputs for new rows."""
        x = self._table(X)
        inputs = self._state["columns"].inputs(x)
        with one_thread():
            return [member.mode.predict(member.network, inputs) for member in self._state["members"]]


def _better(one: _Trial | None, other: _Trial | None, *, advantage: float = 0.0) -> _Trial | None:
    """The first, if it is better by more than its advantage must be."""
    return other if one is None or (other is not None and other.score + advantage > one.score) else one


def _score_of_shares(targets: np.ndarray, weights: np.ndarray) -> float:
    """Mean log probability of classes that are always expected as often as they are."""
    shares = np.bincount(targets.astype(int), weights) / weights.sum()
    return -float(special.entr(shares).sum())


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= 1


def _affordable(network: Network, rows: float) -> bool:
    return network.size <= MOST_WEIGHTS and rows * network.outputs * network.size**2 <= MOST_WORK


def _held_out(network: Network, mode: Mode | KroneckerMode, inputs: np.ndarray, hold: np.ndarray) -> HeldOut | None:
    rows = np.flatnonzero(hold)
    if not len(rows):
        return None
    noise = mode.likelihood.variance if isinstance(mode.likelihood, StudentT) else 1.0
    return HeldOut(rows, *mode.predict(network, inputs[rows].astype(float)), noise)
