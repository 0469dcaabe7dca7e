"""What several rows share: the data, the models, the peers' fits, and how large the benchmark is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import _measure as measure
import _network as network
import numpy as np


@dataclass(frozen=True)
class Size:
    """How much is measured. The quick one tests the script; its figures mean nothing."""

    repeats: int = 5
    peer_repeats: int = 5
    processes: int = 5
    steps: int = 30_000
    short: int = 200
    minibatch_steps: int = 40_000
    evaluation_draws: int = 16_384
    seeds: int = 10
    reach_seeds: int = 5
    grid_lines: int = 100
    draws: int = 2500
    splits: int = 20
    warmup: int = 500
    samples: int = 1000
    demo: tuple[str, ...] = ()


QUICK = Size(
    repeats=2,
    peer_repeats=1,
    processes=1,
    steps=1000,
    minibatch_steps=1000,
    evaluation_draws=1024,
    seeds=2,
    reach_seeds=1,
    grid_lines=20,
    draws=200,
    splits=2,
    warmup=50,
    samples=100,
    demo=("--quick",),
)


class Session:
    """One process in which PyMC, NumPyro and Posterion see the same data; each piece is made when a row needs it."""

    def __init__(self, size: Size) -> None:
        for part in ("variational", "sampling"):  # they report every call
            logging.getLogger(f"pymc.{part}").setLevel(logging.WARNING)
        self.size = size
        self.data = network.split()

    @cached_property
    def model(self) -> Any:
        """The PyMC model, fitted by `pm.fit` and by Posterion."""
        model = network.pymc_model(self.data)
        network.check_log_joint(model, self.data)
        return model

    @cached_property
    def noise(self) -> np.ndarray:
        """Standard normals that every fit is judged on; no fit has seen them."""
        return np.random.default_rng(20_240_607).standard_normal((self.size.evaluation_draws, 40))

    def judge(self, q: network.MeanField) -> tuple[float, float]:
        """Negative ELBO in nats and its standard error."""
        return network.negative_elbo(q, self.data, self.noise)

    # ---- Posterion
    def fit(self, **options: Any) -> Any:
        """Fit the PyMC model by Posterion."""
        import posterion as po

        return po.fit(self.model, progress=False, **options)

    def posterion_mean_field(self, approx: Any) -> network.MeanField:
        """What Posterion found, by name."""
        location, log_scale = (np.asarray(row, np.float64) for row in approx.params)
        cuts = approx.layout.slices
        return network.mean_field(
            {name: location[cuts[name]] for name in network.NAMES},
            {name: np.exp(log_scale[cuts[name]]) for name in network.NAMES},
        )

    # ---- PyMC
    def pymc_fit(self, model: Any, n: int, seed: int = 0) -> Any:
        """``pm.fit`` with its defaults."""
        import pymc as pm

        with model:
            return pm.fit(n, method="advi", progressbar=False, random_seed=seed)

    @cached_property
    def pymc_approximation(self) -> network.MeanField:
        """PyMC's own fit of 30,000 steps, seed 0."""
        approx = self.pymc_fit(self.model, self.size.steps)
        means, sds = approx.mean_data, approx.std_data
        return network.mean_field(
            {name: means[name].values for name in network.NAMES}, {name: sds[name].values for name in network.NAMES}
        )

    def pymc_marginal(self, model: Any) -> dict[str, float]:
        """Seconds per step of ``pm.fit``, and those it builds and compiles before the first."""
        short = self.size.short
        return measure.marginal(lambda n: self.pymc_fit(model, n), short, short + self.size.steps)

    # ---- NumPyro
    def numpyro_run(self, n: int, seed: int = 0, rows_per_step: int | None = None) -> network.MeanField:
        """``SVI.run`` with AutoNormal and Adam(0.01), from the same starting weights."""
        import jax
        import jax.numpy as jnp
        import numpyro
        from numpyro.infer import SVI, Trace_ELBO, init_to_value
        from numpyro.infer.autoguide import AutoNormal

        start = {name: jnp.asarray(value, jnp.float32) for name, value in network.initial_values().items()}
        guide = AutoNormal(network.numpyro_model, init_loc_fn=init_to_value(values=start))
        svi = SVI(network.numpyro_model, guide, numpyro.optim.Adam(1e-2), Trace_ELBO())
        X, Y = jnp.asarray(self.data.X_train, jnp.float32), jnp.asarray(self.data.Y_train, jnp.float32)
        found = svi.run(jax.random.key(seed), n, X, Y, rows_per_step, progress_bar=False)
        params = jax.device_get((found.params, found.losses))[0]
        return network.mean_field(
            {name: params[f"{name}_auto_loc"] for name in network.NAMES},
            {name: params[f"{name}_auto_scale"] for name in network.NAMES},
        )

    def numpyro_marginal(self, rows_per_step: int | None = None) -> dict[str, float]:
        """Seconds per step of ``SVI.run``, and those it traces and compiles before the first."""
        short, run = self.size.short, lambda n: self.numpyro_run(n, rows_per_step=rows_per_step)
        return measure.marginal(run, short, short + self.size.steps)

    # ---- time per step of all three, measured once for the rows that need it
    @cached_property
    def full_batches(self) -> dict[str, list[dict[str, float]]]:
        """Seconds per step and before the first, by package, repeats in turn; full batches, warm.

        Posterion's steps are whole calls of `po.fit` on a model it has fitted before, overhead included; what it needs
        before the first is what it spends compiling for a new model object.
        """
        self.pymc_fit(self.model, self.size.short)
        self.numpyro_run(self.size.short)
        self.fit(n=self.size.steps, random_seed=0)
        peers: dict[str, Callable[[], dict]] = {
            "pymc": lambda: self.pymc_marginal(self.model),
            "numpyro": self.numpyro_marginal,
        }
        found = measure.interleaved({**peers, "posterion": self._posterion_marginal}, self.size.peer_repeats)
        found["posterion"] += [self._posterion_marginal() for _ in range(self.size.repeats)]
        return found

    def _posterion_marginal(self) -> dict[str, float]:
        import posterion as po

        _, whole = measure.timed(lambda: self.fit(n=self.size.steps, random_seed=0))
        other = network.pymc_model(self.data)
        first = po.fit(other, n=self.size.short, progress=False, random_seed=0)
        return {"step": whole / self.size.steps, "before": first.record.seconds_compiling}

    def seconds_per_step(self, package: str) -> float:
        """The median."""
        return measure.middle([run["step"] for run in self.full_batches[package]])
