"""A model of a table behind an address: what `posterion.serving` asks of whatever it serves."""

from typing import TYPE_CHECKING, Any

from posterion.serving import Answer, Input
from posterion.tabular.columns import notes_on
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
        self._numeric = all(c.kind != "category" for c in model.schema.columns)
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
        """Predict rows of the inputs, which the service has checked: dates as numbers of years since 1970."""
        schema = self._model.schema
        if self._numeric:  # one look at the table instead of one for each column, which for one row is most of the time
            cells = dict(zip(frame.columns, frame.to_numpy().T, strict=True))
        else:
            cells = {name: frame[name].to_numpy() for name in schema.names}
        found = self._model.estimator.predict_summary(self._model.numbers(cells), coverage=COVERAGE)
        mean = found["probabilities" if self.task == "classification" else "mean"]
        bounds = found["low"], found["high"]
        return Answer(mean, *bounds, found["aleatoric"], found["epistemic"], notes_on(cells, schema))
