"""`Posterior.compare_with_nuts`: the same posterior by MCMC, and how far the approximation is from it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from posterion.diagnostics.comparison import NutsComparison, mixing
from posterion.diagnostics.nuts import NutsRun, run_nuts
from posterion.errors import UnsupportedModelError
from posterion.posterior.datatree import constrained_draws
from posterion.predictive import predict
from posterion.target import AbstractRowTarget

if TYPE_CHECKING:
    from posterion.posterior.posterior import Posterior

_FROM_FIT = 4000


def compare_with_nuts(
    posterior: "Posterior",
    *,
    draws: int,
    warmup: int,
    chains: int,
    random_seed: int | None,
    data: Mapping[str, Any] | None,
) -> NutsComparison:
    """See `Posterior.compare_with_nuts`."""
    if not posterior.has_data:
        raise UnsupportedModelError(
            "NUTS needs the model's density, which a loaded posterior does not have: po.load(path, model=...) binds "
            "it to the model again"
        )
    fitted = posterior.sample_unconstrained(_FROM_FIT, random_seed)
    run = run_nuts(
        posterior.target,
        posterior.fitted_data,
        np.asarray(fitted, np.float64),
        draws=draws,
        warmup=warmup,
        chains=chains,
        seed=int(posterior.key("reference", random_seed)[0]),
        x64=posterior.record.x64,
    )
    if posterior.record.is_network and isinstance(posterior.target, AbstractRowTarget):
        return _of_predictions(posterior, fitted, run, data)
    return _of_variables(posterior, fitted, run)


def _of_variables(posterior: "Posterior", fitted: np.ndarray, run: NutsRun) -> NutsComparison:
    free = [variable.name for variable in posterior.layout.variables]
    chains, draws, _ = run.z.shape

    def table(z: np.ndarray) -> tuple[list[str], np.ndarray]:
        values = constrained_draws(posterior.target, z, posterior.fitted_data, x64=posterior.record.x64, names=free)
        names = [
            name if not v.shape[1:] else f"{name}[{', '.join(map(str, at))}]"
            for name, v in values.items()
            for at in np.ndindex(v.shape[1:])
        ]
        return names, np.concatenate([v.reshape(len(z), -1) for v in values.values()], axis=1).astype(float)

    names, ours = table(fitted)
    theirs = table(run.z.reshape(chains * draws, -1))[1]
    rhat, ess = mixing(theirs.reshape(chains, draws, -1))
    moments = (ours.mean(axis=0), ours.std(axis=0, ddof=1), theirs.mean(axis=0), theirs.std(axis=0, ddof=1))
    return _comparison(posterior, run, tuple(names), moments, rhat, ess, "variables")


def _of_predictions(
    posterior: "Posterior", fitted: np.ndarray, run: NutsRun, data: Mapping[str, Any] | None
) -> NutsComparison:
    """Of rows, since a network's weights can be exchanged without changing what it predicts."""
    target = posterior.target
    assert isinstance(target, AbstractRowTarget)  # asked before  # noqa: S101
    kept = posterior.fitted_data
    rows = data or {name: kept[name] for name, slot in target.slots.items() if not slot.only_observed}
    key, x64 = posterior.key("reference", None), posterior.record.x64

    def moments(z: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        prediction = predict(target, z, rows, key=key, x64=x64)
        observed = [name for name in target.observed if name in prediction.mean_std]
        mean = [np.ravel(prediction.mean[name]) for name in observed]
        spread = [np.ravel(prediction.mean_std[name]) for name in observed]
        names = [
            f"{name}[{', '.join(map(str, at))}]" for name in observed for at in np.ndindex(prediction.mean[name].shape)
        ]
        return names, np.concatenate(mean).astype(float), np.concatenate(spread).astype(float)

    chains, draws, _ = run.z.shape
    names, mean, spread = moments(fitted[:1000])
    _, nuts_mean, nuts_spread = moments(run.z.reshape(chains * draws, -1))
    by_chain = [moments(chain) for chain in run.z]
    # R-hat from means and spreads by chain (the classical one): draws of every row would not fit into memory.
    within = np.mean([chain[2] ** 2 for chain in by_chain], axis=0)
    between = np.var([chain[1] for chain in by_chain], axis=0, ddof=1) if chains > 1 else np.full_like(within, np.nan)
    with np.errstate(all="ignore"):
        rhat = np.sqrt((draws - 1) / draws + between / within)
    ess = np.full_like(rhat, np.nan)
    return _comparison(posterior, run, tuple(names), (mean, spread, nuts_mean, nuts_spread), rhat, ess, "predictions")


def _comparison(
    posterior: "Posterior",
    run: NutsRun,
    names: tuple[str, ...],
    moments: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    rhat: np.ndarray,
    ess: np.ndarray,
    of: str,
) -> NutsComparison:
    record = posterior.record
    return NutsComparison(
        names,
        *moments,
        rhat=rhat,
        ess=ess,
        divergences=run.divergences,
        num_draws=run.z.shape[0] * run.z.shape[1],
        seconds=record.seconds_compiling + record.seconds_running,
        nuts_seconds=run.seconds,
        of=of,
    )
