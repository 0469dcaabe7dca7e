"""`calibrate`: simulation-based calibration of a method on a model, by refits of one compiled program."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from posterion.diagnostics.ranks import RankCalibration, rank
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.fit import fit
from posterion.frontends import target_of
from posterion.methods import AbstractMethod
from posterion.target import AbstractRowTarget, AbstractTarget

Simulator = Callable[[int], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""``simulate(seed) -> (true values by variable, data by input)``: the first from the prior, the second given them."""

_FAILED = ("diverged", "non_finite", "interrupted")


def calibrate(
    model: Any,
    method: str | AbstractMethod = "advi",
    *,
    simulate: Simulator | None = None,
    repetitions: int = 100,
    draws: int = 200,
    random_seed: int = 0,
    **options: Any,
) -> RankCalibration:
    """Fit data that were simulated from the prior, many times, and see whether the truth's ranks are uniform.

    It judges the method on this model and its prior, not one fit: an approximation that is too narrow has true values
    at the ends of its draws too often. Every repetition passes new data to the same compiled program.

    Parameters
    ----------
    model
        A PyMC model; or any target, with ``simulate``.
    method
        As of `fit`.
    simulate
        ``simulate(seed)`` gives true values by variable, drawn from the prior, and the data drawn given them, by
        input. None lets PyMC draw both.
    repetitions
        Simulated data sets.
    draws
        Posterior draws that the truth is ranked among.
    random_seed
        Of everything.
    options
        Further arguments of `fit`, such as ``n=5000``.

    Returns
    -------
    RankCalibration
        Print it, or draw it by `posterion.plots.plot_ranks`.

    Raises
    ------
    UnsupportedModelError
        If there is no way to draw from the model's prior: pass ``simulate``.
    OptionError
        For counts below one.
    DataError
        If what ``simulate`` gives does not name the model's variables.

    References
    ----------
    .. [1] Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration.
    """
    for name, value in (("repetitions", repetitions), ("draws", draws)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise OptionError(f"{name} must be a whole number from 1 on, not {value!r}")
    target = target_of(model)
    seeds = [int(s) for s in np.random.SeedSequence(random_seed).generate_state(repetitions, np.uint32)]
    pairs = _from_pymc(model, target, seeds) if simulate is None else (simulate(seed) for seed in seeds)
    names: tuple[str, ...] = ()
    ranks: list[np.ndarray] = []
    failed = 0
    for seed, (truth, data) in zip(seeds, pairs, strict=True):
        unknown = sorted(set(truth) - {variable.name for variable in target.layout.variables})
        if unknown or not truth:
            known = [variable.name for variable in target.layout.variables]
            raise DataError(f"true values are needed of some of the variables {known}; found {unknown or 'none'}")
        approx = fit(target, method, data=data, random_seed=seed, progress=False, **options)
        if approx.result in _FAILED:
            failed += 1
            continue
        posterior: Any = approx.sample(draws)["posterior"].to_dataset()
        values = [np.asarray(posterior[name].values[0], float).reshape(draws, -1) for name in truth]
        true = np.concatenate([np.ravel(np.asarray(value, float)) for value in truth.values()])
        ranks.append(rank(true, np.concatenate(values, axis=1)))
        names = names or tuple(_entries(truth))
    if not ranks:
        raise UnsupportedModelError(f"all {failed} fits failed; fit one of them by itself to see why")
    return RankCalibration(names, np.stack(ranks), draws, failed)


def _entries(truth: Mapping[str, Any]) -> Iterator[str]:
    for name, value in truth.items():
        shape = np.shape(value)
        yield from (f"{name}[{', '.join(map(str, at))}]" for at in np.ndindex(shape)) if shape else (name,)


def _from_pymc(
    model: Any, target: AbstractTarget, seeds: list[int]
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Prior draws and outcomes by PyMC itself, all at once."""
    slots = {name: seen.slot for name, seen in target.observed.items()} if isinstance(target, AbstractRowTarget) else {}
    if type(model).__module__.partition(".")[0] != "pymc" or not slots or None in slots.values():
        raise UnsupportedModelError(
            "drawing from the prior is built in for PyMC models with observed rows only: pass simulate=, a function of "
            "a seed that returns true values by variable and data by input"
        )
    import pymc

    free = [variable.name for variable in target.layout.variables]
    with model:
        drawn: Any = pymc.sample_prior_predictive(draws=len(seeds), var_names=[*free, *slots], random_seed=seeds[0])
    for k in range(len(seeds)):
        truth = {name: drawn["prior"][name].values[0, k] for name in free}
        outcomes = drawn["prior_predictive"]
        yield truth, {str(slot): outcomes[name].values[0, k] for name, slot in slots.items()}
