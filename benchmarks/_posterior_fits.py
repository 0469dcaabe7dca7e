"""Every way to fit a PyMC model that is compared: ours by name, and the peers, each with its own defaults.

A fit is a function of a model and a seed that returns draws by variable, and what the fit says of itself. It is called
twice where time is measured: the second call is warm, as far as the package keeps anything.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 20_000
"""Draws that moments are taken from: their Monte Carlo error is below that of the reference."""


@dataclass(frozen=True)
class Found:
    """What one fit came to: draws (chain, draw, ...) by variable; ours also say whether to trust them."""

    draws: Mapping[str, Any]
    trustworthy: bool | None = None
    khat: float | None = None
    sentence: str = ""
    seconds_compiling: float | None = None


_OF_OTHER_MODELS = ("linearised_laplace", "swag")
"""Methods that need a network, or mini-batches, and refuse these models for it."""

Fit = Callable[[Any, int], Found]


def ours(method: str, model: Any, seed: int) -> Found:
    """`po.fit` by a method's name and nothing else said."""
    import posterion as po

    approx = po.fit(model, method, progress=False, random_seed=seed)
    verdict = approx.diagnose()
    return Found(
        approx.sample(DRAWS)["posterior"].data_vars,
        verdict.trustworthy,
        float(verdict.khat),
        approx.record.sentence,
        approx.record.seconds_compiling,
    )


def resampled(model: Any, seed: int) -> Found:
    """`po.fit` by full-rank ADVI, and its draws resampled by their importance ratios."""
    import posterion as po

    approx = po.fit(model, "fullrank_advi", progress=False, random_seed=seed)
    verdict = approx.diagnose()
    draws = approx.sample(DRAWS, resample=True)
    return Found(draws["posterior"].data_vars, verdict.trustworthy, float(verdict.khat), approx.record.sentence)


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


def fits() -> dict[str, Fit]:
    """By name, ours first; the names of ours are those `po.fit` takes."""
    from pymc_extras import inference

    from posterion.methods import names

    for part in ("variational", "sampling"):  # they report every call
        logging.getLogger(f"pymc.{part}").setLevel(logging.ERROR)
    suited = [name for name in names.METHODS if name not in _OF_OTHER_MODELS]
    found: dict[str, Fit] = {f"posterion {name}": functools.partial(ours, name) for name in suited}
    found["posterion fullrank_advi, resampled"] = resampled
    found |= {
        "pm.fit advi": functools.partial(pymc, "advi"),
        "pm.fit fullrank_advi": functools.partial(pymc, "fullrank_advi"),
        "pymc-extras fit_dadvi": extras_dadvi,
        "pymc-extras fit_pathfinder": extras_pathfinder,
        "pymc-extras fit_laplace": extras_laplace,
        "NumPyro AutoNormal": functools.partial(numpyro, "AutoNormal"),
        "NumPyro AutoMultivariateNormal": functools.partial(numpyro, "AutoMultivariateNormal"),
    }
    if hasattr(inference, "fit_advi"):  # newer versions
        found["pymc-extras fit_advi"] = lambda model, seed: Found(
            inference.fit_advi(model, random_seed=seed)["posterior"].data_vars
        )
    return found
