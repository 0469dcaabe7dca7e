"""A model of a table behind an address: what `posterion.serving` asks of whatever it serves."""

from typing import TYPE_CHECKING, Any

import numpy as np

from posterion.serving import Answer, Input
from posterion.tabular.columns import as_numbers
from posterion.tabular.model import COVERAGE, TabularModel

if TYPE_CHECKING:
    import pandas as pd


class ServedTable:
    """A `TabularModel` as a `posterion.serving.ServedModel`.

    Parameters
    ----------
    model
        What is served.
    name
        What to call it on the page.
    """

    takes_missing = True

    def __init__(self, model: TabularModel, name: str) -> None:
        self._model, self.name = model, name
        self.target, self.task, self.classes = model.target, model.task, list(model.classes)
        self._inputs = tuple(
            Input(c.name, c.kind, c.categories, c.low, c.high, c.middle, c.whole) for c in model.schema.columns
        )

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The columns it takes."""
        return self._inputs

    @property
    def training(self) -> Any:
        """Some training rows with their outcomes."""
        return self._model.sample

    def predict(self, frame: "pd.DataFrame") -> Answer:
        """Predict rows of the inputs; dates as numbers of years since 1970."""
        checked = self._model.check(self._with_dates(frame))
        x = self._model.features(checked.frame)
        parts = self._model.estimator.uncertainty(x)
        if self.task == "classification":
            mean = self._model.estimator.predict_proba(x)
            low, high = self._model.probability_bounds(x)
        else:
            mean = self._model.estimator.predict(x)
            low, high = self._model.estimator.predict_interval(x, coverage=COVERAGE).T
        return Answer(mean, low, high, np.asarray(parts["aleatoric"]), np.asarray(parts["epistemic"]), checked.notes)

    def _with_dates(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Years since 1970 as the dates they are."""
        import pandas as pd

        dates = [c.name for c in self._model.schema.columns if c.kind == "date" and c.name in frame]
        turned = {}
        for name in dates:
            if pd.api.types.is_numeric_dtype(frame[name].dtype):
                years = as_numbers(frame[name], "number")
                turned[name] = pd.Timestamp("1970-01-01", tz="UTC") + pd.to_timedelta(years * 365.25, unit="D")
        return frame.assign(**turned) if turned else frame
