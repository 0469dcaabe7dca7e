"""Rows 6 and 9: predictions, how fast and how good."""

import _measure as measure
import _network as network
import numpy as np
from _child import posterion_prediction, pymc_prediction
from _rows import Check, Row, number, times_faster
from _session import Session


# ---- row 6
def surface(session: Session) -> list[Row]:
    """Predictive mean and sd over a grid, time and memory."""
    size, points = session.size, network.grid(session.size.grid_lines)
    approx = session.fit(random_seed=0)
    trace = approx.sample(size.draws)
    model = network.pymc_model(session.data)  # its own, because predicting changes its data
    functions = {
        "pymc": pymc_prediction(model, trace),
        "numpyro": _numpyro_prediction(trace),
        "posterion": posterion_prediction(approx),
    }
    found = {name: predict(points, size.draws) for name, predict in functions.items()}  # and warm
    _check_agreement(found, size.draws)
    runs = {name: lambda f=f: measure.timed(lambda: f(points, size.draws))[1] for name, f in functions.items()}
    times = measure.interleaved(runs, size.peer_repeats)
    times["posterion"] += measure.seconds(lambda: functions["posterion"](points, size.draws), size.repeats)
    middles = {name: measure.middle(values) for name, values in times.items()}
    processes = range(min(3, size.processes))
    arguments = (str(size.draws), str(size.grid_lines))
    extra = {name: [measure.fresh("memory", name, *arguments) for _ in processes] for name in ("pymc", "posterion")}
    first = {name: measure.middle([run["first"] for run in runs_]) for name, runs_ in extra.items()}
    again = {name: measure.middle([run["again"] for run in runs_]) for name, runs_ in extra.items()}
    return [
        Row(
            "6a",
            f"predictive mean and sd, {size.draws:,} draws x {len(points):,} points, warm (s)",
            {name: number(value) for name, value in middles.items()},
            (times_faster("PyMC", middles["pymc"] / middles["posterion"], 20),),
            {"seconds": times},
        ),
        Row(
            "6b",
            "memory beyond what was resident before, at its highest, first call with compiling / again (MB)",
            {name: f"{number(first[name])} / {number(again[name])}" for name in first},
            (Check("", first["posterion"], 50, unit=" MB"),),
            {"megabytes": extra},
        ),
    ]


def _numpyro_prediction(trace):
    """NumPyro's ``Predictive``, jitted, as its users would write it."""
    import jax
    import jax.numpy as jnp
    from numpyro.infer import Predictive

    group = trace["posterior"]
    draws = {name: jnp.asarray(group[name].values[0], jnp.float32) for name in network.NAMES}

    @jax.jit
    def outcomes(key, draws, X):
        return Predictive(network.numpyro_model, draws)(key, X)["out"]

    def predict(points: np.ndarray, draws_wanted: int) -> tuple:
        y = np.asarray(outcomes(jax.random.key(0), draws, jnp.asarray(points, jnp.float32)))
        return y.mean(axis=0), y.std(axis=0)

    return predict


def _check_agreement(found: dict[str, tuple], draws: int) -> None:
    """All three predict the same: simulated outcomes may differ by their Monte Carlo error only."""
    ours = found["posterion"][0]
    error = np.sqrt(np.maximum(ours * (1 - ours), 1e-3) / draws)
    for name in ("pymc", "numpyro"):
        # Two standard errors for the outcomes, and as much again for other posterior draws; seven sigmas over the grid.
        worst = np.max(np.abs(found[name][0] - ours) / error)
        if worst > 7:
            raise RuntimeError(f"{name} and Posterion predict different means: {worst:.1f} standard errors apart")


