"""What a service answers, as plain values: the schema, predictions, a surface, the nearest rows. Knows no HTTP."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posterion.serving.limits import SIZES, Limits, predict_in_parts
from posterion.serving.model import Answer, Input, ServedModel
from posterion.serving.rows import Fault, RefusedError, frame_from_json

GRID = 32
"""Grid lines of a surface in each direction: 32 x 32 is one of the sizes that are compiled."""
_NEAREST = 8
_FURTHEST = 1e9
"""Standard deviations beyond which rows are equally far: the square of a larger number may be none."""
_AT_ONCE_SECONDS = 0.02
"""What one row may take for it to be answered where requests are read, which waits for it."""
_MOST_TRAINING = 5_000


class Service:
    """A model, ready to answer.

    Parameters
    ----------
    model
        What is served.
    limits
        What is accepted.
    """

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.inputs: list[Input] = list(model.inputs)
        self.warmed = self._at_once = False
        self._turn = threading.Lock()  # one model, one prediction at a time: two would only wait for each other's cores
        training = model.training
        self._training = None if training is None or len(training) == 0 else training.iloc[:_MOST_TRAINING]
        self._numbers = [one for one in self.inputs if one.kind in ("number", "date")]
        self._columns = {} if self._training is None else {o.name: _column(self._training, o) for o in self.inputs}

    def warm_up(self) -> float:
        """Ask for one row and a surface, so that their programs are there before the first visitor; seconds taken."""
        began = time.perf_counter()
        row = frame_from_json(self.model, [self.middle_row()], most=1)
        for size in (1, GRID * GRID):
            self.predict(row.iloc[np.zeros(size, int)].reset_index(drop=True))
        again = time.perf_counter()
        self.predict(row)
        self._at_once = time.perf_counter() - again < _AT_ONCE_SECONDS
        self.warmed = True
        return time.perf_counter() - began

    def predict(self, frame: Any) -> Answer:
        """The model's answer."""
        with self._turn:
            return predict_in_parts(self.model, frame)

    def is_at_once(self, rows: int) -> bool:
        """Whether so few rows are predicted sooner than another thread could be asked to do it."""
        return self._at_once and rows <= SIZES[1] and not self._turn.locked()

    # ---- schema
    def middle_row(self) -> dict[str, Any]:
        """A row of medians and most frequent labels, where the page starts."""
        return {one.name: _middle(one) for one in self.inputs}

    def schema(self) -> dict[str, Any]:
        """What the model takes and predicts."""
        return {
            "name": self.model.name,
            "target": self.model.target,
            "task": self.model.task,
            "classes": list(self.model.classes),
            "takes_missing": bool(self.model.takes_missing),
            "inputs": [_plain(one) for one in self.inputs],
            "start": self.middle_row(),
            "unit": "nats" if self.model.task == "classification" else "variance",
            "has_training_rows": self._training is not None,
            "limits": vars(self.limits),
        }

    # ---- predictions
    def predictions(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Predictions of JSON rows."""
        answer = self.predict(frame_from_json(self.model, rows, most=self.limits.rows))
        return {"predictions": self.plain(answer), "notes": list(answer.notes)}

    def plain(self, answer: Answer) -> list[dict[str, Any]]:
        """An answer as one dictionary per row."""
        noise, ignorance = answer.aleatoric.tolist(), answer.epistemic.tolist()
        mean, low, high = answer.mean.tolist(), answer.low.tolist(), answer.high.tolist()
        if self.model.task == "regression":
            columns = zip(mean, low, high, noise, ignorance, strict=True)
            return [{"mean": m, "low": lo, "high": hi, "aleatoric": a, "epistemic": e} for m, lo, hi, a, e in columns]
        classes = list(self.model.classes)
        return [
            {
                "label": classes[int(np.argmax(m))],
                "probabilities": dict(zip(classes, m, strict=True)),
                "low": dict(zip(classes, lo, strict=True)),
                "high": dict(zip(classes, hi, strict=True)),
                "aleatoric": a,
                "epistemic": e,
            }
            for m, lo, hi, a, e in zip(mean, low, high, noise, ignorance, strict=True)
        ]

    # ---- the row among others
    def surface(self, row: Mapping[str, Any], first: str, second: str) -> dict[str, Any]:
        """Predictions over two inputs, the others as in the row, and the training rows there."""
        numbers = {one.name: one for one in self._numbers}
        for name in (first, second):
            if name not in numbers:
                raise RefusedError(
                    [Fault(f"a surface is drawn over numbers; {name[:100]!r} is none", None, name[:100])]
                )
        frame = frame_from_json(self.model, [row], most=1)
        lines = [_lines(numbers[name], float(frame[name].iloc[0])) for name in (first, second)]
        many = frame.iloc[np.zeros(GRID * GRID, int)].reset_index(drop=True)
        across, up = np.meshgrid(*lines)
        many = many.assign(**{first: across.ravel(), second: up.ravel()})
        answer = self.predict(many)
        shape = (GRID, GRID, *answer.mean.shape[1:])
        found = {
            "first": lines[0].tolist(),
            "second": lines[1].tolist(),
            "mean": answer.mean.reshape(shape).tolist(),
            "epistemic": answer.epistemic.reshape(GRID, GRID).tolist(),
        }
        if self._training is not None:
            some = self._training.iloc[:400]
            points = [self._columns[name][0][: len(some)] for name in (first, second)]
            found["points"] = [_listed(values) for values in points]
            found["outcomes"] = self._outcomes(some)
        return found

    def nearest(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The training rows nearest to a row: numbers in units of their spread, a different label counts as one."""
        if self._training is None:
            raise RefusedError([Fault("no training rows are kept with this model")], 404)
        frame = frame_from_json(self.model, [row], most=1)
        total = np.zeros(len(self._training))
        for one in self.inputs:
            value, (values, spread) = frame[one.name].to_numpy()[0], self._columns[one.name]
            if one.kind in ("number", "date"):
                with np.errstate(over="ignore"):
                    gaps = np.clip((values - value) / spread, -_FURTHEST, _FURTHEST)
                total += np.where(np.isnan(gaps), 1.0, gaps**2)
            else:
                total += values != value
        order = np.argsort(total, kind="stable")[:_NEAREST]
        rows = self._training.iloc[order]
        return {
            "distance": np.sqrt(total[order] / len(self.inputs)).tolist(),
            "outcomes": self._outcomes(rows),
            "rows": [
                {one.name: _cell(value) for one, value in zip(self.inputs, values, strict=True)}
                for values in rows[[one.name for one in self.inputs]].itertuples(index=False)
            ],
        }

    def _outcomes(self, rows: Any) -> list[Any] | None:
        """What came true in training rows; labels by their name."""
        if self.model.target not in rows.columns:
            return None
        values, classes = rows[self.model.target].tolist(), list(self.model.classes)
        if not classes:
            return [_cell(value) for value in values]
        names = set(classes)
        return [str(v) if str(v) in names else _by_number(v, classes) for v in values]


def _by_number(value: Any, classes: Sequence[str]) -> str:
    try:
        return classes[int(value)]
    except (TypeError, ValueError, IndexError):
        return str(value)


def _plain(one: Input) -> dict[str, Any]:
    number = lambda value: value if math.isfinite(value) else None
    return {
        "name": one.name,
        "kind": one.kind,
        "categories": list(one.categories),
        "low": number(one.low),
        "high": number(one.high),
        "middle": number(one.middle),
        "whole": bool(one.whole),
    }


def _middle(one: Input) -> Any:
    if one.kind == "category":
        return one.categories[0] if one.categories else ""
    if one.kind == "boolean":
        return False
    return one.middle if math.isfinite(one.middle) else 0.0


def _lines(one: Input, value: float) -> np.ndarray:
    """Grid lines over an input's range, stretched to where the row is."""
    ends = [end for end in (one.low, one.high, value) if math.isfinite(end)] or [0.0]
    low, high = min(ends), max(ends)
    return np.linspace(low, high if high > low else low + 1.0, GRID)


def _column(frame: Any, one: Input) -> tuple[np.ndarray, float]:
    """The training rows' cells of an input, ready to be compared, and the spread of its numbers."""
    if one.kind == "category":
        labels = [None if label is None or label != label else str(label) for label in frame[one.name].tolist()]
        return np.array(labels, dtype=object), 1.0
    values = _numbers_of(frame, one.name)
    known = values[np.isfinite(values)]
    return values, float(np.std(known)) or 1.0 if known.size else 1.0


def _numbers_of(frame: Any, name: str) -> np.ndarray:
    import pandas

    values = frame[name]
    if values.dtype.kind == "M":
        return np.asarray((values - pandas.Timestamp("1970-01-01")).dt.total_seconds()) / (365.25 * 86_400)
    return np.asarray(pandas.to_numeric(values, errors="coerce"), np.float64)


def _listed(values: np.ndarray) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in values]


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | bool | str) else (None if value is None else str(value))


assert GRID * GRID in SIZES
