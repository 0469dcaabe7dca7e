"""A posterior as a served model: one array of inputs becomes columns, one observed variable the target."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

import posterion as po
from posterion.errors import OptionError
from posterion.serving.model import Answer, Input, inputs_of

_LEVEL = 0.9


class PosteriorModel:
    """What is needed to serve a posterior, beside itself: names for the columns of its input, and some training rows.

    Parameters
    ----------
    posterior
        Fitted or loaded.
    training
        A DataFrame of training rows, the inputs in the order of the model's input array, and the outcomes if nearest
        rows are to be shown with them.
    input
        Name of the model's input, an array (rows, columns).
    target
        Column of ``training`` that holds the outcome; it is shown as the name of what is predicted.
    variable
        The observed variable; None if there is only one.
    classes
        Names of its labels 0, 1, ...; None for numbers, or for "0", "1", ...
    prepare
        From a DataFrame of columns to the array the model was fitted to, such as a scaler's ``transform``; None for the
        columns as they are.
    draws
        Posterior draws to average over.
    name
        What to call the model.
    """

    takes_missing = False

    def __init__(
        self,
        posterior: "po.Posterior",
        training: Any,
        *,
        input: str,
        target: str,
        variable: str | None = None,
        classes: Sequence[str] | None = None,
        prepare: Callable[[Any], Any] | None = None,
        draws: int = 500,
        name: str | None = None,
    ) -> None:
        self.posterior, self.training, self.target = posterior, training, target
        self.name = name or target
        self._input, self._draws, self._prepare = input, draws, prepare
        self.inputs: tuple[Input, ...] = inputs_of(training.drop(columns=[target], errors="ignore"))
        unfit = [one.name for one in self.inputs if one.kind == "category"]
        if unfit and prepare is None:
            raise OptionError(f"columns {unfit} hold text: say how they become numbers, prepare=...")
        self._variable, self._classes = variable, classes

    @cached_property
    def _probe(self) -> tuple[str, bool, int]:
        """The variable, whether it has classes, and how many: known from the prediction of one training row."""
        columns = [one.name for one in self.inputs]
        prediction = self._prediction(self.training[columns].iloc[:1])
        observed = [name for name in prediction.names if name in prediction.aleatoric]
        name = self._variable or (observed[0] if len(observed) == 1 else None)
        if name is None or name not in prediction.names:
            raise OptionError(f"say which variable to serve, variable=...; there are: {', '.join(observed)}")
        mean = prediction.mean[name]
        if mean.ndim > 2 or (mean.ndim == 2 and prediction.units.get(name) != "nats"):
            raise OptionError(f"{name!r} has several numbers per row; one number or one label can be served")
        return name, prediction.units.get(name) == "nats", 2 if mean.ndim == 1 else mean.shape[1]

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        return "classification" if self._probe[1] else "regression"

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        _, labelled, number = self._probe
        if not labelled:
            return ()
        names = tuple(map(str, range(number))) if self._classes is None else tuple(self._classes)
        if len(names) != number:
            raise OptionError(f"the model has {number} classes; {len(names)} names were given")
        return names

    def _prediction(self, frame: Any) -> Any:
        # `to_numpy`, since NumPy's own conversion of a DataFrame takes a tenth of what a row takes.
        rows = frame.to_numpy(np.float64) if self._prepare is None else np.asarray(self._prepare(frame))
        return self.posterior.predict({self._input: rows}, draws=self._draws)

    def predict(self, frame: Any) -> Answer:
        """Predict a DataFrame of the inputs.

        Parameters
        ----------
        frame
            Its rows.
        """
        name, labelled, _ = self._probe
        prediction = self._prediction(frame)
        parts = (prediction.aleatoric[name], prediction.epistemic[name])
        mean = np.asarray(prediction.mean[name], np.float64)
        if not labelled:
            low, high = prediction.quantile([0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2], names=[name])[name]
            return Answer(mean, low, high, *parts)
        draws = prediction.sample(of="mean", names=[name])[name]
        low, high = _order_statistics(draws)
        if mean.ndim == 1:
            return Answer(
                np.stack([1 - mean, mean], -1), np.stack([1 - high, low], -1), np.stack([1 - low, high], -1), *parts
            )
        return Answer(mean, low, high, *parts)


def _order_statistics(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The central interval of the draws, by partial sorting: quantiles without interpolation are an order faster."""
    last = len(draws) - 1
    low, high = round(last * (0.5 - _LEVEL / 2)), round(last * (0.5 + _LEVEL / 2))
    ordered = np.partition(draws, (low, high), axis=0)
    return np.asarray(ordered[low], np.float64), np.asarray(ordered[high], np.float64)
