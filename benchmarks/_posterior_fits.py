"""Every way to fit a PyMC model that is compared: ours by name, and the peers, each with its own defaults.

A fit is a function of a model and a seed that returns draws by variable, and how to judge it where it can judge itself;
judging is not part of a fit's time.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

DRAWS = 20_000
"""Draws that moments are taken from: their Monte Carlo error is below that of the reference."""


@dataclass(frozen=True)
class Found:
    """What one fit came to: draws (chain, draw, ...) by variable, and the posterior itself where it is one of ours."""

    draws: Mapping[str, Any]
    posterior: Any = None

    def judged(self) -> dict[str, Any]:
        """What the fit says of itself, as plain values; nothing if it says nothing."""
        if self.posterior is None:
            return {}
        verdict = self.posterior.diagnose()
        return {
            "trustworthy": bool(verdict.trustworthy),
            "khat": float(verdict.khat),
            "reason": verdict.reasons[0],
            "elbo": float(verdict.elbo),
            "elbo_se": float(verdict.elbo_se),
            "sentence": self.posterior.record.sentence,
        }


AUTOMATIC, DEFAULT = "posterion auto", "posterion advi"
"""What picks a method itself, and what `po.fit` does when nothing is said."""
RESPONSE, INDEPENDENT = "posterion dadvi", "posterion dadvi, mean-field"
"""Deterministic ADVI by linear response, corrected by importance, and the independent normals it started from."""
UNCORRECTED = "posterion dadvi, uncorrected"
"""The Gaussian of linear response itself."""
_OF_OTHER_MODELS = ("linearised_laplace", "swag")
"""Methods that need a network, or mini-batches, and refuse these models for it."""

Fit = Callable[[Any, int], Found]


def ours(method: Any, model: Any, seed: int) -> Found:
    """`po.fit` by a method's name, or its description, and nothing else said."""
    import posterion as po

    approx = po.fit(model, method, progress=False, random_seed=seed)
    return Found(approx.sample(DRAWS)["posterior"].data_vars, approx)


def resampled(model: Any, seed: int) -> Found:
    """`po.fit` by full-rank ADVI, and its draws resampled by their importance ratios."""
    import posterion as po

    approx = po.fit(model, "fullrank_advi", progress=False, random_seed=seed)
    return Found(approx.sample(DRAWS, resample=True)["posterior"].data_vars, approx)


def pymc(method: str, model: Any, seed: int) -> Found:
    """`pm.fit` as it comes."""
    import pymc as pm

    with model:
        approx = pm.fit(method=method, progressbar=False, random_seed=seed)
        return Found(approx.sample(DRAWS, random_seed=seed)["posterior"].data_vars)


def extras_dadvi(model: Any, seed: int) -> Found:
    """Deterministic ADVI of pymc-extras as it comes."""
    from pymc_extras import inference

    tree = inference.fit_dadvi(model, n_draws=DRAWS, random_seed=seed, progressbar=False)
    return Found(tree["posterior"].data_vars)


def extras_pathfinder(model: Any, seed: int) -> Found:
    """Multi-path Pathfinder of pymc-extras as it comes: 1,000 draws, since resampling more of 4,000 gains nothing."""
    from pymc_extras import inference

    tree = inference.fit_pathfinder(model, random_seed=seed, progressbar=False)
    return Found(tree["posterior"].data_vars)


def extras_laplace(model: Any, seed: int) -> Found:
    """Laplace approximation of pymc-extras as it comes."""
    from pymc_extras import inference

    with model:
        tree = inference.fit_laplace(random_seed=seed, progressbar=False, draws=DRAWS)
    return Found(tree["posterior"].data_vars)


def numpyro(guide: str, model: Any, seed: int) -> Found:
    """NumPyro's SVI with an automatic guide: 10,000 steps of Adam(0.01), double precision.

    NumPyro gets the same density as Posterion, as a factor over one flat vector, because it has no PyMC front end; it
    starts where PyMC says the model starts.
    """
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value

    from posterion.frontends import target_of
    from posterion.posterior.datatree import constrained_draws

    target = target_of(model, (), None)
    with jax.enable_x64(True):
        data = target.as_arrays(target.data)

        def flat(data: Any) -> None:
            z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (target.layout.size,)))
            numpyro.factor("log_density", target.log_density(z, data))

        start = init_to_value(values={"z": jnp.asarray(target.initial_point(seed))})
        chosen = getattr(autoguide, guide)(flat, init_loc_fn=start)
        svi = SVI(flat, chosen, numpyro.optim.Adam(1e-2), Trace_ELBO())
        result = svi.run(jax.random.key(seed), 10_000, data, progress_bar=False)
        z = np.asarray(
            chosen.sample_posterior(jax.random.key(seed + 1), result.params, sample_shape=(DRAWS,))["z"], float
        )
    values = constrained_draws(target, z, target.data, x64=True)
    return Found({name: value[None] for name, value in values.items()})


@cache
def fits() -> dict[str, Fit]:
    """By name, ours first, in the order of what is worth measuring; the names of ours are those `po.fit` takes."""
    from pymc_extras import inference

    import posterion as po
    from posterion.methods import names

    for part in ("variational", "sampling"):  # they report every call
        logging.getLogger(f"pymc.{part}").setLevel(logging.ERROR)
    first = [AUTOMATIC, DEFAULT]
    named = [f"posterion {name}" for name in names.METHODS if name not in _OF_OTHER_MODELS]
    found: dict[str, Fit] = {
        name: partial(ours, name.removeprefix("posterion "))
        for name in [*first, *(name for name in named if name not in first)]
    }
    found[INDEPENDENT] = partial(ours, po.DeterministicADVI(covariance="mean_field"))
    found[UNCORRECTED] = partial(ours, po.DeterministicADVI(correct=False))
    found["posterion fullrank_advi, resampled"] = resampled
    found |= {
        "pm.fit advi": partial(pymc, "advi"),
        "pm.fit fullrank_advi": partial(pymc, "fullrank_advi"),
        "pymc-extras fit_laplace": extras_laplace,
        "pymc-extras fit_dadvi": extras_dadvi,
        "pymc-extras fit_pathfinder": extras_pathfinder,
        "NumPyro AutoNormal": partial(numpyro, "AutoNormal"),
        "NumPyro AutoMultivariateNormal": partial(numpyro, "AutoMultivariateNormal"),
    }
    if hasattr(inference, "fit_advi"):  # newer versions
        found["pymc-extras fit_advi"] = lambda model, seed: Found(
            inference.fit_advi(model, random_seed=seed)["posterior"].data_vars
        )
    return found


def is_ours(method: str) -> bool:
    """Whether a method is one of Posterion's."""
    return method.startswith("posterion")
