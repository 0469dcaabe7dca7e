"""What an example of PyMC's gallery is here: a notebook's model with made-up data, and what must come out of it.

The notebooks of the chapters "variational inference" and "generalized linear models" are retyped in the modules beside
this one, small, each with data whose truth is known. A model that is fitted predicts rows, new ones where the notebook
does, and the predictions must follow the truth that made the data; a model without outcomes must have the moments that
are known of it. Everything else is refused, with a sentence that the example names.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pymc as pm


@dataclass(frozen=True)
class Built:
    """A model with what is known of it.

    Parameters
    ----------
    model
        As the notebook writes it.
    outcome
        The observed variable (or deterministic) that is predicted; empty if there is none.
    truth
        Expectation of the outcome for the rows that are predicted: what the data were made with.
    new
        Inputs of new rows; empty for the model's own.
    within
        What predictions may be off by, where the truth does not vary from row to row.
    means
        Posterior means that are known otherwise, with what they may be off by.
    """

    model: pm.Model
    outcome: str = ""
    truth: np.ndarray | None = None
    new: Mapping[str, np.ndarray] = field(default_factory=dict)
    within: float | None = None
    means: Mapping[str, tuple[float | np.ndarray, float]] = field(default_factory=dict)


class Example(NamedTuple):
    """One model of one notebook."""

    notebook: str
    build: Callable[[], Built]
    refused: str
    """What the refusal must say; empty if the model is fitted."""

    @property
    def words(self) -> str:
        """What the model is, in a line."""
        return (self.build.__doc__ or "").strip().partition("\n")[0].removesuffix(".")


EXAMPLES: dict[str, Example] = {}
"""By the name of the function that builds it."""


def example(notebook: str, *, refused: str = "") -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Put a model into the dictionary."""

    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        EXAMPLES[build.__name__] = Example(notebook, build, refused)
        return build

    return register


@functools.cache
def built(name: str) -> Built:
    """The model of this name, built once."""
    return EXAMPLES[name].build()


def table() -> str:
    """The table of the documentation: `docs/how-to/pymc_gallery.md` holds it, and a test compares the two."""
    lines = ["| notebook | model | |", "|---|---|---|"]
    for name, one in EXAMPLES.items():
        fits = "fits, predicts" if built(name).outcome else "fits"
        lines.append(f"| {one.notebook} | {one.words} | {f'refused: “{one.refused}”' if one.refused else fits} |")
    return "\n".join(lines)
