"""From columns to numbers: missing values filled in by a declared rule, categories as one column per label.

Numbers and dates: the training median, with a column that says where that was done if values were missing in training.
Truth values: the more frequent one, likewise. Categories: a missing label is a label of its own; rare labels and labels
beyond the fifty most frequent share one, which also takes labels never seen. Scaling is the estimator's own business.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from posterion.tabular.columns import MOST_CATEGORIES, Schema

if TYPE_CHECKING:
    import pandas as pd

RULES = {
    "number": "median of the training rows, and a column that marks it",
    "date": "median of the training rows, and a column that marks it",
    "boolean": "the more frequent value, and a column that marks it",
    "category": "a label of its own",
}
"""How missing values are filled in, by kind of column."""

MISSING_LABEL = "(missing)"
_RAREST = 5
"""Training rows a label needs for a column of its own."""


def make_preparation(schema: Schema) -> Any:
    """A scikit-learn transformer from checked rows (`check_rows`) to numbers; not fitted yet.

    Parameters
    ----------
    schema
        What the columns are.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    by_kind: dict[str, list[str]] = {}
    for column in schema.columns:
        by_kind.setdefault(column.kind, []).append(column.name)
    numbers = by_kind.get("number", []) + by_kind.get("date", [])
    steps: list[tuple[str, Any, list[str]]] = []
    if numbers:
        steps.append(("numbers", SimpleImputer(strategy="median", add_indicator=True), numbers))
    if "boolean" in by_kind:
        steps.append(("truth", SimpleImputer(strategy="most_frequent", add_indicator=True), by_kind["boolean"]))
    if "category" in by_kind:
        labels = OneHotEncoder(
            min_frequency=min(_RAREST, max(1, schema.num_rows // 20)),
            max_categories=MOST_CATEGORIES + 1,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
        filled = SimpleImputer(missing_values=None, strategy="constant", fill_value=MISSING_LABEL)
        steps.append(("labels", make_pipeline(filled, labels), by_kind["category"]))
    return ColumnTransformer(steps, verbose_feature_names_out=False)


def to_numbers(preparation: Any, frame: "pd.DataFrame") -> Float[np.ndarray, "rows features"]:
    """Checked rows as the estimator takes them."""
    return np.asarray(preparation.transform(frame), np.float64)


def sources(preparation: Any, schema: Schema) -> list[str]:
    """For each feature the name of the column it was made from."""
    names = [str(name) for name in preparation.get_feature_names_out()]
    inputs = sorted(schema.names, key=len, reverse=True)
    found = []
    for name in names:
        plain = name.removeprefix("missingindicator_")
        found.append(plain if plain in inputs else next(one for one in inputs if plain.startswith(f"{one}_")))
    return found


class Numbers:
    """A fitted preparation on arrays instead of tables: the same numbers, in the time that one row may take.

    Parameters
    ----------
    preparation
        What `make_preparation` made, fitted.
    """

    def __init__(self, preparation: Any) -> None:
        parts = {name: (fitted, list(columns)) for name, fitted, columns in preparation.transformers_}
        self._filled = [_Filled(*parts[name]) for name in ("numbers", "truth") if name in parts]
        self._labelled = _labels_of(*parts["labels"]) if "labels" in parts else []

    def __call__(self, cells: Mapping[str, np.ndarray]) -> Float[np.ndarray, "rows features"]:
        """Checked rows, one array for each column, as the estimator takes them."""
        parts = [step(cells) for step in (*self._filled, *self._labelled)]
        return np.concatenate(parts, axis=1)


class _Filled:
    """Numbers with their gaps filled in, and for columns that had gaps in training where they are."""

    def __init__(self, imputer: Any, columns: list[str]) -> None:
        self._columns, self._values = columns, np.asarray(imputer.statistics_, np.float64)
        self._marked = np.asarray(imputer.indicator_.features_, int)

    def __call__(self, cells: Mapping[str, np.ndarray]) -> np.ndarray:
        values = np.stack([np.asarray(cells[name], np.float64) for name in self._columns], axis=1)
        missing = np.isnan(values)
        return np.concatenate([np.where(missing, self._values, values), missing[:, self._marked]], axis=1)


class _Labelled:
    """Indicators of one column of labels, looked up in a table of what scikit-learn's encoder says of each."""

    def __init__(self, column: str, labels: list[str], table: np.ndarray) -> None:
        self._column, self._table = column, table
        self._place = {label: k for k, label in enumerate(labels)}

    def __call__(self, cells: Mapping[str, np.ndarray]) -> np.ndarray:
        place, unknown = self._place, len(self._table) - 1
        missing = place.get(MISSING_LABEL, unknown)
        known = lambda cell: missing if cell is None or cell != cell else place.get(cell, unknown)
        return self._table[[known(cell) for cell in cells[self._column].tolist()]]


def _labels_of(pipeline: Any, columns: list[str]) -> list[_Labelled]:
    """The encoder asked once for every label it knows, and for one it does not."""
    encoder = pipeline[-1]
    found, begin = [], 0
    for k, column in enumerate(columns):
        labels, rare = list(encoder.categories_[k]), encoder.infrequent_categories_[k]
        width = len(labels) if rare is None else len(labels) - len(rare) + 1
        asked = np.full((len(labels) + 1, len(columns)), MISSING_LABEL, dtype=object)
        asked[:, k] = [*labels, "\0never seen"]
        table = np.asarray(encoder.transform(asked), np.float64)[:, begin : begin + width]
        found.append(_Labelled(column, labels, table))
        begin += width
    return found
