"""How much one request may ask for, and how many rows a model sees at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from posterion.errors import OptionError
from posterion.serving.model import Answer, ServedModel

SIZES = (1, 32, 1024, 8192)
"""Rows that a model is asked for at once, powers of two: other numbers are filled up, so that few shapes compile."""


@dataclass(frozen=True)
class Limits:
    """What a service accepts.

    Parameters
    ----------
    rows
        Of one request to ``/predict``.
    upload_rows
        Of one uploaded table.
    body_bytes
        Of a request, but for uploads.
    upload_bytes
        Of one uploaded table.

    Raises
    ------
    OptionError
        If one is not positive.
    """

    rows: int = 10_000
    upload_rows: int = 5_000_000
    body_bytes: int = 16 * 2**20
    upload_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise OptionError(f"{name} must be at least 1; found {value}")


def predict_in_parts(model: ServedModel, frame: Any) -> Answer:
    """The model's answer for any number of rows, asked for in few sizes; rows that fill up are copies of the last."""
    parts = []
    for start in range(0, len(frame), SIZES[-1]):
        part = frame if len(frame) <= SIZES[-1] else frame.iloc[start : start + SIZES[-1]]
        size = next(size for size in SIZES if size >= len(part))
        if size == len(part):
            parts.append(model.predict(part))
        else:
            index = np.minimum(np.arange(size), len(part) - 1)
            parts.append(model.predict(part.iloc[index].reset_index(drop=True)).first(len(part)))
    return Answer.joined(parts)
