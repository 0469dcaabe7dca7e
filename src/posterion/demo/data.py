"""The two data sets of the demonstration, split as in the notebook."""

from dataclasses import dataclass

import numpy as np

from posterion._optional import import_optional

DATA_SETS = ("cancer", "moons")


@dataclass(frozen=True, eq=False)
class Data:
    """Two inputs and a binary label, in halves to fit and to test.

    Parameters
    ----------
    name, title
        For files and for people.
    source
        Where the rows come from, in a sentence.
    inputs
        Names of the two inputs.
    classes
        Names of labels 0 and 1.
    X_train, X_test
        Scaled inputs, (rows, 2).
    Y_train, Y_test
        Labels 0.0 and 1.0: floats, as PyMC's ``pm.Minibatch`` needs them.
    reference
        Right predictions of the notebook on the test half, where it reports them.
    """

    name: str
    title: str
    source: str
    inputs: tuple[str, str]
    classes: tuple[str, str]
    X_train: np.ndarray
    X_test: np.ndarray
    Y_train: np.ndarray
    Y_test: np.ndarray
    reference: int | None = None

    @property
    def X(self) -> np.ndarray:  # noqa: D102
        return np.concatenate([self.X_train, self.X_test])

    @property
    def Y(self) -> np.ndarray:  # noqa: D102
        return np.concatenate([self.Y_train, self.Y_test])


def load_data(name: str) -> Data:
    """Load one of `DATA_SETS`, scaled to mean 0 and standard deviation 1, half of it held out.

    As in the notebook the scale is that of all rows, so the test half has a small say in it: two means and two
    standard deviations.
    """
    datasets, scale, split = _scikit_learn()
    if name == "cancer":
        bunch = datasets.load_breast_cancer()
        X, Y = bunch.data[:, :2], 1 - bunch.target  # there, 0 is malignant
        about = (
            "Breast cancer",
            "Wisconsin breast cancer data (scikit-learn), mean radius and mean texture of cell nuclei",
            ("mean radius (scaled)", "mean texture (scaled)"),
            ("Healthy", "Cancer"),
        )
        reference = 260
    else:
        X, Y = datasets.make_moons(noise=0.2, random_state=0, n_samples=1000)
        about = (
            "Two moons",
            "make_moons of scikit-learn, 1,000 rows with noise 0.2",
            ("first input (scaled)", "second input (scaled)"),
            ("Moon 0", "Moon 1"),
        )
        reference = None
    X_train, X_test, Y_train, Y_test = split(scale(X), Y.astype(float), test_size=0.5, random_state=0)
    return Data(name, *about, X_train, X_test, Y_train, Y_test, reference)


def _scikit_learn() -> tuple:
    datasets = import_optional("sklearn.datasets", "sklearn", "The demo's data")
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import scale

    return datasets, scale, train_test_split
