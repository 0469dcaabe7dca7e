"""Predicting from a saved posterior in a new Python process that cannot import PyMC.

Run as a program (``python -m posterion.demo.fresh_process``) this module loads a posterior and predicts; `FreshProcess`
starts that program and later compares.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posterion.errors import PosterionError

ABSENT = ("pymc", "pytensor")
"""What the new process must do without."""


@dataclass(frozen=True)
class Comparison:
    """What the new process predicted, against what this one did.

    Parameters
    ----------
    rows
        Rows predicted.
    largest_difference
        Of the predictive means and standard deviations, in absolute value.
    seconds
        The new process took from its start: importing, loading, predicting.
    """

    rows: int
    largest_difference: float
    seconds: float


class FreshProcess:
    """A new Python process that loads a posterior and predicts; runs while other things go on here.

    Parameters
    ----------
    posterior
        A saved posterior.
    rows
        Input name to rows.
    draws
        Posterior draws to average over.
    folder
        For the files that go to and fro.
    """

    def __init__(self, posterior: Path, rows: dict[str, np.ndarray], draws: int, folder: Path) -> None:
        self._rows, self._answer = folder / "rows.npz", folder / "answer.npz"
        np.savez(self._rows, allow_pickle=False, **rows)
        arguments = [str(posterior), str(self._rows), str(self._answer), str(draws), str(time.time())]
        command = [sys.executable, "-m", __name__, *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that Ctrl-C, which ends a fit early, does not end this too
        )

    def __enter__(self) -> "FreshProcess":
        """Do nothing: it runs already."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def compare(self, variable: str, mean: np.ndarray, std: np.ndarray) -> Comparison:
        """Wait for the new process and compare its predictions with these.

        Raises
        ------
        PosterionError
            If the process failed; with the last line it said.
        """
        _, said = self._process.communicate()
        if self._process.returncode != 0:
            last = said.strip().splitlines()[-1] if said.strip() else f"exit code {self._process.returncode}"
            raise PosterionError(f"the new process could not load and predict: {last}")
        with np.load(self._answer, allow_pickle=False) as answer:
            differences = [
                np.max(np.abs(answer[f"{variable}_mean"] - mean)),
                np.max(np.abs(answer[f"{variable}_std"] - std)),
            ]
            return Comparison(len(mean), float(max(differences)), float(answer["seconds"]))


def _predict(posterior: str, rows: str, answer: str, draws: str, started: str) -> None:
    loaded = [name for name in ABSENT if name in sys.modules]
    if loaded:
        raise RuntimeError(f"{loaded} should not have been imported by now")
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]  makes `import` fail as if it were not installed
    import posterion as po

    with np.load(rows, allow_pickle=False) as inputs:
        prediction = po.load(posterior).predict(dict(inputs), draws=int(draws))
    values = {f"{name}_mean": prediction.mean[name] for name in prediction.names}
    values |= {f"{name}_std": prediction.std[name] for name in prediction.names}
    np.savez(answer, allow_pickle=False, seconds=time.time() - float(started), **values)


if __name__ == "__main__":
    _predict(*sys.argv[1:])
