"""The 16 posteriors of posteriordb with reference draws, each written in PyMC as its user would write it.

`MODELS` has them by name. A model's parameters are compared on the scale of the reference draws, as one vector in
their order: `reference(name)` gives its mean, standard deviation and some draws, `parameters(name, posterior)` puts
anybody's draws (ArviZ's ``posterior`` group, or a mapping of arrays shaped (chain, draw, ...)) into the same order.
Flat priors are flat, as in the Stan programs; nothing is standardised.
"""

import functools
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Model:
    """One posterior: where its data are, how PyMC says it, and which variables the reference draws hold, in order."""

    data: str
    build: Callable[[dict[str, Any]], None]
    variables: tuple[str, ...]


class Reference(NamedTuple):
    """What ten long chains of Stan found: 10,000 draws, of which 1,000 are kept."""

    names: list[str]
    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray
    correlation: np.ndarray


def folder() -> Path:
    """Where the data lie: ``POSTERION_DATA``, or beside the project."""
    root = os.environ.get("POSTERION_DATA") or Path(__file__).parent.parent.parent / "shared" / "data"
    return Path(root) / "posteriordb"


def data(name: str) -> dict[str, Any]:
    """The data as the Stan program takes them; lists become arrays."""
    with zipfile.ZipFile(folder() / "data" / f"{MODELS[name].data}.json.zip") as archive:
        raw = json.loads(archive.read(archive.namelist()[0]))
    return {key: np.asarray(value) if isinstance(value, list) else value for key, value in raw.items()}


def model(name: str) -> Any:
    """The posterior's PyMC model, built anew."""
    import pymc as pm

    with pm.Model() as built:
        MODELS[name].build(data(name))
    return built


@functools.cache
def reference(name: str) -> Reference:
    """The reference posterior."""
    with np.load(folder() / "draws" / f"{name}.npz", allow_pickle=False) as file:
        return Reference(
            [str(p) for p in file["params"]], file["mean"], file["sd"], file["draws"].astype(float), file["corr"]
        )


def parameters(name: str, posterior: Mapping[str, Any]) -> np.ndarray:
    """Draws (draws, parameters) in the reference's order; of a simplex or mixture the entries it keeps."""
    columns = []
    for variable in MODELS[name].variables:
        values = np.asarray(posterior[variable])
        columns.append(values.reshape(values.shape[0] * values.shape[1], -1))
    return np.concatenate(columns, axis=1)


class Accuracy(NamedTuple):
    """How far draws are from the reference, per parameter.

    ``error`` is |mean - reference| in reference sds, ``ratio`` the sd over the reference's.
    """

    error: np.ndarray
    ratio: np.ndarray


def accuracy(name: str, draws: np.ndarray) -> Accuracy:
    """Compare draws (draws, parameters) with the reference."""
    return accuracy_of_moments(name, draws.mean(axis=0), draws.std(axis=0, ddof=1))


def accuracy_of_moments(name: str, mean: np.ndarray, sd: np.ndarray) -> Accuracy:
    """Compare means and sds, in the reference's order, with the reference."""
    truth = reference(name)
    return Accuracy(np.abs(mean - truth.mean) / truth.sd, sd / truth.sd)


# ---- the models
def _autoregression(d: dict) -> None:
    import pymc as pm

    y, order = d["y"], d["K"]
    past = np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], axis=1)
    alpha = pm.Normal("alpha", 0, 10)
    beta = pm.Normal("beta", 0, 10, shape=order)
    sigma = pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", alpha + pm.math.dot(past, beta), sigma, observed=y[order:])


def _arma11(d: dict) -> None:
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    y = d["y"]
    mu = pm.Normal("mu", 0, 10)
    phi, theta = pm.Normal("phi", 0, 2), pm.Normal("theta", 0, 2)
    sigma = pm.HalfCauchy("sigma", 2.5)
    first = y[0] - (mu + phi * mu)
    later = pytensor.scan(
        lambda now, before, error, mu, phi, theta: now - (mu + phi * before + theta * error),
        sequences=[pt.as_tensor(y[1:]), pt.as_tensor(y[:-1])],
        outputs_info=[first],
        non_sequences=[mu, phi, theta],
        return_updates=False,
    )
    errors = pt.concatenate([first[None], later])
    pm.Normal("y", y - errors, sigma, observed=y)


