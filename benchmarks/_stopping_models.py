"""Eight small models on which the stop rule and the families are judged: well and badly behaved, all in plain JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_diabetes

import posterion as po


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def _normal_prior(params: Any) -> jax.Array:
    return sum(norm.logpdf(leaf).sum() for leaf in jax.tree.leaves(params))


def _logits_score(logits: Callable) -> Callable:
    return lambda params, batch: -jax.nn.softplus(jnp.where(batch["y"] == 1, -1, 1) * logits(params, batch["x"]))


def _random(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}


def tutorial() -> Any:
    """The network of the tutorial: 2-5-5-1, tanh, no biases, 284 rows (D = 40)."""
    x, y = load_breast_cancer(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(x))[:284]
    logits = lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"]
    return po.log_density(
        initial=_random({"a": (2, 5), "b": (5, 5), "c": (5,)}),
        data={"x": _standardised(x)[chosen, :2], "y": y[chosen]},
        log_prior=_normal_prior,
        log_likelihood=_logits_score(logits),
        kind="binary",
    )


def logistic() -> Any:
    """Logistic regression on 30 correlated columns (D = 30)."""
    x, y = load_breast_cancer(return_X_y=True)
    return po.log_density(
        initial=_random({"w": (30,)}),
        data={"x": _standardised(x)[::2], "y": y[::2]},
        log_prior=_normal_prior,
        log_likelihood=_logits_score(lambda p, x: x @ p["w"]),
        kind="binary",
    )


def eight_schools() -> Any:
    """Eight schools, not centred (D = 10)."""
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def density(p: dict) -> jax.Array:
        tau = jnp.exp(p["log_tau"])
        prior = norm.logpdf(p["mu"], 0, 5) + norm.logpdf(p["eta"]).sum()
        half_cauchy = jnp.log(2 / jnp.pi) - jnp.log(5.0) - jnp.log1p((tau / 5) ** 2) + p["log_tau"]
        return prior + half_cauchy + norm.logpdf(effects, p["mu"] + tau * p["eta"], errors).sum()

    return po.log_density(density, initial={"mu": 0.0, "log_tau": 0.0, "eta": np.zeros(8)})


def radon() -> Any:
    """Varying intercepts of 85 counties, not centred (D = 90)."""
    rng = np.random.default_rng(1)
    county, floor = rng.integers(0, 85, 919), rng.integers(0, 2, 919)
    y = 1.4 + 0.3 * rng.normal(size=85)[county] - 0.6 * floor + 0.8 * rng.normal(size=919)

    def score(p: dict, batch: dict) -> jax.Array:
        at = p["mu"] + jnp.exp(p["log_tau"]) * p["eta"][batch["county"]] + p["slope"] * batch["floor"]
        return norm.logpdf(batch["y"], at, jnp.exp(p["log_sigma"]))

    initial = {"mu": 0.0, "log_tau": 0.0, "eta": np.zeros(85), "slope": 0.0, "log_sigma": 0.0}
    return po.log_density(
        initial=initial,
        data={"county": county, "floor": floor, "y": y},
        log_prior=_normal_prior,
        log_likelihood=score,
    )


def _regression(x: np.ndarray, w: np.ndarray, prior_sd: float) -> Any:
    y = x @ w + np.random.default_rng(2).normal(size=len(x))

    def score(p: dict, batch: dict) -> jax.Array:
        return norm.logpdf(batch["y"], batch["x"] @ p["w"], jnp.exp(p["log_sigma"]))

    prior = lambda p: norm.logpdf(p["w"], 0, prior_sd).sum() + norm.logpdf(p["log_sigma"])
    initial = {"w": np.zeros(x.shape[1]), "log_sigma": 0.0}
    return po.log_density(initial=initial, data={"x": x, "y": y}, log_prior=prior, log_likelihood=score)


def correlated() -> Any:
    """Linear regression on columns that are all correlated by 0.95 (D = 12)."""
    rng = np.random.default_rng(3)
    x = np.sqrt(0.95) * rng.normal(size=(200, 1)) + np.sqrt(0.05) * rng.normal(size=(200, 11))
    return _regression(x, rng.normal(size=11), 10.0)


def badly_scaled() -> Any:
    """Linear regression on columns of units a factor of a million apart (D = 6)."""
    rng = np.random.default_rng(4)
    units = np.array([1e-3, 1e-1, 1.0, 1e2, 1e3])
    return _regression(rng.normal(size=(200, 5)) * units, rng.normal(size=5) / units, 1e5)


def funnel() -> Any:
    """Neal's funnel with its wide end observed away (D = 10)."""

    def density(p: dict) -> jax.Array:
        return norm.logpdf(p["v"], 0, 1.5) + norm.logpdf(p["x"], 0, jnp.exp(p["v"] / 2)).sum()

    return po.log_density(density, initial={"v": 0.0, "x": np.zeros(9)})


def diabetes() -> Any:
    """A 10-20-1 network for a numeric outcome (D = 242)."""
    x, y = load_diabetes(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(x))[:300]

    def score(p: dict, batch: dict) -> jax.Array:
        hidden = jnp.tanh(batch["x"] @ p["a"] + p["a0"])
        return norm.logpdf(batch["y"], hidden @ p["b"] / np.sqrt(20) + p["b0"], jnp.exp(p["log_sigma"]))

    return po.log_density(
        initial={**_random({"a": (10, 20), "a0": (20,), "b": (20,)}), "b0": 0.0, "log_sigma": 0.0},
        data={"x": _standardised(x)[chosen], "y": _standardised(y)[chosen]},
        log_prior=_normal_prior,
        log_likelihood=score,
    )


MODELS: dict[str, Callable[[], Any]] = {
    "tutorial network": tutorial,
    "logistic regression": logistic,
    "eight schools": eight_schools,
    "radon": radon,
    "correlated regression": correlated,
    "funnel": funnel,
    "diabetes network": diabetes,
    "badly scaled regression": badly_scaled,
}
