"""How near the default fit comes to the best mean-field ELBO of a model, as far as long runs find it."""

from typing import Any

import numpy as np

NAME = "best mean-field ELBO"
"""Under which the records are kept."""
_STEPS = 100_000
_FIXED_DRAWS = 1024
_DRAWS = 2**15


def gap(model: Any) -> dict[str, Any]:
    """Nats between `po.fit(model)` and the best of the long runs, on common draws that no fit has seen.

    The runs: `ADVI` for 100,000 steps along one cosine, the same again from where the default fit ended, and the
    mean-field solution on 1,024 fixed draws.
    """
    import posterion as po
    from posterion.errors import PosterionError

    default = po.fit(model, progress=False, random_seed=1)
    runs = {
        f"{_STEPS:,} steps": lambda: po.fit(model, n=_STEPS, progress=False, random_seed=2),
        f"{_STEPS:,} steps more": lambda: po.fit(model, n=_STEPS, start=default, progress=False, random_seed=3),
        f"{_FIXED_DRAWS:,} fixed draws": lambda: po.fit(
            model, po.DeterministicADVI("mean_field", _FIXED_DRAWS), progress=False, random_seed=4
        ),
    }
    values = {"default": log_ratios(default)}
    for name, run in runs.items():
        try:
            values[name] = log_ratios(run())
        except PosterionError:  # the others stand
            continue
    best = max(values, key=lambda name: float(np.mean(values[name])))
    difference = values[best] - values["default"]
    return {
        "failed": "",
        "seconds": None,
        "gap": float(np.mean(difference)),
        "gap_se": float(np.std(difference) / np.sqrt(_DRAWS)),
        "best": best,
        "elbos": {name: float(np.mean(value)) for name, value in values.items()},
    }


def log_ratios(approx: Any) -> np.ndarray:
    """log p - log q at the same standard normals for every mean-field fit of a model."""
    from posterion.posterior.importance import weighted_draws

    found = weighted_draws(
        approx.target,
        approx.family,
        approx.params,
        approx.fitted_data,
        draws=_DRAWS,
        seed=20_240_607,
        x64=approx.record.x64,
    )
    return found.log_weights


def one_line(found: dict[str, Any]) -> str:
    """For the terminal."""
    return f"{found['gap']:.3f} ± {found['gap_se']:.3f} nats below {found['best']}"