def _garch11(d: dict) -> None:
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    y = d["y"]
    mu = pm.Flat("mu")
    alpha0 = pm.HalfFlat("alpha0")
    alpha1 = pm.Beta("alpha1", 1, 2)  # with the next line uniform on alpha1 + beta1 < 1
    share = pm.Uniform("share", 0, 1)
    beta1 = pm.Deterministic("beta1", share * (1 - alpha1))
    later = pytensor.scan(
        lambda before, variance, mu, alpha0, alpha1, beta1: alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance,
        sequences=[pt.as_tensor(y[:-1])],
        outputs_info=[pt.as_tensor(np.float64(d["sigma1"]) ** 2)],
        non_sequences=[mu, alpha0, alpha1, beta1],
        return_updates=False,
    )
    variance = pt.concatenate([pt.as_tensor([np.float64(d["sigma1"]) ** 2]), later])
    pm.Normal("y", mu, pm.math.sqrt(variance), observed=y)


def _diamonds(d: dict) -> None:
    import pymc as pm

    x = d["X"][:, 1:]
    b = pm.Normal("b", 0, 1, shape=x.shape[1])
    intercept = pm.StudentT("Intercept", nu=3, mu=8, sigma=10)
    sigma = pm.HalfStudentT("sigma", nu=3, sigma=10)
    pm.Normal("Y", intercept + pm.math.dot(x - x.mean(axis=0), b), sigma, observed=d["Y"])


def _regression(columns: list[np.ndarray], outcome: np.ndarray, scale: Callable[[], Any] | None = None) -> None:
    """Flat coefficients of the columns; sigma flat unless ``scale`` makes it."""
    import pymc as pm

    X = np.stack(np.broadcast_arrays(*columns), axis=1).astype(float)
    beta = pm.Flat("beta", shape=X.shape[1])
    sigma = pm.HalfFlat("sigma") if scale is None else scale()
    pm.Normal("y", pm.math.dot(X, beta), sigma, observed=outcome)


def _half_cauchy() -> Any:
    import pymc as pm

    return pm.HalfCauchy("sigma", 2.5)


def _earn_height(d: dict) -> None:
    _regression([1.0, d["height"]], d["earn"])


def _logearn_interaction(d: dict) -> None:
    height, male = d["height"], d["male"]
    _regression([1.0, height, male, height * male], np.log(d["earn"]))


def _kidscore_interaction(d: dict) -> None:
    hs, iq = d["mom_hs"], d["mom_iq"]
    _regression([1.0, hs, iq, hs * iq], d["kid_score"].astype(float), _half_cauchy)


def _kidscore_momiq(d: dict) -> None:
    _regression([1.0, d["mom_iq"]], d["kid_score"].astype(float), _half_cauchy)


def _logmesquite(d: dict) -> None:
    volume = d["diam1"] * d["diam2"] * d["canopy_height"]
    area, shape = d["diam1"] * d["diam2"], d["diam1"] / d["diam2"]
    logs = [np.log(x) for x in (volume, area, shape, d["total_height"], d["density"])]
    _regression([1.0, *logs, d["group"]], np.log(d["weight"]))


def _mesquite(d: dict) -> None:
    names = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")
    _regression([1.0, *(d[name] for name in names)], d["weight"].astype(float))


def _nes(d: dict) -> None:
    ages = [d["age_discrete"] == age for age in (2, 3, 4)]
    plain = [d[name] for name in ("educ1", "gender", "income")]
    _regression([1.0, d["real_ideo"], d["race_adj"], *ages, *plain], d["partyid7"].astype(float))