# ---- row 9
def splits(session: Session) -> list[Row]:
    """Accuracy and log score over random splits, against NUTS on the same model."""
    nuts = _Nuts(session)
    records = []
    for random_state in range(session.size.splits):
        data = network.split(random_state)
        approx, seconds = measure.timed(
            lambda data=data: session.fit(data={"ann_input": data.X_train, "ann_output": data.Y_train}, random_seed=0)
        )
        ours = approx.predict({"ann_input": data.X_test}, draws=session.size.draws).mean["out"]
        (theirs, rhat, divergences), nuts_seconds = measure.timed(lambda data=data: nuts.predict(data))
        records.append(
            {
                "random_state": random_state,
                "rows": len(data.Y_test),
                "posterion": _score(ours, data.Y_test) | {"seconds": seconds},
                "logistic": _score(_logistic(data), data.Y_test),
                "nuts": _score(theirs, data.Y_test)
                | {"seconds": nuts_seconds, "largest_rhat_of_probabilities": rhat, "divergences": divergences},
            }
        )
    accuracy, log_score = _paired(records, "correct", 100 / records[0]["rows"]), _paired(records, "log_score", 1.0)
    first, rows = records[0], records[0]["rows"]
    notebook = network.NOTEBOOK_CORRECT
    logistic_accuracy = 100 * float(np.mean([r["logistic"]["correct"] / r["rows"] for r in records]))
    logistic_score = float(np.mean([r["logistic"]["log_score"] for r in records]))
    return [
        Row(
            "9a",
            f"mean accuracy over {len(records)} random splits, against NUTS on the same model (%)",
            {"numpyro": f"NUTS {accuracy.theirs:.2f}", "posterion": f"{accuracy.ours:.2f}"},
            (Check(f"{accuracy.text(2)} points; size", abs(accuracy.difference), 0.5),),
            {"splits": records},
        ),
        Row(
            "9b",
            "mean log score over the same splits (nats per row)",
            {"numpyro": f"NUTS {log_score.theirs:.4f}", "posterion": f"{log_score.ours:.4f}"},
            (Check(f"{log_score.text(4)} nats; size", abs(log_score.difference), 0.01),),
        ),
        Row(
            "9c",
            f"right on the notebook's own split (rows of {rows})",
            {
                "pymc": f"the notebook says {notebook} ({100 * notebook / 285:.4f} %)",
                "numpyro": f"NUTS {first['nuts']['correct']}",
                "posterion": f"{first['posterion']['correct']} ({100 * first['posterion']['correct'] / rows:.4f} %)",
            },
        ),
        Row(
            "9d",
            "for scale, scikit-learn's logistic regression on the same splits: "
            f"{logistic_accuracy:.2f} %, {logistic_score:.4f} nats per row",
            {},
        ),
    ]


def _logistic(data: network.Split) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(data.X_train, data.Y_train).predict_proba(data.X_test)[:, 1]


def _score(probability: np.ndarray, outcomes: np.ndarray) -> dict:
    probability = np.asarray(probability, np.float64)
    return {
        "correct": int(np.sum((probability > 0.5) == (outcomes == 1))),
        "log_score": float(np.mean(np.log(np.where(outcomes == 1, probability, 1 - probability)))),
    }


class _paired:  # noqa: N801  reads as a function
    """Means over splits, and the paired difference with its standard error."""

    def __init__(self, records: list[dict], what: str, unit: float) -> None:
        ours, theirs = (unit * np.array([r[who][what] for r in records], float) for who in ("posterion", "nuts"))
        self.ours, self.theirs = float(ours.mean()), float(theirs.mean())
        self.difference = self.ours - self.theirs
        self.error = float(np.std(ours - theirs, ddof=1) / np.sqrt(len(records)))

    def text(self, digits: int) -> str:
        return f"{self.difference:+.{digits}f} ± {self.error:.{digits}f}"


class _Nuts:
    """NumPyro's NUTS, two chains one after the other, compiled once for all splits."""

    def __init__(self, session: Session) -> None:
        from numpyro.infer import MCMC, NUTS

        size = session.size
        self._sampler = MCMC(
            NUTS(network.numpyro_model),
            num_warmup=size.warmup,
            num_samples=size.samples,
            num_chains=2,
            chain_method="sequential",
            progress_bar=False,
            jit_model_args=True,
        )

    def predict(self, data: network.Split) -> tuple[np.ndarray, float, int]:
        """Probabilities of the test rows, their largest split R-hat, and the number of divergences."""
        import jax
        import jax.numpy as jnp
        from numpyro.diagnostics import split_gelman_rubin

        X, Y = jnp.asarray(data.X_train, jnp.float32), jnp.asarray(data.Y_train, jnp.float32)
        self._sampler.run(jax.random.key(0), X, Y)
        draws = jax.device_get(self._sampler.get_samples(group_by_chain=True))
        hidden = np.tanh(data.X_test @ draws["w_in_1"])
        hidden = np.tanh(hidden @ draws["w_1_2"])
        logits = np.einsum("csni,csi->csn", hidden, draws["w_2_out"])
        probability = 1 / (1 + np.exp(-logits))
        divergences = int(np.sum(self._sampler.get_extra_fields()["diverging"]))
        return probability.mean(axis=(0, 1)), float(np.max(split_gelman_rubin(probability))), divergences
