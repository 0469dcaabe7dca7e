"""What the functions here ask of a prediction object, and how they get draws out of one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from posterion.errors import DataError, OptionError


@runtime_checkable
class AnyPrediction(Protocol):
    """What `posterion`'s predictions have: arrays by variable name, the first axis that of rows."""

    @property
    def names(self) -> Sequence[str]:
        """The variables predicted."""
        ...

    @property
    def mean(self) -> Mapping[str, np.ndarray]:
        """Predictive means; probabilities, for classes."""
        ...

    @property
    def std(self) -> Mapping[str, np.ndarray]:
        """Standard deviations of the outcome."""
        ...

    @property
    def aleatoric(self) -> Mapping[str, np.ndarray]:
        """What no data can remove; outcomes have it, deterministics do not."""
        ...

    @property
    def epistemic(self) -> Mapping[str, np.ndarray]:
        """What more data could remove."""
        ...

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of both: "variance" or "nats"."""
        ...

    def sample(self, draws: int | None = None, *, of: Any = "outcome") -> Mapping[str, np.ndarray]:
        """Draws of outcomes or of their conditional means, (draws, rows, ...)."""
        ...


def one_name(prediction: AnyPrediction, name: str | None) -> str:
    """The variable meant: the named one, or the only one that has noise of its own."""
    observed = [n for n in prediction.names if n in prediction.aleatoric] or list(prediction.names)
    if name is None:
        if len(observed) != 1:
            raise OptionError(f"several variables were predicted ({', '.join(observed)}); say which one: name=...")
        return observed[0]
    if name not in prediction.names:
        raise OptionError(f"no variable {name!r} was predicted; there are: {', '.join(prediction.names)}")
    return name


def mean_draws(predicted: Any, name: str | None = None) -> np.ndarray:
    """Draws of the conditional mean, (draws, rows, ...), of a prediction or as they are."""
    if isinstance(predicted, AnyPrediction):
        return np.asarray(predicted.sample(of="mean")[one_name(predicted, name)], np.float64)
    draws = np.asarray(predicted, np.float64)
    if draws.ndim < 2 or draws.size == 0:
        raise DataError(f"predictions must be draws shaped (draws, rows, ...) or prediction objects; got {draws.shape}")
    return draws