def _eight_schools(d: dict) -> None:
    import pymc as pm

    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    raw = pm.Normal("theta_trans", 0, 1, shape=d["J"])
    theta = pm.Deterministic("theta", mu + tau * raw)
    pm.Normal("y", theta, d["sigma"], observed=d["y"])


def _gaussian_process(d: dict) -> None:
    import pymc as pm
    import pytensor.tensor as pt

    x, n = d["x"], d["N"]
    rho = pm.Gamma("rho", 25, 4)
    alpha = pm.HalfNormal("alpha", 2)
    raw = pm.Normal("f_tilde", 0, 1, shape=n)
    covariance = alpha**2 * pt.exp(-((x[:, None] - x[None, :]) ** 2) / (2 * rho**2)) + 1e-10 * np.eye(n)
    f = pm.Deterministic("f", pt.dot(pt.linalg.cholesky(covariance), raw))
    pm.Poisson("k", pm.math.exp(f), observed=d["k"])


def _kilpisjarvi(d: dict) -> None:
    import pymc as pm

    alpha = pm.Normal("alpha", d["pmualpha"], d["psalpha"])
    beta = pm.Normal("beta", d["pmubeta"], d["psbeta"])
    sigma = pm.HalfFlat("sigma")
    pm.Normal("y", alpha + beta * d["x"], sigma, observed=d["y"])


def _gaussian_mixture(d: dict) -> None:
    import pymc as pm
    import pytensor.tensor as pt

    mu = pm.Normal("mu", 0, 2, shape=2, transform=pm.distributions.transforms.ordered, initval=[-1.0, 1.0])
    sigma = pm.HalfNormal("sigma", 2, shape=2)
    theta = pm.Beta("theta", 5, 5)
    pm.NormalMixture("y", w=pt.stack([theta, 1 - theta]), mu=mu, sigma=sigma, observed=d["y"])


def _linear(d: dict) -> None:
    import pymc as pm

    beta = pm.Normal("beta", 0, 10, shape=d["D"])
    sigma = pm.HalfNormal("sigma", 10)
    pm.Normal("y", pm.math.dot(d["X"], beta), sigma, observed=d["y"])


_BETA = ("beta", "sigma")
MODELS = {
    "arK-arK": Model("arK", _autoregression, ("alpha", "beta", "sigma")),
    "arma-arma11": Model("arma", _arma11, ("mu", "phi", "theta", "sigma")),
    "diamonds-diamonds": Model("diamonds", _diamonds, ("b", "Intercept", "sigma")),
    "earnings-earn_height": Model("earnings", _earn_height, _BETA),
    "earnings-logearn_interaction": Model("earnings", _logearn_interaction, _BETA),
    "eight_schools-eight_schools_noncentered": Model("eight_schools", _eight_schools, ("theta", "mu", "tau")),
    "garch-garch11": Model("garch", _garch11, ("mu", "alpha0", "alpha1", "beta1")),
    "gp_pois_regr-gp_pois_regr": Model("gp_pois_regr", _gaussian_process, ("rho", "alpha", "f")),
    "kidiq-kidscore_interaction": Model("kidiq", _kidscore_interaction, _BETA),
    "kidiq-kidscore_momiq": Model("kidiq", _kidscore_momiq, _BETA),
    "kilpisjarvi_mod-kilpisjarvi": Model("kilpisjarvi_mod", _kilpisjarvi, ("alpha", "beta", "sigma")),
    "low_dim_gauss_mix-low_dim_gauss_mix": Model("low_dim_gauss_mix", _gaussian_mixture, ("mu", "sigma", "theta")),
    "mesquite-logmesquite_logvas": Model("mesquite", _logmesquite, _BETA),
    "mesquite-mesquite": Model("mesquite", _mesquite, _BETA),
    "nes2000-nes": Model("nes2000", _nes, _BETA),
    "sblrc-blr": Model("sblrc", _linear, _BETA),
}
"""By the name of the reference draws."""
