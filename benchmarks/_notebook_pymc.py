"""The origin notebook in PyMC, as a script: what `posterion demo` does, without what PyMC lacks. Run by row 7.

    python benchmarks/_notebook_pymc.py FOLDER [ITERATIONS]

The same data, model, numbers of steps, draws and points, and the notebook's own pictures, as PNG files into the folder.
"""

import sys
from pathlib import Path

import _network as network
import matplotlib

matplotlib.use("agg")
import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm

DRAWS = 2500
BATCH = 50


def main(folder: Path, iterations: int, minibatch_iterations: int) -> None:
    data = network.split()

    def save(figure, name: str) -> None:
        figure.savefig(folder / f"{name}.png")
        plt.close(figure)

    def scatter(X, labels, name: str) -> None:
        figure, axes = plt.subplots()
        for label in (0, 1):
            axes.scatter(*X[labels == label].T, label=("Healthy", "Cancer")[label])
        axes.legend()
        save(figure, name)

    X, Y = np.concatenate([data.X_train, data.X_test]), np.concatenate([data.Y_train, data.Y_test])
    scatter(X, Y, "data")

    model = network.pymc_model(data)
    with model:
        approx = pm.fit(n=iterations, method="advi", progressbar=False, random_seed=0)
    figure, axes = plt.subplots()
    axes.plot(approx.hist, alpha=0.3)
    save(figure, "elbo")

    trace = approx.sample(draws=DRAWS, random_seed=0)
    print(az.summary(trace))
    scatter(data.X_test, _outcomes(model, trace, data.X_test).mean(0) > 0.5, "labels")
    correct = int(np.sum((_outcomes(model, trace, data.X_test).mean(0) > 0.5) == data.Y_test))
    print(f"{correct} of {len(data.Y_test)} right")

    points = network.grid()
    outcomes = _outcomes(model, trace, points)
    for name, values in {"probability": outcomes.mean(0), "uncertainty": outcomes.std(0)}.items():
        figure, axes = plt.subplots(figsize=(16, 9))
        line = points[:100, 0]
        figure.colorbar(axes.contourf(line, line, values.reshape(100, 100), cmap="coolwarm"), ax=axes)
        axes.scatter(*data.X_test.T, c=data.Y_test)
        save(figure, name)

    with network.pymc_minibatch_model(data, BATCH):
        approx = pm.fit(minibatch_iterations, method=pm.ADVI(), progressbar=False, random_seed=0)
    figure, axes = plt.subplots()
    axes.plot(approx.hist)
    save(figure, "minibatch_elbo")


def _outcomes(model: pm.Model, trace, points: np.ndarray) -> np.ndarray:
    """Simulated outcomes at points, (draws, points)."""
    with model:
        pm.set_data({"ann_input": points, "ann_output": np.zeros(len(points))})
        found = pm.sample_posterior_predictive(trace, progressbar=False, random_seed=0)
    return found.posterior_predictive["out"].values[0]


if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 30_000
    main(Path(sys.argv[1]), steps, steps * 4 // 3)
