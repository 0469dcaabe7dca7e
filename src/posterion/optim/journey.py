"""Where a fit by steps has got to, as one value: everything that the rest of the fit depends on.

A fit's numbers depend on its seed, the number of a step and the states alone (noise comes in numbered blocks, rows by
the number of the step, draws to compare on by their count). So a journey that is written down and read again goes on
to the very same bits as one that was never interrupted, wherever in a round that was.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import PyTree
from posterion.optim.comparing import Comparison


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    FIXED_STEPS = "fixed_steps"
    MAX_STEPS = "max_steps"
    DIVERGED = "diverged"
    NON_FINITE = "non_finite"
    INTERRUPTED = "interrupted"
    CALLBACK = "callback"
    MAX_SECONDS = "max_seconds"


class Stage(StrEnum):
    """What the present round is for."""

    TRYING = "trying"
    FITTING = "fitting"
    SETTLING = "settling"
    AVERAGING = "averaging"
    FIXED = "fixed"
    DONE = "done"


@dataclass(frozen=True)
class Journey:
    """Where a fit by steps has got to.

    Parameters
    ----------
    stage
        What the present round is for, or that the fit is done.
    state
        The algorithm's state now.
    before
        The state the present round began from: the best so far, which is kept if the round gains nothing.
    starts
        While starting points are tried: their states, those that have run replaced by what they led to.
    trails
        While starting points are tried: of each the (first, last) losses of its rounds.
    ended
        How the rounds of the starting points that have run ended: "" or "non_finite".
    round
        Rounds begun before this one; decides the seed of its noise.
    length, done
        Steps of the present round, and how many of them are taken.
    peak
        Largest step size of the present round.
    steps, skipped
        Steps taken in all, which is the position in the data, and those that changed nothing.
    losses
        Negative ELBO estimates of all of them, in nats.
    path
        Which of them led to ``before``: (first, last) of each round that counts; the present round comes after.
    limit
        Steps on the path at which rounds end although they still gain.
    windows
        While averages are taken: windows of the present length and step size behind this one.
    compared
        Sets of comparison draws used.
    comparisons
        One per round compared.
    status, sentence
        How it ended, once it is done.
    """

    stage: Stage
    state: PyTree
    before: PyTree
    length: int
    peak: float
    limit: int
    starts: tuple[PyTree, ...] = ()
    trails: tuple[tuple[tuple[int, int], ...], ...] = ()
    ended: tuple[str, ...] = ()
    round: int = 0
    done: int = 0
    steps: int = 0
    skipped: int = 0
    losses: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))
    path: tuple[tuple[int, int], ...] = ()
    windows: int = 0
    compared: int = 0
    comparisons: tuple[Comparison, ...] = ()
    status: Status | None = None
    sentence: str = ""

    @property
    def on_path(self) -> int:
        """Steps that led to ``before``."""
        return sum(last - first for first, last in self.path)

    @property
    def present(self) -> tuple[int, int]:
        """(first, last) of the present round's losses."""
        return self.steps - self.done, self.steps

    def path_losses(self, *, present: bool = False) -> np.ndarray:
        """Losses along the path, those of the present round with them if asked for."""
        pieces = [*self.path, *([self.present] if present else [])]
        return np.concatenate([np.empty(0), *(self.losses[first:last] for first, last in pieces)])

    def on_host(self) -> "Journey":
        """The same with its states as NumPy arrays, which take no memory of a device."""
        state, before = jax.device_get((self.state, self.before))
        before = state if self.before is self.state else before
        return dataclasses.replace(self, state=state, before=before, starts=tuple(jax.device_get(self.starts)))

    def next_round(self, stage: Stage, start: PyTree, length: int, peak: float, **changes: Any) -> "Journey":
        """The journey at the beginning of its next round."""
        new = {"stage": stage, "state": start, "before": start, "length": length, "peak": peak, "done": 0}
        return dataclasses.replace(self, round=self.round + 1, **{**new, **changes})

    def finish(self, state: PyTree, status: Status, sentence: str, **changes: Any) -> "Journey":
        """The journey at its end."""
        new = {"stage": Stage.DONE, "state": state, "before": state, "starts": (), "trails": (), "done": 0}
        return dataclasses.replace(self, status=status, sentence=sentence, **{**new, **changes})


_STATES = ("state", "before")
_ARRAYS = (*_STATES, "starts", "losses")


def write_down(journey: Journey) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The journey as named arrays, on the host, and plain values that JSON can hold."""
    states = {name: getattr(journey, name) for name in _STATES}
    states |= {f"start {k}": state for k, state in enumerate(journey.starts)}
    if states["before"] is states["state"]:
        del states["before"]
    arrays = {"losses": np.asarray(journey.losses)}
    for name, state in jax.device_get(states).items():
        arrays |= {f"{name}/{k}": _plain_array(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
    plain = {f.name: getattr(journey, f.name) for f in dataclasses.fields(journey) if f.name not in _ARRAYS}
    plain["comparisons"] = [dataclasses.asdict(c) for c in journey.comparisons]
    return arrays, plain | {"num_starts": len(journey.starts)}


def read_back(arrays: Mapping[str, np.ndarray], plain: Mapping[str, Any], like: PyTree) -> Journey:
    """The inverse of `write_down`.

    Parameters
    ----------
    arrays, plain
        What was written down.
    like
        A state of the same algorithm, or its shapes.

    Raises
    ------
    ValueError
        If a state does not have these shapes and types.
    """
    shapes, tree = jax.tree.flatten(like)

    def state(name: str) -> PyTree:
        leaves = [arrays.get(f"{name}/{k}") for k in range(len(shapes) + 1)]
        if leaves.pop() is not None:
            raise ValueError(f"the {name} holds more arrays than the {len(shapes)} that were expected")
        return jax.tree.unflatten(tree, [_leaf(name, *pair) for pair in zip(leaves, shapes, strict=True)])

    values = dict(plain)
    now = state("state")
    return Journey(
        state=now,
        before=state("before") if "before/0" in arrays else now,
        starts=tuple(state(f"start {k}") for k in range(values.pop("num_starts"))),
        losses=arrays["losses"],
        stage=Stage(values.pop("stage")),
        status=None if (status := values.pop("status")) is None else Status(status),
        ended=tuple(values.pop("ended")),
        trails=tuple(tuple((first, last) for first, last in trail) for trail in values.pop("trails")),
        path=tuple((first, last) for first, last in values.pop("path")),
        comparisons=tuple(Comparison(**c) for c in values.pop("comparisons")),
        **values,
    )


def _plain_array(leaf: Any) -> np.ndarray:
    """An array of a type every file format knows: keys as their words, short floats as the integers of their bits."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    leaf = np.asarray(leaf)
    return leaf.view(f"uint{8 * leaf.dtype.itemsize}") if leaf.dtype.kind == "V" else leaf


def _leaf(name: str, found: np.ndarray | None, expected: Any) -> Any:
    if found is None:
        raise ValueError(f"the {name} lacks an array of shape {expected.shape}")
    if jax.dtypes.issubdtype(expected.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(found))
    dtype = np.dtype(expected.dtype)
    if dtype.kind == "V" and found.dtype == np.dtype(f"uint{8 * dtype.itemsize}"):
        found = found.view(dtype)
    if found.shape != expected.shape or found.dtype != dtype:
        raise ValueError(
            f"the {name} has an array of shape {found.shape} and type {found.dtype} where shape {expected.shape} and "
            f"type {dtype} were expected"
        )
    return found
